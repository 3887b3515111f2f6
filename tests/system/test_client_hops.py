"""Several hops over real daemons: app A -> its sidecar -> app B -> its sidecar -> C.

A is the test itself, while it serves a request; B is an aiohttp server with the middleware; C is a scripted upstream.
What belongs to the request goes along: its ids, what is left of its time, and that it is a repeated one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from sidecar.client import CallError, DeadlineExceeded, ServiceClient, UpstreamTimeout, deadline, remaining, serving
from sidecar.client.aiohttp_server import middleware
from tests.support.daemon import Daemon
from tests.support.rig import Daemons
from tests.support.steps import answer
from tests.support.upstream import Received, Upstream

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
STATE = "rojo=00f067aa0ba902b7"

POLICY = """
defaults:
  timeout: {{attempt: {attempt}, request: 30s}}
  retry: {{max_retries: {retries}, backoff: {{base: 1ms, max: 1ms}}, budget: {{min_per_second: 1000}}}}
  breaker: {{mode: "off"}}
services:
  {name}: {{url: "{url}"}}
"""


class Hops:
    """App B, and what is around it. `a` is A's client of B."""

    a: ServiceClient
    to_c: ServiceClient
    before_c: Daemon

    def __init__(self, c: Upstream) -> None:
        self.c = c
        self.seen: list[web.Request] = []
        """What came to B."""
        self.waits = 0.0
        """Seconds that B takes before it calls C; below 0: until its time is over."""
        self.failures: list[CallError] = []
        """How B's calls of C failed."""
        self.done = asyncio.Event()
        """B has served a request."""

    async def event(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        left = remaining()
        await asyncio.sleep(left + 0.01 if self.waits < 0 and left is not None else self.waits)
        try:
            got = await self.to_c.get("/stock")
        except CallError as error:
            self.failures.append(error)
            return web.Response(status=503)
        finally:
            self.done.set()
        return web.Response(body=got.body)

    async def feed(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        left = remaining()
        await response.prepare(request)
        await asyncio.sleep(left + 0.01 if left is not None else 0.0)
        await response.write((await self.to_c.get("/stock")).body)
        return response


@asynccontextmanager
async def hops(
    start: Daemons, *, retries: int = 2, attempt: str = "5s", handing_on: bool = True
) -> AsyncIterator[Hops]:
    def daemon(name: str, url: str) -> Daemon:
        return start(POLICY.format(retries=retries, attempt=attempt, name=name, url=url))

    async with AsyncExitStack() as stack:
        made = Hops(stack.enter_context(Upstream(answer())))
        app = web.Application(middlewares=[middleware] if handing_on else [])
        app.router.add_get("/events/1", made.event)
        app.router.add_get("/feed", made.feed)
        b = web.AppRunner(app)  # not aiohttp's TestServer, which cancels handlers where a server does not
        await b.setup()
        stack.push_async_callback(b.cleanup)
        await web.TCPSite(b, "127.0.0.1", 0).start()
        before_b = await asyncio.to_thread(daemon, "b", f"http://127.0.0.1:{b.addresses[0][1]}")
        made.before_c = await asyncio.to_thread(daemon, "c", made.c.url)
        urls = [f"http://127.0.0.1:{one.proxy_port}" for one in (before_b, made.before_c)]
        made.a = await stack.enter_async_context(ServiceClient("b", base_url=urls[0]))
        made.to_c = await stack.enter_async_context(ServiceClient("c", base_url=urls[1]))
        yield made


def milliseconds(request: Received | web.Request) -> int:
    if isinstance(request, Received):
        return int(request.get("x-envoy-expected-rq-timeout-ms") or 0)
    return int(request.headers["x-envoy-expected-rq-timeout-ms"])


async def test_a_request_has_one_id_and_one_trace_at_all_hops(start: Daemons) -> None:
    incoming = {"X-Request-Id": "one-id", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": STATE}
    async with hops(start) as stage:
        with serving(incoming):
            got = await stage.a.get("/events/1")
        (at_b,), (at_c,) = stage.seen, stage.c.requests
    assert (got.status, got.body, got.request_id) == (200, b"ok", "one-id")
    assert at_b.headers["X-Request-Id"] == at_c.get("x-request-id") == "one-id"
    assert [at_b.headers["traceparent"].split("-")[1], (at_c.get("traceparent") or "").split("-")[1]] == [TRACE, TRACE]
    assert at_b.headers["tracestate"] == at_c.get("tracestate") == STATE
    assert at_c.all("x-envoy-attempt-count") == ["1"]


async def test_an_id_that_the_first_client_makes_goes_all_the_way(start: Daemons) -> None:
    async with hops(start) as stage:
        got = await stage.a.get("/events/1")
        (at_b,), (at_c,) = stage.seen, stage.c.requests
    assert got.request_id
    assert got.request_id == at_b.headers["X-Request-Id"] == at_c.get("x-request-id")
    assert "traceparent" not in at_b.headers  # without tracing, a sidecar begins no trace
    assert at_c.get("traceparent") is None


async def test_requests_side_by_side_keep_their_ids(start: Daemons) -> None:
    async def one(number: int) -> None:
        with serving({"X-Request-Id": f"id-{number}"}):
            assert (await stage.a.get("/events/1", headers={"x-number": str(number)})).request_id == f"id-{number}"

    async with hops(start) as stage:
        await asyncio.gather(*(one(number) for number in range(40)))
        at_b = {request.headers["X-Request-Id"] for request in stage.seen}
        assert all(request.headers["X-Request-Id"] == f"id-{request.headers['x-number']}" for request in stage.seen)
        at_c = {request.get("x-request-id") for request in stage.c.requests}
    assert at_b == at_c == {f"id-{number}" for number in range(40)}


async def test_the_time_that_is_left_shrinks_from_hop_to_hop(start: Daemons) -> None:
    async with hops(start) as stage:
        stage.waits = 0.05
        async with deadline(2.0):
            await stage.a.get("/events/1")
        (at_b,), (at_c,) = stage.seen, stage.c.requests
    assert milliseconds(at_b) <= 2000
    assert 0 < milliseconds(at_c) <= milliseconds(at_b) - 50


async def test_nothing_is_asked_for_once_the_time_is_over(start: Daemons) -> None:
    """B is not ended at A's deadline; but what it asks for after that is not sent."""
    async with hops(start) as stage:
        stage.waits = -1
        async with asyncio.timeout(10):
            with pytest.raises(UpstreamTimeout):
                async with deadline(0.5):
                    await stage.a.get("/events/1")
            await stage.done.wait()
        (failure,) = stage.failures
        assert isinstance(failure, DeadlineExceeded)
        assert (failure.service, failure.path, failure.attempts) == ("c", "/stock", 0)
        assert stage.c.hits == 0
        assert stage.before_c.metric("sidecar_requests_total", service="c") == 0


async def test_a_stream_may_go_on_for_longer_than_its_head_was_awaited(start: Daemons) -> None:
    """The sidecar's `attempt` ends at the response's head, and so does what B's calls are given of it."""
    async with hops(start, attempt="800ms") as stage, stage.a.stream("GET", "/feed") as answered:
        assert await answered.content.read() == b"ok"
        assert 0 < milliseconds(stage.c.last) <= 800


@pytest.mark.parametrize(
    ("retries", "handing_on", "hits"),
    [
        (1, True, 2 + 1),
        (2, True, 3 + 2),
        (3, True, 4 + 3),
        (2, False, 3 * 3),
    ],
)
async def test_retries_at_two_hops_add_up_and_do_not_multiply(
    start: Daemons, retries: int, handing_on: bool, hits: int
) -> None:
    """The first of A's attempts lets B's sidecar try again; for the repeated ones, one try each is enough. The last row
    is what the middleware is for."""
    async with hops(start, retries=retries, handing_on=handing_on) as stage:
        stage.c.play(answer(503))
        got = await stage.a.get("/events/1", raise_for_status=False)
        assert (got.status, got.attempts) == (503, retries + 1)
        assert [request.headers["x-envoy-attempt-count"] for request in stage.seen] == [
            str(number) for number in range(1, retries + 2)
        ]
        assert stage.c.hits == hits
