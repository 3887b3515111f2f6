"""How requests spread over endpoints, and that a dead endpoint among them costs the app nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import steps
from tests.support.client import request_bytes
from tests.support.message import chunked
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.upstream import RefusedPort

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 5s, request: 10s}
  retry: {backoff: {base: 1ms, max: 2ms}, budget: {min_per_second: 1000}}
services:
  even: {endpoints: ["$even_a", "$even_b"]}
  weighted: {endpoints: [{url: "$heavy", weight: 3}, "$light"]}
  half_dead: {endpoints: ["$refused", "$alive"]}
  no_retries: {endpoints: ["$no_retries_refused", "$no_retries_alive"], retry: {max_retries: 0}}
  half_ill: {endpoints: ["$ill", "$well"], outlier: "off"}
  trickle: {endpoints: ["$trickle_refused", "$trickle_alive"]}
  trickle_once: {endpoints: ["$trickle_once_refused", "$trickle_once_alive"], retry: {max_retries: 0}}
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    names = ("even_a", "even_b", "heavy", "light", "alive", "no_retries_alive", "ill", "well")
    names += ("trickle_alive", "trickle_once_alive")
    refused = ("refused", "no_retries_refused", "trickle_refused", "trickle_once_refused")
    with Rig(CONFIG, *names, dead={name: RefusedPort() for name in refused}) as rig:
        for name in names:
            rig[name].play(answer())
        yield rig


def statuses_one_by_one(rig: Rig, target: str, count: int) -> Counter[int]:
    with rig.client() as client:
        return Counter(client.ask("GET", target).status for _ in range(count))


def statuses_at_once(rig: Rig, target: str, *, apps: int, each: int) -> Counter[int]:
    """`apps` connections send `each` requests as fast as they are answered, GET and POST in turn."""

    def run(_: int) -> Counter[int]:
        with rig.client(timeout=15) as client:
            return Counter(
                (client.ask("POST", target, body=b"x") if number % 2 else client.ask("GET", target)).status
                for number in range(each)
            )

    with ThreadPoolExecutor(apps) as pool:
        return sum(pool.map(run, range(apps)), Counter())


def test_two_endpoints_take_turns(rig: Rig) -> None:
    a, b = rig["even_a"].play(answer()), rig["even_b"].play(answer())
    assert statuses_one_by_one(rig, "/even/", 100) == {200: 100}
    assert (a.hits, b.hits) == (50, 50)


def test_two_endpoints_share_concurrent_requests(rig: Rig) -> None:
    a, b = rig["even_a"].play(answer()), rig["even_b"].play(answer())
    assert statuses_at_once(rig, "/even/", apps=10, each=20) == {200: 200}
    assert (a.hits, b.hits) == (100, 100)


def test_weights(rig: Rig) -> None:
    heavy, light = rig["heavy"].play(answer()), rig["light"].play(answer())
    assert statuses_one_by_one(rig, "/weighted/", 100) == {200: 100}
    assert (heavy.hits, light.hits) == (75, 25)


def test_weights_under_concurrency(rig: Rig) -> None:
    heavy, light = rig["heavy"].play(answer()), rig["light"].play(answer())
    assert statuses_at_once(rig, "/weighted/", apps=10, each=20) == {200: 200}
    assert (heavy.hits, light.hits) == (150, 50)


@pytest.mark.parametrize("service", ["trickle", "trickle_once"])
def test_dead_endpoint_at_a_trickle(rig: Rig, service: str) -> None:
    """Slower than the dead endpoint's cool-down of 1 s: one request finds out, and no GET nor POST after it.

    On a service of its own: where another test was before, none would find out.
    """
    upstream = rig[f"{service}_alive"].play(answer())
    changes = rig.changes()
    with rig.client() as client:
        began = time.monotonic()
        for number in range(16):
            time.sleep(max(0.0, began + 0.2 * number - time.monotonic()))
            method = "POST" if number % 2 else "GET"
            response = client.ask(method, f"/{service}/{number}", body=b"x")
            assert (response.status, response.reason) == (200, None)
    assert upstream.hits == 16
    gain = changes.now()
    assert gain("sidecar_attempts_total", service=service, reason="connect_failure") == 1
    assert gain("sidecar_breaker_events_total", service=service, event="failure") == 0
    assert rig.daemon.metric("sidecar_breaker_state", service=service, state="closed") == 1


@pytest.mark.parametrize(("service", "alive"), [("half_dead", "alive"), ("no_retries", "no_retries_alive")])
def test_dead_endpoint_in_a_burst(rig: Rig, service: str, alive: str) -> None:
    upstream = rig[alive].play(answer())
    changes = rig.changes()
    assert statuses_at_once(rig, f"/{service}/", apps=8, each=50) == {200: 400}
    assert upstream.hits == 400
    changes.eventually(400, "sidecar_requests_total", service=service, code="200", reason="ok")
    assert changes("sidecar_breaker_events_total", service=service, event="failure") == 0
    assert rig.daemon.metric("sidecar_breaker_state", service=service, state="closed") == 1


def test_dead_endpoint_and_bodies_that_stream(rig: Rig) -> None:
    """A body too large to be kept moves on as well: none of it was sent."""
    body = bytes(range(256)) * 800
    for number in range(8):
        upstream = rig["alive"].play(answer())
        with rig.client() as client:
            if number % 2:
                client.send(request_bytes("POST", "/half_dead/", body=body))
            else:
                head = request_bytes("POST", "/half_dead/", [("Transfer-Encoding", "chunked")])
                client.send(head + chunked(body[:100_000], body[100_000:]))
            assert client.read_response().status == 200
        assert upstream.last.body == body


def test_dead_endpoint_that_comes_back_is_used_again() -> None:
    """It was skipped for 1 s, then for 2 s at most."""
    refused = RefusedPort()
    config = 'services: {venue: {endpoints: ["$refused", "$alive"]}}'
    with Rig(config, "alive", dead={"refused": refused}) as rig:
        alive = rig["alive"].play(answer(body=b"alive"))
        assert rig.ask("GET", "/venue/").body == b"alive"
        assert rig.ask("GET", "/venue/").body == b"alive"
        refused.listen_with_one_answer(b"back")
        deadline = time.monotonic() + 5
        while (body := rig.ask("GET", "/venue/").body) == b"alive" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert body == b"back"
        assert alive.hits > 2


def test_endpoint_that_fails_is_made_good_by_the_other(rig: Rig) -> None:
    """A retry prefers an endpoint that was not tried yet."""
    ill, well = rig["ill"].play(answer(503)), rig["well"].play(answer())
    assert statuses_one_by_one(rig, "/half_ill/", 20) == {200: 20}
    assert well.hits == 20
    assert ill.hits == 10


def test_endpoint_that_resets_is_made_good_for_get(rig: Rig) -> None:
    ill, well = rig["ill"].play(steps.then_reset(steps.read_request)), rig["well"].play(answer())
    assert statuses_one_by_one(rig, "/half_ill/", 20) == {200: 20}
    assert well.hits == 20
    assert ill.hits == 10


def test_endpoint_that_dies_with_connections_in_the_pool() -> None:
    with Rig('services: {venue: {endpoints: ["$one", "$two"]}}', "one", "two") as rig:
        for name in ("one", "two"):
            rig[name].play(answer())
        assert statuses_one_by_one(rig, "/venue/", 10) == {200: 10}
        rig["two"].stop()
        assert statuses_one_by_one(rig, "/venue/", 30) == {200: 30}
        assert rig["one"].hits == 35
