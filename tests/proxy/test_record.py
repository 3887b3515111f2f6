"""What is recorded of requests: counts, the last failure, lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from sidecar.proxy.h2.request import read_request
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import Attempt, Problem
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


# Calls of gRPC.


def grpc_head(path: bytes = b"/shop.v1.Venue/Get") -> RequestHead:
    pseudo = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"venue")]
    return read_request([*pseudo, (b"content-type", b"application/grpc+proto")], ended=False)


def ended(world: World, reason: str, status: int = -1, message: bytes = b"", detail: str = "") -> None:
    """A call of gRPC to the service venue has ended."""
    service = world.service
    attempts = (Attempt("10.0.0.7:50051", reason, 200, 1.5),)
    world.core.recorder.request(
        service, service.default_route, grpc_head(), b"id-1", attempts, 200, reason, detail, 0.1,
        0.0, 0.0, 10, 20, "", status, message,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "status", "counted"),
    [
        ("ok", 0, 0),
        ("ok", 5, 5),
        ("status", 14, 14),
        ("no_endpoint", -1, 14),
        ("request_timeout", -1, 4),
        ("client_disconnect", -1, 1),
        ("truncated", 8, 8),
        ("ok", -1, 2),
    ],
)
def test_a_call_of_grpc_is_counted_by_its_status(world: World, reason: str, status: int, counted: int) -> None:
    ended(world, reason, status)
    assert world.service.counters.grpc == {("", counted): 1}
    assert world.service.counters.requests == {(200, reason): 1}


def test_other_requests_are_no_calls_of_grpc(world: World) -> None:
    world.asks()
    world.upstream.says(ok())
    assert world.service.counters.grpc == {}


def test_the_last_failure_says_what_the_endpoint_said(world: World) -> None:
    ended(world, "status", 14, b"no%20room%0Aleft")
    kept = world.service.last_failure
    assert kept is not None
    assert (kept.reason, kept.detail) == ("status", "10.0.0.7:50051 answered 14 UNAVAILABLE: no room left")
    ended(world, "status", 13)
    assert world.service.last_failure is not None
    assert world.service.last_failure.detail == "10.0.0.7:50051 answered 13 INTERNAL"
    ended(world, "ok", 5, b"no such venue")
    assert world.service.last_failure.detail.endswith("INTERNAL")


def test_a_long_message_is_cut(world: World) -> None:
    ended(world, "status", 14, b"x" * 100_000)
    assert world.service.last_failure is not None
    assert len(world.service.last_failure.detail) <= 200


def test_the_access_log_has_method_and_status(make_world: Callable[..., World]) -> None:
    world = make_world(access="all")
    ended(world, "ok", 0)
    ended(world, "status", 14, b"busy")
    ended(world, "attempt_timeout", detail="no answer")
    world.asks()
    world.upstream.says(ok())
    world.pass_time(1)
    assert [(one["target"], one.get("grpc_status"), one.get("detail")) for one in world.lines] == [
        ("/shop.v1.Venue/Get", "OK", None),
        ("/shop.v1.Venue/Get", "UNAVAILABLE", "10.0.0.7:50051 answered 14 UNAVAILABLE: busy"),
        ("/shop.v1.Venue/Get", "DEADLINE_EXCEEDED", "no answer"),
        ("/venue/", None, None),
    ]


def test_a_call_of_grpc_that_reached_no_service(make_world: Callable[..., World]) -> None:
    world = make_world(access="errors")
    problem = Problem(status=501, reason="bad_request", detail="x", request_id="id", grpc_status=12)
    world.core.recorder.refused(problem, grpc_head())
    world.core.recorder.refused(problem, None)
    world.pass_time(1)
    assert world.live.unrouted.grpc == {("", 12): 1}
    assert [line.get("grpc_status") for line in world.lines] == ["UNIMPLEMENTED", None]
