"""`sidecar explain`: what a running sidecar says, shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import fine, sidecar
from tests.cli.fake_admin import BREAKER_DETAIL, FakeAdmin, explanation


def test_the_story_the_facts_and_the_policy() -> None:
    with FakeAdmin() as admin:
        said = fine(sidecar("explain", "GET", "/venue/events/42", "--host", "venue-service", admin=admin))
        assert admin.asked[0].query == {"method": "GET", "target": "/venue/events/42", "host": "venue-service"}
    assert said.splitlines() == [
        "The path names venue.",
        "",
        "service          venue, found by path",
        "route            none: the service's own policy",
        "upstream target  /events/42",
        "deadline         15s",
        "breaker          closed, admits it",
        "balancer         round_robin, picks 10.0.0.7:3002",
        "  endpoint       10.0.0.7:3002: its turn",
        "",
        "policy              set by            value",
        "timeout.attempt     service, line 12  2s",
        "timeout.request     default           15s",
        "retry.on            default           [reset, 503]",
        "retry.budget.ratio  default           0.2",
        "preserve_host       default           false",
    ]


def test_what_would_be_refused() -> None:
    breaker = {**BREAKER_DETAIL, "state": "open", "route": "", "would": "refuse", "retry_after_s": 12.0}
    answer = explanation(breaker=breaker, route="POST /reports", fallback=["stale 5m"], deadline_s=0.25)
    with FakeAdmin({"GET /explain": answer}) as admin:
        lines = fine(sidecar("explain", "POST", "/venue/reports", admin=admin)).splitlines()
    assert "breaker          open, refuses it for 12s" in lines
    assert "route            POST /reports" in lines
    assert "fallback         stale 5m" in lines
    assert "deadline         250 ms" in lines


def test_no_service_is_a_problem_in_words_and_nothing_else() -> None:
    nothing = dict.fromkeys(explanation())
    problem = {"status": 404, "reason": "unknown_service", "detail": "no service of that name is configured"}
    answer = nothing | {"problem": problem, "words": ["The app would get 404."], "fallback": []}
    with FakeAdmin({"GET /explain": answer}) as admin:
        assert fine(sidecar("explain", "GET", "/nobody", admin=admin)) == "The app would get 404.\n"
        assert json.loads(fine(sidecar("explain", "GET", "/nobody", "--json", admin=admin))) == answer


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [("get", "/venue", "upper case"), ("GET", "/a b", "request line"), ("GET", "", "request line")],
)
def test_what_can_be_no_request_is_wrong_usage(method: str, target: str, message: str) -> None:
    result = sidecar("explain", method, target)
    assert result.exit_code == 2
    assert message in result.stderr


def test_by_a_file_alone_nothing_is_called(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text('services: {venue: {url: "http://venue", timeout: {attempt: 2s}}}')
    with FakeAdmin() as admin:
        said = fine(sidecar("explain", "GET", "/venue/x", "--config", str(path), admin=admin))
        assert admin.asked == []
    assert "upstream target  /x" in said
    assert "timeout.attempt                     service, line 1  2s" in said
