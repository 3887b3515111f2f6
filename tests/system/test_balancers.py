"""How the other balancers choose, seen from outside: slow endpoints, keys, priorities."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.traffic import Traffic
from tests.support.upstream import RefusedPort, Step, Turn, Upstream

CONFIG = """
defaults:
  retry: {backoff: {base: 1ms, max: 2ms}, budget: {min_per_second: 1000}}
services:
  least: {endpoints: ["$a", "$b", "$c"], balancer: least_request}
  ewma: {endpoints: ["$a", "$b", "$c"], balancer: peak_ewma}
  random: {endpoints: ["$a", "$b", "$c"], balancer: random}
  header: {endpoints: ["$a", "$b", "$c"], balancer: {hash: {header: X-User}}}
  cookie: {endpoints: ["$a", "$b", "$c"], balancer: {hash: {cookie: sid}}}
  query: {endpoints: ["$a", "$b", "$c"], balancer: {hash: {query: user}}}
  source: {endpoints: ["$a", "$b", "$c"], balancer: {hash: {source: true}}}
  slow_start: {endpoints: ["$a", "$b", "$c"], slow_start: 30s}
  slow_least: {endpoints: ["$a", "$b", "$c"], slow_start: 30s, balancer: least_request}
  first_refuses: {endpoints: ["$refused", {url: "$b", priority: 1}]}
  first_well: {endpoints: ["$a", {url: "$b", priority: 1}]}
