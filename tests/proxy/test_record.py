"""What is recorded of requests: counts, the last failure, lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from sidecar.proxy.problem import Problem
from tests.proxy.fakes import World, ok


def test_request_is_recorded_with_its_time(world: World) -> None:
    world.asks()
    world.pass_time(0.3)
    world.upstream.says(ok())
    assert world.reasons() == {(200, "ok"): 1}
    assert world.service.counters.durations.total_s == pytest.approx(0.3)


def test_the_last_failure_is_kept_and_neither_a_good_answer_nor_the_app_s_leaving_changes_it(world: World) -> None:
    world.asks()
    world.upstream.says(ok())
    world.asks().leaves()
    assert world.service.last_failure is None
    world.asks()
    world.upstream.says(ok(status="500 Internal Server Error"))
    kept = world.service.last_failure
    assert kept is not None
    assert (kept.at, kept.reason) == (world.core.loop.time(), "status")
    assert kept.detail.endswith(":3002 answered 500")
    world.asks()
    world.upstream.says(ok())
    assert world.service.last_failure is kept


@pytest.mark.parametrize(("access", "lines"), [("off", 0), ("errors", 1), ("all", 2)])
def test_access_log_says_what_is_wanted(make_world: Callable[..., World], access: str, lines: int) -> None:
    world = make_world(access=access)
    world.asks("GET /venue/a?secret=1").leaves()
    world.asks()
    world.upstream.says(ok())
    world.pass_time(1)
    assert len(world.lines) == lines
    if lines:
        left = world.lines[0]
        assert (left["status"], left["reason"], left["target"]) == (499, "client_disconnect", "/venue/a")
        assert [one["reason"] for one in left["attempts"]] == ["client_disconnect"]


def test_what_reached_no_service_is_recorded_apart(make_world: Callable[..., World]) -> None:
    world = make_world(access="errors")
    world.core.recorder.refused(Problem(status=404, reason="unknown_service", detail="x", request_id="id"), None)
    world.pass_time(1)
    assert world.live.unrouted.requests == {(404, "unknown_service"): 1}
    assert [(line["status"], line["request_id"]) for line in world.lines] == [(404, "id")]


def test_crash_is_logged_with_its_request(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        world.core.recorder.crashed("venue", b"the-id", ValueError("of ours"))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.__dict__["fields"] == {"service": "venue", "request_id": "the-id"}
