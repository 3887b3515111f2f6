"""What the sidecar adds to requests, its own name, and the ids that it makes."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from sidecar.policy.breaker import NullBreaker
from sidecar.policy.settings import BreakerSettings, Policy, Timeouts
from sidecar.proxy.http1.request_head import parse_request
from sidecar.proxy.outgoing import LOOP, Outgoing
from sidecar.runtime.route import LiveRoute
from tests.proxy.fakes import World, request


def test_own_name_is_random_and_a_token() -> None:
    names = {Outgoing().loop_name for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(rb"sidecar-[0-9a-f]{12}", name) for name in names)


@pytest.mark.parametrize(("attempt_s", "told_ms"), [(1.2345, 1234), (0.0009, 1), (5.0, 5000)])
def test_a_first_attempt_is_told_its_whole_time(world: World, attempt_s: float, told_ms: int) -> None:
    outgoing = Outgoing()
    policy = Policy(timeout=Timeouts(attempt=attempt_s), via=True)
    route = LiveRoute("", None, policy, NullBreaker(BreakerSettings(mode="off"), 0.0))
    for by_path, prefix in ((True, b"/venue"), (False, None)):
        first = outgoing.first(route, world.service, by_path)
        assert (first.attempt, first.timeout_ms, first.prefix, first.via) == (1, told_ms, prefix, True)
        assert first.loop_name == outgoing.loop_name
        assert outgoing.first(route, world.service, by_path) is first


@pytest.mark.parametrize("field", ["x-sidecar-loop: {}", "Via: 1.1 {}"])
@pytest.mark.parametrize("times", range(LOOP + 2))
def test_our_own_name_three_times_is_a_loop(field: str, times: int) -> None:
    outgoing = Outgoing()
    fields = [field.format(outgoing.loop_name.decode())] * times
    assert outgoing.is_loop(parse_request(request("GET /", *fields))) == (times >= LOOP)


def test_another_s_name_is_none() -> None:
    assert not Outgoing().is_loop(parse_request(request("GET /", *["x-sidecar-loop: sidecar-000000000000"] * 9)))


def test_request_ids() -> None:
    outgoing = Outgoing()
    ids = {outgoing.new_request_id() for _ in range(200)}
    assert len(ids) == 200
    for one in ids:
        parsed = UUID(one.decode())
        assert str(parsed).encode() == one
        assert (parsed.version, parsed.variant) == (4, "specified in RFC 4122")