"""
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def module_rig() -> Iterator[Rig]:
    with Rig(CONFIG, *NAMES, dead={"refused": RefusedPort()}) as rig:
        yield rig


@pytest.fixture
def rig(module_rig: Rig) -> Rig:
    """Each endpoint answers with its name."""
    for name in NAMES:
        module_rig[name].play(answer(body=name.encode()))
    return module_rig


def after(seconds: float, step: Step) -> Step:
    def slow(turn: Turn) -> None:
        turn.read()
        time.sleep(seconds)
        step(turn)

    return slow


def at_once(rig: Rig, service: str, *, apps: int, each: int) -> Counter[bytes]:
    """Who answers `apps` connections that each send `each` requests as fast as they are answered."""

    def run(_: int) -> Counter[bytes]:
        with rig.client(timeout=15) as client:
            answers = [client.ask("GET", f"/{service}/") for _ in range(each)]
            assert {one.status for one in answers} == {200}
            return Counter(one.body for one in answers)

    with ThreadPoolExecutor(apps) as pool:
        return sum(pool.map(run, range(apps)), Counter())


def one_by_one(rig: Rig, service: str, count: int) -> Counter[bytes]:
    with rig.client() as client:
        return Counter(client.ask("GET", f"/{service}/").body for _ in range(count))


def by_key(rig: Rig, target: str, *headers: tuple[str, str], count: int = 1) -> set[bytes]:
    with rig.client() as client:
        answers = [client.ask("GET", target, headers) for _ in range(count)]
    assert {one.status for one in answers} == {200}
    return {one.body for one in answers}


@pytest.mark.parametrize("service", ["least", "ewma"])
def test_slow_endpoint_is_avoided(rig: Rig, service: str) -> None:
    """Every endpoint takes 5 ms and one 250 ms. In turn, it would get a third of 320 requests."""
    for name in ("a", "b"):
        rig[name].play(after(0.005, answer(body=name.encode())))
    rig["c"].play(after(0.25, answer(body=b"c")))
    found = at_once(rig, service, apps=8, each=40)
    assert sum(found.values()) == 320
    assert found[b"c"] < 64
    assert min(found[b"a"], found[b"b"]) > 64


def test_slow_endpoint_is_avoided_by_peak_ewma_with_nothing_in_flight(rig: Rig) -> None:
    """One request at a time: least_request sees no difference, peak_ewma remembers."""
    rig["c"].play(after(0.15, answer(body=b"c")))  # more than another one takes where the machine is busy
    at_once(rig, "ewma", apps=3, each=10)  # each was measured
    found = one_by_one(rig, "ewma", 90)
    assert found[b"c"] < 9
    assert one_by_one(rig, "least", 30)[b"c"] > 0


@pytest.mark.parametrize("service", ["random", "least", "slow_start", "slow_least"])
def test_all_are_used(rig: Rig, service: str) -> None:
    """The chance that a fair draw leaves one of three below 60 of 300 is under one in a million."""
    found = one_by_one(rig, service, 300)
    assert sum(found.values()) == 300
    assert set(found) == {b"a", b"b", b"c"}
    assert min(found.values()) >= 60


def test_random_is_not_in_turn(rig: Rig) -> None:
    with rig.client() as client:
        bodies = [client.ask("GET", "/random/").body for _ in range(60)]
    assert any(first == second for first, second in pairwise(bodies))


def test_one_key_goes_to_one_endpoint(rig: Rig) -> None:
    for user in ("anna", "ben", "cleo"):
        assert len(by_key(rig, "/header/", ("X-User", user), count=20)) == 1
        assert len(by_key(rig, "/cookie/", ("Cookie", f"x=1; sid={user}; y=2"), count=20)) == 1
        assert len(by_key(rig, f"/query/a?x=1&user={user}", count=20)) == 1
    assert len(by_key(rig, "/source/", count=40)) == 1


def test_name_of_a_header_is_compared_without_case(rig: Rig) -> None:
    for number in range(10):
        user = f"user-{number}"
        assert by_key(rig, "/header/", ("X-User", user)) == by_key(rig, "/header/", ("x-uSER", user))


def test_keys_spread_over_all(rig: Rig) -> None:
    found: Counter[bytes] = Counter()
    with rig.client() as client:
        for number in range(300):
            found[client.ask("GET", "/header/", [("X-User", f"user-{number}")]).body] += 1
    assert set(found) == {b"a", b"b", b"c"}
    assert min(found.values()) >= 50


def test_without_a_key_all_are_used(rig: Rig) -> None:
    assert set(one_by_one(rig, "header", 100)) == {b"a", b"b", b"c"}


def test_keys_of_an_endpoint_that_refuses_move_and_the_others_stay() -> None:
    config = 'services: {venue: {endpoints: ["$a", "$b", "$c"], balancer: {hash: {header: X-User}}}}'
    with Rig(config, *NAMES) as rig:
        for name in NAMES:
            rig[name].play(answer(body=name.encode()))
        users = [f"user-{number}" for number in range(40)]

        def owners() -> dict[str, bytes]:
            with rig.client() as client:
                answers = {user: client.ask("GET", "/venue/", [("X-User", user)]) for user in users}
            assert {one.status for one in answers.values()} == {200}
            return {user: one.body for user, one in answers.items()}

        before = owners()
        assert set(before.values()) == {b"a", b"b", b"c"}
        rig["a"].stop()
        moved = owners()
        assert set(moved.values()) == {b"b", b"c"}
        assert {user: moved[user] for user in users if before[user] != b"a"} == {
            user: owner for user, owner in before.items() if owner != b"a"
        }


def test_second_priority_is_used_only_when_the_first_refuses(rig: Rig) -> None:
    assert one_by_one(rig, "first_well", 40) == {b"a": 40}
    assert one_by_one(rig, "first_refuses", 40) == {b"b": 40}


def test_second_priority_steps_in_and_out() -> None:
    """An endpoint of the first level that ends and comes back on its port; the app sees nothing but answers."""
    config = 'services: {venue: {endpoints: ["$a", {url: "$b", priority: 1}]}}'
    with Rig(config, "a", "b") as rig:
        for name in ("a", "b"):
            rig[name].play(answer(body=name.encode()))
        with Traffic(rig.client, lambda client: client.ask("GET", "/venue/")) as steady:
            assert steady.more(20) == {b"a": 20}
            rig["a"].stop()
            eventually(lambda: b"b" in steady.bodies)
            assert steady.more(20) == {b"b": 20}
            with Upstream(answer(body=b"a again"), port=rig["a"].port):
                steady.until_seen(b"a again")
                # The share of the levels is worked out ten times a second.
                eventually(lambda: set(steady.bodies[-20:]) == {b"a again"})
                assert steady.more(20) == {b"a again": 20}
        assert steady.statuses == {200: steady.count}
