"""What becomes of a head, both ways: what is removed, kept, added and put right."""

from __future__ import annotations

import re

import pytest

from tests.support.rig import Rig
from tests.support.steps import answer, raw
from tests.support.upstream import Received, Upstream


def received(rig: Rig, *headers: tuple[str, str], method: str = "GET", body: bytes | None = None) -> Received:
    """What the upstream got of a request to /venue/ with these headers."""
    response = rig.ask(method, "/venue/", headers, body)
    assert response.status == 200, response
    return rig["venue"].last


@pytest.mark.parametrize(
    "header",
    [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic abc"),
        ("Upgrade", "h2c"),
        ("TE", "gzip"),
        ("X-Mine", "1"),
        ("x-other", "2"),
    ],
)
def test_hop_by_hop_headers_stay_here(rig: Rig, venue: Upstream, header: tuple[str, str]) -> None:
    request = received(
        rig, ("Connection", "keep-alive, X-Mine"), ("connection", "X-OTHER,upgrade , te"), header, ("X-A", "b")
    )
    assert request.all(header[0]) == []
    assert request.get("x-a") == "b"
    assert set(request.all("connection")) <= {"keep-alive"}


def test_hop_by_hop_headers_of_an_answer_stay_here(rig: Rig, venue: Upstream) -> None:
    headers = [
        ("Connection", "X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
        ("X-A", "b"),
    ]
    venue.play(answer(headers=headers))
    response = rig.ask("GET", "/venue/")
    for name in ("connection", "x-mine", "keep-alive", "proxy-connection"):
        assert response.all(name) == []
    assert response.get("x-a") == "b"


def test_names_values_and_order_are_kept(rig: Rig, venue: Upstream) -> None:
    headers = [
        ("x-lower", "1"),
        ("X-UPPER-CASE", "two words,  two spaces"),
        ("Cookie", "a=b; c=d"),
        ("x-Twice", "first"),
        ("Accept", "*/*"),
        ("X-tWICE", "second"),
        ("X-Empty", ""),
        ("X-Latin", "caf\xe9 \xff"),
        ("X-Punctuation", 'quoted "string", <angle>; q=0.5'),
        ("!#$%&'*+-.^_`|~", "a token of every kind"),
        ("Authorization", "Bearer x"),
    ]
    names = {name for name, _ in headers}
    assert [pair for pair in received(rig, *headers).headers if pair[0] in names] == headers

    venue.play(answer(headers=[*headers, ("Set-Cookie", "a"), ("Set-Cookie", "b")]))
    response = rig.ask("GET", "/venue/")
    assert [pair for pair in response.headers if pair[0] in names] == headers
    assert response.all("set-cookie") == ["a", "b"]


def test_only_we_say_what_we_refused(rig: Rig, venue: Upstream) -> None:
    """`x-sidecar-reason` tells our own answers from the service's: one from upstream would lie."""
    venue.play(answer(503, headers=[("X-Sidecar-Reason", "circuit_open")]))
    response = rig.ask("POST", "/venue/", body=b"x")
    assert (response.status, response.reason, response.body) == (503, None, b"ok")


def test_phrase_and_unusual_status_pass(rig: Rig, venue: Upstream) -> None:
    venue.play(raw(b"HTTP/1.1 299 Rather Good\r\nContent-Length: 0\r\n\r\n"))
    response = rig.ask("GET", "/venue/")
    assert (response.status, response.phrase) == (299, "Rather Good")
    venue.play(raw(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"))
    assert rig.ask("GET", "/venue/").status == 200


def test_host_is_the_endpoint(rig: Rig, venue: Upstream) -> None:
    assert received(rig).get("host") == venue.authority


@pytest.mark.parametrize("host", ["localhost:1234", "Keeping-Service", "tenant.example.org"])
def test_preserve_host(rig: Rig, host: str) -> None:
    upstream = rig["keeping"].play(answer())
    assert rig.ask("GET", "/keeping/", host=host).status == 200
    assert upstream.last.get("host") == host


def test_our_name_joins_the_loop_header(rig: Rig, venue: Upstream) -> None:
    (ours,) = received(rig).all("x-sidecar-loop")
    assert re.fullmatch(r"sidecar-[0-9a-f]{12}", ours)
    joined = ", ".join(received(rig, ("X-Sidecar-Loop", "sidecar-a, sidecar-b")).all("x-sidecar-loop"))
    assert joined == f"sidecar-a, sidecar-b, {ours}"
    assert received(rig, ("Via", "1.0 fred, 1.1 p.example.net")).all("via") == ["1.0 fred, 1.1 p.example.net"]


def test_a_loop_ends_at_the_third_return(rig: Rig) -> None:
    """A service that is the proxy itself: nothing goes round for ever."""
    changes = rig.changes()
    response = rig.ask("GET", "/loop/loop/loop/loop/loop/loop/x")
    assert response.status == 508
    gain = changes.now()
    assert gain("sidecar_requests_total", reason="loop") == 1
    assert gain("sidecar_requests_total") <= 4


def test_request_id_is_made_or_passed(rig: Rig, venue: Upstream) -> None:
    made = {received(rig).get("x-request-id") for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch(r"[0-9A-Za-z-]{16,64}", one or "") for one in made)
    assert received(rig, ("x-request-ID", "mine/1")).get("x-request-id") == "mine/1"


def test_trace_context_passes_and_none_is_made(rig: Rig, venue: Upstream) -> None:
    assert received(rig).get("traceparent") is None
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = received(rig, ("traceparent", theirs), ("tracestate", "a=b"))
    assert request.get("traceparent") == theirs
    assert request.get("tracestate") == "a=b"


def test_attempt_count_is_ours(rig: Rig, venue: Upstream) -> None:
    assert received(rig).get("x-envoy-attempt-count") == "1"
    assert received(rig, ("X-Envoy-Attempt-Count", "7")).get("x-envoy-attempt-count") == "1"


def test_forwarded_prefix_is_ours(rig: Rig, venue: Upstream) -> None:
    assert received(rig, ("X-Forwarded-Prefix", "/evil")).all("x-forwarded-prefix")[-1] == "/venue"


@pytest.mark.parametrize(
    ("header", "sent", "lowest", "highest"),
    [
        (None, "", 3000, 8000),
        ("x-envoy-upstream-rq-timeout-ms", "1500", 500, 1500),
        ("X-Envoy-Expected-Rq-Timeout-Ms", "1500", 500, 1500),
        ("x-envoy-upstream-rq-timeout-ms", "60000", 3000, 8000),
        ("x-envoy-expected-rq-timeout-ms", "60000", 3000, 8000),
        ("x-envoy-upstream-rq-timeout-ms", "soon", 3000, 8000),
        ("x-envoy-upstream-rq-timeout-ms", "-5", 3000, 8000),
    ],
)
def test_upstream_is_told_the_remaining_time(
    rig: Rig, venue: Upstream, header: str | None, sent: str, lowest: int, highest: int
) -> None:
    """The app's own deadline only shortens."""
    request = received(rig, *([(header, sent)] if header else []))
    assert lowest < int(request.get("x-envoy-expected-rq-timeout-ms") or "") <= highest


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/events/43?x#y", "/venue/events/43?x#y"),
        ("/", "/venue/"),
        ("/venue/x", "/venue/x"),
        ("//elsewhere/x", "//elsewhere/x"),
        ("events/43", "events/43"),
        ("?page=2", "?page=2"),
        ("https://example.org/x", "https://example.org/x"),
        ("http://venue-service.example.org/x", "http://venue-service.example.org/x"),
    ],
)
def test_location_by_path(rig: Rig, venue: Upstream, location: str, expected: str) -> None:
    venue.play(answer(302, headers=[("Location", location)]))
    assert rig.ask("GET", "/venue/").get("location") == expected


@pytest.mark.parametrize("authority", ["{authority}", "venue-service", "venue-service:{port}"])
def test_location_that_names_the_service(rig: Rig, venue: Upstream, authority: str) -> None:
    """The app can only follow it through the proxy."""
    venue.play(
        answer(
            201, headers=[("Location", f"http://{authority}/x?y".format(authority=venue.authority, port=venue.port))]
        )
    )
    location = rig.ask("GET", "/venue/", host=f"localhost:{rig.ports.proxy}").get("location")
    assert location in ("/venue/x?y", f"http://localhost:{rig.ports.proxy}/venue/x?y")


def test_location_by_host_is_kept(rig: Rig, venue: Upstream) -> None:
    for location in ("/events/43", f"http://{venue.authority}/x", "http://venue-service/x"):
        venue.play(answer(302, headers=[("Location", location)]))
        assert rig.ask("GET", "/x", host="venue-service").get("location") == location
