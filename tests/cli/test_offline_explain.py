"""What a configuration alone says of a request; held against the shape of the admin API's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.admin import answers
from sidecar.cli.offline_explain import explained
from sidecar.config.load import load_with_origins

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


def test_a_target_that_is_not_ascii_is_percent_encoded(explain: Any) -> None:
    assert explain("GET", "/venue/caf\xe9")["upstream_target"] == "/caf%C3%A9"


def test_an_aggregate(explain: Any) -> None:
    answer = explain("GET", "/_aggregate/page?id=1")
    assert (answer["by"], answer["service"], answer["problem"], answer["deadline_s"]) == ("aggregate", None, None, 2.0)
    assert "'page'" in answer["words"][0]
    assert explain("GET", "/_aggregate/other")["problem"]["status"] == 404


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
