"""What a configuration alone says of a request; held against the shape of the admin API's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.admin import answers
from sidecar.admin.explain import explain as explain_running
from sidecar.cli.offline_explain import explained
from sidecar.config.load import load_with_origins
from tests.admin.stage import Stage

TEXT = """\
services:
  venue:
    url: "http://venue-service:3002"
    hosts: [venue.example]
    timeout: {request: 10s}
    routes:
      - match: {path: /reports, methods: [POST]}
        timeout: {request: 60s}
aggregates: {page: {parts: {venue: {service: venue, path: "/venues/{query.id}"}}}}
"""


@pytest.fixture
def explain(tmp_path: Path) -> Any:
    path = tmp_path / "sidecar.yaml"
    path.write_text(TEXT)
    config, origins = load_with_origins(path, {})

    def ask(method: str, target: str, host: str | None = None) -> dict[str, Any]:
        answer = explained(config, origins, method, target, host)
        written = msgspec.to_builtins(msgspec.convert(answer, answers.Explanation))
        assert written.keys() == answer.keys()
        return answer

    return ask


@pytest.mark.parametrize(
    ("target", "host", "by", "upstream"),
    [
        ("/venue/events/42?x=1", None, "path", "/events/42?x=1"),
        ("/venue", "localhost:15001", "path", "/"),
        ("/events/42", "venue.example", "host", "/events/42"),
        ("http://venue-service:3002/events", None, "absolute", "/events"),
    ],
)
def test_the_three_ways_in(explain: Any, target: str, host: str | None, by: str, upstream: str) -> None:
    answer = explain("GET", target, host)
    assert (answer["service"], answer["by"], answer["upstream_target"]) == ("venue", by, upstream)
    assert answer["problem"] is None
    assert answer["policy"]["timeout"]["request"] == {"value": "10s", "origin": "service", "line": 5}


def test_a_target_that_is_not_ascii_is_refused_as_the_proxy_would(explain: Any) -> None:
    answer = explain("GET", "/venue/caf\xe9")
    assert answer["problem"]["status"] == 400
    assert "percent-encode it" in answer["words"][0]


TARGETS = [
    *("/venue/events/42?x=1", "/venue/reports/7", "/_aggregate/page?id=1", "/_aggregate/no", "/nobody", "/", "*"),
    *("http://venue-service:3002/x", "http://u@venue-service/x", "venue:80", "/venue#x", "/venue/a b", "/venue/\xe9"),
    *("/venue/\udcff", "/venue/\x00", "/venue\r\nX: y", "/venue/" + "x" * 16000, "/venue/" + "x" * 40000),
]


@pytest.mark.parametrize(
    "host", ["", "venue.example", "venue.example:80", "x" * 300, "a@b", "a:x", "a/", "a b", "a\r\nb"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT", "PURGE", "NONSENSE", "get", ""])
def test_the_running_one_says_the_same(method: str, host: str) -> None:
    stage = Stage(TEXT)
    for target in TARGETS:
        here = explained(stage.live.config, stage.origins, method, target, host)
        there = explain_running(stage, stage.view, stage.clock, method, target, host)
        told = msgspec.json.decode(msgspec.json.encode(there))
        for key in ("service", "route", "by", "upstream_target", "problem", "deadline_s", "policy"):
            assert here[key] == told[key], (key, target)


def test_an_aggregate(explain: Any) -> None:
    answer = explain("GET", "/_aggregate/page?id=1")
    assert (answer["by"], answer["service"], answer["problem"], answer["deadline_s"]) == ("aggregate", None, None, 2.0)
    assert "'page'" in answer["words"][0]
    assert explain("GET", "/_aggregate/other")["problem"]["status"] == 404
    answer = explain("POST", "/_aggregate/page?id=1")
    assert (answer["by"], answer["problem"]["status"]) == (None, 405)


def test_a_name_that_is_nearly_one(explain: Any) -> None:
    assert "Did you mean 'venue'?" in explain("GET", "/vanue/x")["words"]


def test_a_route_with_its_own_policy(explain: Any) -> None:
    answer = explain("POST", "/venue/reports/7")
    assert answer["route"] == "POST /reports"
    assert answer["deadline_s"] == 60.0
    assert answer["policy"]["timeout"]["request"] == {"value": "1m", "origin": "route", "line": 8}
    assert explain("GET", "/venue/reports/7")["route"] == ""


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [("/nobody", 404, "unknown_service"), ("/", 404, "unknown_service"), ("x", 400, "bad_request")],
)
def test_what_no_service_gets(explain: Any, target: str, status: int, reason: str) -> None:
    answer = explain("GET", target)
    assert answer["service"] is None
    assert (answer["problem"]["status"], answer["problem"]["reason"]) == (status, reason)
    assert answer["words"]
