"""What several tests of a request's life begin with."""

from __future__ import annotations

from sidecar.policy.settings import (
    Backoff,
    BudgetSettings,
    Limits,
    Policy,
    RetrySettings,
    Timeouts,
)
from tests.proxy.fakes import Wire, World, ok

TIMEOUTS = Timeouts(connect=1.0, attempt=1.0, request=4.0, idle=10.0)
AMPLE = BudgetSettings(min_per_second=1000)
UNLIMITED = Limits()
UNAVAILABLE = ok(b"not now", status="503 Service Unavailable")
CHUNKED_POST = b"POST /venue/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def policy(
    *,
    timeout: Timeouts = TIMEOUTS,
    max_retries: int = 2,
    backoff_s: float = 0.2,
    budget: BudgetSettings = AMPLE,
    limits: Limits = UNLIMITED,
    preserve_host: bool = False,
) -> Policy:
    """Half of `backoff_s` is waited: the world's randomness is always 0.5."""
    retry = RetrySettings(max_retries=max_retries, backoff=Backoff(base=backoff_s, max=backoff_s), budget=budget)
    return Policy(timeout=timeout, retry=retry, limits=limits, preserve_host=preserve_host)


def warm(world: World) -> Wire:
    """An idle connection, just used."""
    world.asks()
    world.upstream.says(ok())
    world.upstream.take()
    world.reasons().clear()
    return world.upstream


def fail_calls(world: World, calls: int) -> None:
    """So many requests fail, none is retried."""
    for _ in range(calls):
        world.asks("POST /venue/")
        world.upstream.says(ok(status="500 Internal Server Error"))


def hits(world: World) -> int:
    """How many requests were handed to a transport."""
    return sum(wire.heard.count(b" HTTP/1.1\r\n") for wire in world.upstreams)


def ask_tunnel(world: World) -> Wire:
    return world.asks("GET /venue/", "Connection: Upgrade", "Upgrade: websocket")
