"""What the sidecar let come to no fake: counted from metrics, told from log lines."""

from __future__ import annotations

import json

from sidecar.testing import strays
from sidecar.testing.strays import Stray, counted, logged, told

METRICS = """\
# TYPE sidecar_requests_total counter
sidecar_requests_total{service="",code="404",reason="unknown_service"} 3
sidecar_requests_total{service="",code="400",reason="bad_request"} 2.0
sidecar_requests_total{service="",code="408",reason="bad_request"} 7
sidecar_requests_total{service="venue",code="413",reason="bad_request"} 1
sidecar_requests_total{service="venue",code="404",reason="ok"} 9
sidecar_requests_created{service="",code="404",reason="unknown_service"} 1.7e9
"""


def a_line(**members: object) -> str:
    said = {
        "time": "2026-11-23T01:02:03.456Z",
        "event": "request",
        "service": "",
        "method": "POST",
        "target": "/payment/charges",
        "status": 404,
        "reason": "unknown_service",
        "detail": "no service of that name is configured",
    }
    return json.dumps(said | members, separators=(",", ":"))


def test_those_are_counted_that_came_to_no_fake() -> None:
    assert counted(METRICS) == 6
    assert counted("") == 0


def test_they_are_found_in_the_log() -> None:
    (stray,) = logged([a_line()])
    assert stray == Stray("POST", "/payment/charges", 404, "unknown_service", "no service of that name is configured")
    assert (stray.service, stray.path) == ("payment", "/charges")


def test_other_lines_are_passed_over() -> None:
    lines = [
        a_line(reason="ok", status=404),
        a_line(reason="bad_request", status=408),
        a_line(event="unknown_service"),
        '"unknown_service" {',
        '["unknown_service"]',
        '{"reason":"unknown_service","event":"request"}',
        "Traceback",
    ]
    assert logged(lines) == []


def test_a_service_is_named_by_the_path_alone() -> None:
    def service(**members: object) -> str:
        return logged([a_line(**members)])[0].service

    assert service(target="/payment") == "payment"
    assert service(target="/") == ""
    assert service(target="/_aggregate/page") == ""
    assert service(reason="bad_request", status=400) == ""
    line = json.loads(a_line())
    del line["target"]
    assert logged([json.dumps(line)])[0].service == ""
    assert logged([a_line(target="/payment")])[0].path == "/"


def test_each_is_told_once_in_words() -> None:
    unknown, absolute, malformed = logged(
        [
            a_line(),
            a_line(target="", detail="no service has the target's authority; the sidecar is not an open proxy"),
            a_line(method="", target="", status=400, reason="bad_request", detail="no request line"),
        ]
    )
    allow = "  if the app is supposed to do that: fake.allow_unknown()"
    assert told([unknown, unknown, absolute, malformed], lambda stray: f"script {stray.service}") == [
        "script payment\n  (this happened 2 times)",
        f"the sidecar refused POST: 404 unknown_service, {absolute.detail}\n{allow}",
        f"the sidecar refused what the app sent: 400 bad_request, no request line\n{allow}",
    ]


def test_a_call_of_grpc_names_no_service_by_its_path() -> None:
    line = json.loads(a_line(target="/shop.v1.Venue/Get", detail="no service claims shop.v1.Venue"))
    (stray,) = logged([json.dumps(line | {"grpc_status": "UNIMPLEMENTED"})])
    assert stray.grpc
    assert stray.service == ""
    (words,) = told([stray], lambda stray: stray.service)
    assert words.startswith("the app called gRPC /shop.v1.Venue/Get, and no fake has scripted it: no service claims")
    assert 'fake.NAME.grpc("/shop.v1.Venue/Get").then(b"...")' in words


def test_what_is_told_is_bounded() -> None:
    many = [logged([a_line(target=f"/s{number}/")])[0] for number in range(strays.MAX_TOLD + 3)]
    words = told(many, lambda stray: stray.service)
    assert len(words) == strays.MAX_TOLD + 1
    assert words[-1] == "and 3 other requests that the sidecar refused"
