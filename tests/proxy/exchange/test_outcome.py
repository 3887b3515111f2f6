"""A call's permits go back once, and its breaker hears one outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.settings import BreakerSettings, Limits, Policy
from sidecar.policy.verdict import FAILURE, IGNORED, SUCCESS
from sidecar.proxy.body_sink import ByteBudget
from sidecar.proxy.downstream.handler import Handler
from sidecar.proxy.exchange.inner_call import InnerCall
from sidecar.proxy.exchange.outcome import Outcome
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.http1.request_head import parse_request
from tests.proxy.fakes import World

STREAM = InnerCall(cast(Any, None), None, ByteBudget(0), lambda _: None)
HANDLER = Handler()
PROBED = Policy(breaker=BreakerSettings(volume_threshold=1, reset_timeout=1.0), limits=Limits(max_concurrent=1))


def outcome_of(world: World, *, entered: bool = True, hurried: bool = False) -> Outcome:
    request = Request(parse_request(b"GET / HTTP/1.1\r\nHost: venue\r\n\r\n"), None, STREAM, HANDLER, b"id", 0.0, True)
    outcome = Outcome(request, world.service, world.service.default_route, hurried)
    outcome.attempt(world.service.endpoints[0], world.loop.now)
    if entered:
        assert outcome.enter()
        assert outcome.admit(world.loop.now)
    return outcome


def judge(world: World, outcome: Outcome, verdict: int, reason: str = "reset") -> None:
    outcome.judge(verdict, reason, world.loop.now)


def test_what_was_refused_gives_back_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(PROBED)
    first = outcome_of(world)
    second = outcome_of(world, entered=False)
    assert not second.enter()
    second.close(world.loop.now)
    assert world.service.limit.in_flight == 1
    first.close(world.loop.now)
    first.close(world.loop.now)
    assert (world.service.limit.in_flight, world.breaker()) == (0, (0, 0))


def test_an_attempt_has_one_verdict_and_the_last_one_counts(world: World) -> None:
    outcome = outcome_of(world)
    judge(world, outcome, FAILURE)
    judge(world, outcome, SUCCESS)
    assert outcome.verdict == FAILURE
    outcome.attempt(world.service.endpoints[0], world.loop.now)
    judge(world, outcome, IGNORED)
    assert outcome.verdict == FAILURE
    outcome.settle(world.loop.now)
    outcome.close(world.loop.now)
    assert world.breaker() == (0, 1)


def test_an_answer_makes_good_what_failed_before(world: World) -> None:
    outcome = outcome_of(world)
    judge(world, outcome, FAILURE)
    outcome.made_good()
    outcome.succeeded(world.loop.now)
    outcome.failed(world.loop.now)
    outcome.close(world.loop.now)
    assert world.breaker() == (1, 0)


def test_an_impatient_app_s_probe_makes_the_next_one_wait(make_world: Callable[..., World]) -> None:
    world = make_world(PROBED)
    failed = outcome_of(world)
    judge(world, failed, FAILURE)
    failed.close(world.loop.now)
    world.pass_time(1.1)
    probe = outcome_of(world, hurried=True)
    assert probe.is_probe()
    assert not probe.may_retry()
    probe.note("request_timeout", None)
    probe.close(world.loop.now)
    refused = outcome_of(world, entered=False)
    assert refused.enter()
    assert not refused.admit(world.loop.now)
    refused.close(world.loop.now)
    world.pass_time(1.0)
    last = outcome_of(world)
    assert last.is_probe()
    last.close(world.loop.now)


STEPS = ["enter", "admit", "success", "failure", "judge bad", "judge good", "settle", "close", "make room"]


@given(st.lists(st.sampled_from(STEPS), max_size=12))
def test_whatever_happens_all_permits_are_back_and_one_outcome_is_told(steps: list[str]) -> None:
    with World(PROBED) as world:
        outcome, now = outcome_of(world, entered=False), world.loop.now
        entered = admitted = False
        for step in steps:
            if step == "enter" and not entered:
                entered = outcome.enter()
            elif step == "admit" and entered and not admitted:
                admitted = outcome.admit(now)
            elif step == "success" and admitted:
                outcome.succeeded(now)
            elif step == "failure" and admitted:
                outcome.failed(now)
            elif step.startswith("judge") and admitted:
                judge(world, outcome, FAILURE if step == "judge bad" else SUCCESS)
                outcome.attempt(world.service.endpoints[0], now)
            elif step == "settle":
                outcome.settle(now)
            elif step == "close":
                outcome.close(now)
            elif step == "make room" and admitted and not outcome.told:
                outcome.make_room()
        outcome.close(now)
        assert world.service.limit.in_flight == 0
        assert sum(world.breaker()) <= 1


@pytest.mark.parametrize("failed", [True, False])
def test_an_ejection_that_has_dealt_with_it_leaves_the_breaker_out(world: World, failed: bool) -> None:
    outcome = outcome_of(world)
    endpoint = world.service.endpoints[0]
    endpoint.ejected = failed
    outcome.breaker.forgiven_at = world.loop.now
    judge(world, outcome, FAILURE)
    endpoint.ejected = False
    outcome.close(world.loop.now)
    assert world.breaker() == (0, 0 if failed else 1)


@pytest.mark.parametrize("grpc", [False, True])
def test_who_leaves_a_grpc_call_says_nothing_of_a_service_that_has_no_time_limit(world: World, grpc: bool) -> None:
    outcome = outcome_of(world)
    outcome.forgives_leaving = grpc
    outcome.started -= 3600
    outcome.note("client_disconnect", None)
    outcome.close(world.loop.now)
    assert world.breaker() == (0, 0 if grpc else 1)
