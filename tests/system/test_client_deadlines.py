"""One deadline, two clocks: the sidecar answers when the deadline passes that the client has told it, and the client
waits for that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sidecar.client import CallError, DeadlineExceeded, ServiceClient, deadline, serving
from tests.support.rig import Changes, Rig
from tests.support.steps import silence

CONFIG = """
services:
  venue: {endpoints: ["$venue"]}
aggregates:
  page: {parts: {venue: {service: venue, path: /, required: true}}}
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue") as rig:
        rig["venue"].play(silence)
        yield rig


async def call(client: ServiceClient, how: str, path: str = "/events") -> None:
    match how:
        case "block":
            async with deadline(0.15):
                await client.get(path)
        case "request":
            with serving({"x-envoy-expected-rq-timeout-ms": "150"}):
                await client.get(path)
        case "stream":
            async with client.stream("GET", path):
                pass
        case _:
            await client.get(path)


async def failure(client: ServiceClient, how: str, path: str = "/events") -> CallError:
    with pytest.raises(DeadlineExceeded) as caught:
        await call(client, how, path)
    return caught.value


@pytest.mark.parametrize("how", ["client", "block", "request", "stream"])
async def test_timeouts_are_the_sidecars(rig: Rig, how: str) -> None:
    gained = Changes(rig.daemon)
    own = 0.15 if how in ("client", "stream") else None
    async with ServiceClient("venue", base_url=f"http://127.0.0.1:{rig.ports.proxy}", deadline=own) as venue:
        for _ in range(4):
            errors = await asyncio.gather(*[failure(venue, how) for _ in range(5)])
            assert {(error.status, error.attempts, getattr(error, "reason", "")) for error in errors} == {
                (504, 1, "request_timeout")
            }
            assert {each.reason for error in errors for each in getattr(error, "tries", ())} == {"request_timeout"}
    gain = gained.when_done("venue", 20)
    assert gain("sidecar_requests_total", service="venue", code="504", reason="request_timeout") == 20
    assert gain("sidecar_requests_total", service="venue", code="499") == 0


async def test_deadline_of_an_aggregate(rig: Rig) -> None:
    async with ServiceClient("_aggregate", base_url=f"http://127.0.0.1:{rig.ports.proxy}", deadline=0.15) as pages:
        error = await failure(pages, "client", "/page")
    assert (error.status, getattr(error, "reason", "")) == (504, "request_timeout")


async def test_health_check_tells_the_sidecar_its_time(rig: Rig) -> None:
    gained = Changes(rig.daemon)
    async with ServiceClient("venue", base_url=f"http://127.0.0.1:{rig.ports.proxy}") as venue:
        assert await venue.health_check(within=0.15) is False
    assert gained.when_done("venue")("sidecar_requests_total", code="504", reason="request_timeout") == 1


async def test_sidecar_that_does_not_answer_either(rig: Rig) -> None:
    """Then the client ends the call itself."""
    async with ServiceClient("venue", base_url=rig["venue"].url, deadline=0.1) as venue:
        error = await failure(venue, "client")
    assert (error.status, error.attempts, getattr(error, "reason", "")) == (None, 1, "deadline")
