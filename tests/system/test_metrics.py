"""What a real daemon tells Prometheus: that Prometheus takes it, and that no client can make more series."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.client import Client, request_bytes
from tests.support.eventually import eventually
from tests.support.promtool import needs_promtool, promtool
from tests.support.rig import Rig
from tests.support.steps import answer, held
from tests.support.traffic import Checked
from tests.support.upstream import RefusedPort, Upstream

CONFIG = """
log: {access: all}
defaults: {retry: {backoff: {base: 1ms, max: 1ms}}}
services:
  venue:
    endpoints: ["$venue"]
    hosts: [venue.test]
    routes: [{match: {path: /reports, methods: [POST]}, timeout: {request: 3s}}]
    fallback: [{stale: 5m}]
  ticket: {endpoints: ["$ticket", "$gone"], health: {path: /health}, outlier: {consecutive_failures: 2}}
  flaky: {url: "$flaky", breaker: {volume_threshold: 2, reset_timeout: 60s}, retry: {max_retries: 1}}
  down: {endpoints: ["$gone"], breaker: {mode: off}, retry: {max_retries: 0}}
aggregates:
  venue-page: {parts: {venue: {service: venue, path: "/venues/{query.id}"}}}
"""

STORM = 2000
"""Requests of each of two rounds."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    checked_from_the_start = {"ticket": Upstream(Checked())}
    with Rig(CONFIG, "venue", "flaky", upstreams=checked_from_the_start, dead={"gone": RefusedPort()}) as rig:
        rig["venue"].play(answer(200, b'{"id": 1}', [("Content-Type", "application/json")]))
        rig["flaky"].play(answer(503))
        yield rig


@needs_promtool
def test_promtool_finds_nothing_wrong_with_a_busy_daemon(rig: Rig) -> None:
    rig["ticket"].play(Checked(held(answer())))
    with rig.client() as client:
        for target in ("/venue/1", "/flaky/1", "/flaky/1", "/flaky/1", "/down/1", "/nobody/1"):
            client.ask("GET", target)
        client.ask("GET", "/_aggregate/venue-page?id=7")
        client.ask("POST", "/venue/reports", body=b"x")
        client.send(request_bytes("GET", "/ticket/2"))
        eventually(lambda: rig.daemon.metric("sidecar_in_flight_requests", service="ticket") == 1)
        promtool("check", "metrics", given=rig.daemon.probe("/metrics").body)
        rig["ticket"].gate.set()
        client.read_response()
    promtool("check", "metrics", given=rig.daemon.probe("/metrics").body)


def requests(seed: int) -> Iterator[tuple[str, str, str, list[tuple[str, str]]]]:
    """Method, target, Host and headers, no two alike, and every few of them of another kind."""
    drawn = random.Random(seed)
    for number in range(STORM):
        word = f"storm{seed}x{number}"
        headers = [
            ("User-Agent", word),
            ("X-Request-Id", f"{word}-id"),
            ("traceparent", f"00-{drawn.getrandbits(128):032x}-{drawn.getrandbits(64):016x}-01"),
            ("Idempotency-Key", word),
            ("X-Forwarded-For", f"10.0.{number // 250}.{number % 250}"),
            ("Cookie", f"session={word}"),
            (f"X-{word}", word),
        ]
        yield (
            ("GET", f"/venue/{word}?{word}={word}", "localhost", headers),
            ("GET", f"/{word}/x", "localhost", headers),
            ("GET", f"/{word}", f"{word}.test", headers),
            ("GET", f"/{word}", "venue.test", headers),
            ("PUT", f"/ticket/{word}", "localhost", headers),
            ("POST", f"/venue/reports/{word}", "localhost", headers),
            ("GET", f"/_aggregate/{word}", "localhost", headers),
            ("GET", f"/_aggregate/venue-page?id={word}", "localhost", headers),
            ("GET", f"http://{word}.test/{word}", f"{word}.test", headers),
            (f"M{word.upper()}", f"/venue/{word}", "localhost", headers),
            ("GET", f"/flaky/{word}", "localhost", headers),
            ("GET", f"/down/{word}", "localhost", headers),
        )[number % 12]


def storm(rig: Rig, seed: int) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Sends a round; the series after it."""
    client: Client | None = None
    for method, target, host, headers in requests(seed):
        client = client or rig.client()
        response = client.ask(method, target, headers, host=host)
        if (response.get("connection") or "").lower() == "close":
            client.close()
            client = None
    if client is not None:
        client.close()
    for service in ("venue", "ticket", "flaky", "down"):
        rig.idle(service)
    assert b"storm" not in rig.daemon.probe("/metrics").body.lower()
    return set(rig.daemon.metrics(buckets=True))


def test_no_client_makes_more_series(rig: Rig) -> None:
    """Thousands of paths, hosts, methods, header values and names of aggregates: all that is new comes of outcomes."""
    before = set(rig.daemon.metrics(buckets=True))
    first = storm(rig, 1)
    outcomes = {"sidecar_requests_total", "sidecar_attempts_total", "sidecar_retries_total", "sidecar_fallbacks_total"}
    grown = {name for name, _ in first - before}
    assert grown <= outcomes | {"sidecar_aggregates_total"}
    assert len(first) - len(before) < 60
    second = storm(rig, 2)
    assert second == first
    ended = rig.daemon.metric("sidecar_requests_total") + rig.daemon.metric("sidecar_aggregates_total")
    assert ended >= 2 * STORM


def very_late(rig: Rig) -> float:
    """Samples of the loop's lag above half a second."""
    scraped = rig.daemon.metrics(buckets=True)
    in_time = scraped.total("sidecar_loop_lag_seconds_bucket", le="0.5")
    return scraped.total("sidecar_loop_lag_seconds_count") - in_time


def test_a_process_that_got_no_cpu_shows_in_the_loop_s_lag(rig: Rig) -> None:
    before = very_late(rig)
    rig.daemon.signal(signal.SIGSTOP)
    time.sleep(1.5)  # it is time that is measured: a sample was due within 0.75 s
    rig.daemon.signal(signal.SIGCONT)
    eventually(lambda: very_late(rig) > before)
    assert rig.daemon.metric("sidecar_loop_lag_max_seconds") > 0.5


def test_a_rejected_file_shows_until_it_is_right_again(rig: Rig) -> None:
    right = rig.daemon.path.read_text()
    for text, successful in [(right + "nonsense: 1\n", 0), (right, 1)]:
        rig.daemon.path.write_text(text)
        rig.daemon.signal(signal.SIGHUP)

        def seen(expected: int = successful) -> bool:
            return rig.daemon.metric("sidecar_config_last_reload_successful") == expected

        eventually(seen)
