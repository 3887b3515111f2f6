"""Whose turn it is: the order in which a service's endpoints are picked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.settings import (
    HashSettings,
    Policy,
)
from sidecar.runtime.endpoint import Endpoint
from tests.runtime.services import (
    START,
    addresses,
    at,
    firsts,
    live,
    picks,
    refuse,
    service_with,
)


def test_requests_take_turns() -> None:
    assert firsts(live("a", "b", "c"), 7) == "a b c a b c a"


@pytest.mark.parametrize(("random", "first"), [(0.0, "a"), (0.34, "b"), (0.67, "c"), (0.999999, "c")])
def test_the_first_turn_starts_at_random(random: float, first: str) -> None:
    assert firsts(live("a", "b", "c", random=random), 1) == first


def test_weights_are_shares() -> None:
    assert firsts(live("a", "b", weights=[3, 1]), 8) == "a a b a a a b a"
    assert Counter(firsts(live("a", "b", weights=[3, 1]), 400).split()) == {"a": 300, "b": 100}


def test_without_endpoints_none_is_picked() -> None:
    service = live()
    assert service.pick(START, ()) is None
    assert service.pick_untried(START, ()) is None


def test_a_single_endpoint_gets_every_attempt() -> None:
    service = live("a")
    (a,) = service.endpoints
    assert service.pick(START, ()) is service.pick(START, (a,)) is service.pick(START, (a, a)) is a
    assert service.pick_untried(START, (a,)) is None


def test_a_retry_goes_to_an_untried_endpoint() -> None:
    service = live("a", "b", "c")
    a, b, c = service.endpoints
    for _ in range(3):
        assert service.pick(START, (a, b)) is c
        assert service.pick(START, (c, a)) is b
    assert {service.pick(START, (a,)) for _ in range(4)} == {b, c}


def test_when_all_are_tried_any_endpoint_may_be_picked() -> None:
    service = live("a", "b")
    assert Counter(service.pick(START, service.endpoints) for _ in range(4)) == dict.fromkeys(service.endpoints, 2)


def test_retries_do_not_move_the_turn_of_first_attempts() -> None:
    service = live("a", "b")
    a, b = service.endpoints
    picked = []
    for _ in range(6):
        first = service.pick(START, ())
        assert first is not None
        picked.append(first)
        if first is a:  # which fails each request, so each of them is retried, once
            assert service.pick(START, (a,)) is b
    assert addresses(picked) == "a b a b a b"
    service.pick_untried(START, (a,))
    assert firsts(service, 2) == "a b"


def test_retries_take_turns_too() -> None:
    service = live("a", "b", "c")
    (a,) = at(service, "a")
    assert addresses([service.pick(START, (a,)) for _ in range(4)]) == "b c b c"


def test_slots_of_a_skipped_endpoint_do_not_go_to_its_neighbour() -> None:
    service = live("a", "b", "c")
    refuse(service, "a")
    assert firsts(service, 6, START + 0.999) == "b c b c b c"
    assert set(firsts(service, 6, START + 1).split()) == {"a", "b", "c"}


def test_when_all_are_skipped_they_still_take_turns() -> None:
    service = live("a", "b", "c", "d")
    refuse(service, "a", "b", "c", "d")
    assert firsts(service, 8) == "a b c d a b c d"
    service = live("a")
    refuse(service, "a")
    assert firsts(service, 2) == "a a"


@pytest.mark.parametrize(
    ("tried", "skipped", "expected"),
    [
        ("a", "", "b c"),
        ("a", "b", "c"),
        ("a b", "", "c"),
        ("a b", "c", "a b"),  # tried and available goes before not tried and skipped
        ("a", "b c", "a"),
        ("a", "a b c", "b c"),
        ("a b", "a b c", "c"),
        ("a b c", "a", "b c"),
        ("a b c", "a b c", "a b c"),
    ],
)
def test_the_order_of_preference_of_a_further_attempt(tried: str, skipped: str, expected: str) -> None:
    service = live("a", "b", "c")
    refuse(service, *skipped.split())
    picks = addresses([service.pick(START, at(service, *tried.split())) for _ in range(12)])
    assert set(picks.split()) == set(expected.split())


@pytest.mark.parametrize(
    ("tried", "skipped", "expected"),
    [
        ("a", "", "b c"),
        ("a", "a", "b c"),
        ("a", "a b", "c"),
        ("a", "a b c", "b c"),
        ("a b", "c", "none"),
        ("a b c", "", "none"),
    ],
)
def test_after_a_refused_connection_only_untried_endpoints_are_picked(tried: str, skipped: str, expected: str) -> None:
    service = live("a", "b", "c")
    refuse(service, *skipped.split())
    picks = addresses([service.pick_untried(START, at(service, *tried.split())) for _ in range(12)])
    assert set(picks.split()) == set(expected.split())


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 63), st.integers(0, 63)), min_size=1, max_size=20),
)
def test_pick_always_finds_one_of_the_best_endpoints(weights: list[int], steps: list[tuple[int, int]]) -> None:
    service = live(*[f"e{number}" for number in range(len(weights))], weights=weights)

    def rank(endpoint: Endpoint, tried: Sequence[Endpoint]) -> int:
        return 2 * (endpoint.skip_until > START) + (endpoint in tried)

    for tried_mask, skip_mask in steps:
        tried = tuple(one for number, one in enumerate(service.endpoints) if tried_mask >> number & 1)
        for number, endpoint in enumerate(service.endpoints):
            endpoint.skip_until = START + 1 if skip_mask >> number & 1 else 0.0
        service.changed(START)
        picked = service.pick(START, tried)
        assert picked is not None
        assert rank(picked, tried) == min(rank(one, tried) for one in service.endpoints)
        untried = service.pick_untried(START, tried)
        left = [one for one in service.endpoints if one.available and one not in tried]
        assert (untried in left) if left else (untried is None)


# Other balancers than plain round robin.


@pytest.mark.parametrize("balancer", ["round_robin", "least_request", "peak_ewma", "random", HashSettings(source=True)])
def test_each_balancer_uses_all_endpoints_but_the_skipped_ones(balancer: Any) -> None:
    live = service_with(Policy(balancer=balancer, slow_start=1.0), 0, 0, 0)
    assert len({address for n in range(60) for address in picks(live, 10.0, 1, b"%d" % n)}) == 3
    live.endpoints[1].connect_failed(10.0)
    live.changed(10.0)
    assert {address for n in range(60) for address in picks(live, 10.0, 1, b"%d" % n)} == {"10.0.0.1", "10.0.0.3"}
    tried = [live.endpoints[0]]
    again = {one.address for n in range(60) if (one := live.pick(10.0, tried, b"%d" % n)) is not None}
    assert again == {"10.0.0.3"}


def test_the_second_priority_is_used_when_the_first_is_gone() -> None:
    live = service_with(Policy(), 0, 1)
    assert picks(live, 0.0) == {"10.0.0.1"}
    live.endpoints[0].connect_failed(1.0)
    live.changed(1.0)
    assert picks(live, 1.5) == {"10.0.0.2"}


def test_a_key_stays_with_its_endpoint() -> None:
    live = service_with(Policy(balancer=HashSettings(header="X-User")), 0, 0, 0)
    assert all(len(picks(live, 0.0, 5, b"user-%d" % n)) == 1 for n in range(20))
