"""Whether there is another attempt: what was never seen moves on, and a service may say when to come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest

from sidecar.policy.settings import BudgetSettings, Policy, RetrySettings
from sidecar.proxy.body_sink import ByteBudget
from sidecar.proxy.downstream.handler import Handler
from sidecar.proxy.exchange.clock import Clock
from sidecar.proxy.exchange.inner_call import InnerCall
from sidecar.proxy.exchange.outcome import Outcome
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.exchange.retrying import MOST_UNSEEN, Retrying
from sidecar.proxy.h2.response import read_response
from sidecar.proxy.http1.request_head import parse_request
from sidecar.runtime.endpoint import Endpoint
from tests.proxy.fakes import World

PLENTY = Policy(retry=RetrySettings(max_retries=9, budget=BudgetSettings(ratio=10.0, min_per_second=100.0)))


OPEN: list[Outcome] = []


@pytest.fixture(autouse=True)
def permits_go_back(make_world: Callable[..., World]) -> Iterator[None]:
    """Before the world is held against what is open."""
    yield
    while OPEN:
        OPEN.pop().close(0.0)


def retrying(world: World, *lines: bytes, grpc: bool = False) -> Retrying:
    head = parse_request(b"\r\n".join([b"GET / HTTP/1.1", b"Host: venue", *lines, b"", b""]))
    stream = InnerCall(world.core, None, ByteBudget(0), lambda _: None)
    route = world.service.default_route
    if grpc:
        route = route.for_grpc()
        route.retry_statuses = frozenset({14})
    request = Request(head, None, stream, Handler(), b"id", world.loop.now, True)
    outcome = Outcome(request, world.service, route, False)
    assert outcome.enter()
    assert outcome.admit(world.loop.now)
    outcome.attempt(world.service.endpoints[0], world.loop.now)
    clock = Clock(request, route, outcome, 15.0, "timeout.request")
    clock.begin(world.loop.now)
    OPEN.append(outcome)
    return Retrying(world.core, request, world.service, route, outcome, clock)


def plan(
    world: World, one: Retrying, reason: str, *, status: int = 0, unseen: bool = False, pushback: bytes | None = None
) -> tuple[float | None, Endpoint | None]:
    fields = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % status)]
    if pushback is not None:
        fields.append((b"grpc-retry-pushback-ms", pushback))
    response = read_response(fields, method="POST", ended=True) if reason in ("ok", "status") else None
    tried = (world.service.endpoints[0],)
    return one.plan(reason, status, response, world.loop.now, cast(tuple[Endpoint, ...], tried), None, unseen=unseen)


def test_only_what_retry_on_names(make_world: Callable[..., World]) -> None:
    world = make_world(PLENTY)
    assert plan(world, retrying(world), "reset")[0] is not None
    assert plan(world, retrying(world), "bad_response") == (None, None)


def test_what_was_not_seen_is_sent_again_at_once_but_not_for_ever(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(retry=RetrySettings(max_retries=0)))
    one = retrying(world)
    for _ in range(MOST_UNSEEN):
        assert plan(world, one, "reset", unseen=True)[0] == 0.0
    assert plan(world, one, "reset", unseen=True) == (None, None)


def test_a_caller_that_retries_itself(make_world: Callable[..., World]) -> None:
    world = make_world(PLENTY)
    assert plan(world, retrying(world, b"x-envoy-attempt-count: 2"), "reset") == (None, None)


@pytest.mark.parametrize(("status", "again"), [(14, True), (13, False), (0, False)])
def test_statuses_of_grpc(make_world: Callable[..., World], status: int, again: bool) -> None:
    world = make_world(PLENTY)
    found = plan(world, retrying(world, grpc=True), "status" if status else "ok", status=status)
    assert (found[0] is not None) is again


def test_a_status_of_grpc_means_nothing_to_http(make_world: Callable[..., World]) -> None:
    world = make_world(PLENTY)
    assert plan(world, retrying(world), "status", status=14) == (None, None)


@pytest.mark.parametrize(("pushback", "at_least"), [(b"500", 0.5), (b"0", 0.0), (b"-1", None), (b"soon", None)])
def test_pushback(make_world: Callable[..., World], pushback: bytes, at_least: float | None) -> None:
    world = make_world(PLENTY)
    delay, _ = plan(world, retrying(world, grpc=True), "status", status=14, pushback=pushback)
    if at_least is None:
        assert delay is None
    else:
        assert delay is not None
        assert at_least <= delay <= at_least + 0.25
