"""Each error of `sidecar.client`, from the real daemon and an upstream that really fails that way; and what a call that
is given up leaves behind."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import aiohttp
import pytest

from sidecar.client import (
    AggregateFailed,
    BadRequest,
    CallError,
    CircuitOpen,
    ClientError,
    ConnectionFailed,
    ConnectTimeout,
    DeadlineExceeded,
    InvalidAnswer,
    LoopDetected,
    NoEndpoint,
    NotFound,
    Overloaded,
    RateLimited,
    Response,
    ServiceClient,
    ServiceError,
    SidecarError,
    SidecarUnavailable,
    UnknownService,
    UpstreamTimeout,
    deadline,
    pool,
)
from tests.support import steps
from tests.support.eventually import eventually, settled
from tests.support.rig import Rig
from tests.support.steps import answer, held, raw, response_head, silence, then, then_held, then_reset
from tests.support.upstream import ConnectBlackHole, RefusedPort, Step, Turn, Upstream

HALF = raw(response_head(200, [("Content-Length", "10")]) + b"half-")
HALF_CHUNKED = raw(response_head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nhalf-\r\n")


@dataclass(frozen=True)
class Failing:
    """A way to fail, and the error that it is. `attempts` are of GET and HEAD; a POST that was sent has one."""

    name: str
    script: Step | None
    error: type[CallError]
    reason: str = ""
    attempts: int = 1
    status: int | None = None
    policy: str = ""


FAILING = [
    Failing("silent", silence, UpstreamTimeout, "attempt_timeout", 3, 504, "timeout: {attempt: 100ms}"),
    Failing("slow", silence, UpstreamTimeout, "request_timeout", 1, 504, "timeout: {attempt: 2s, request: 150ms}"),
    Failing("refused", None, ConnectionFailed, "connect_failure", 3, 503),
    Failing("black_hole", None, ConnectTimeout, "connect_timeout", 3, 504, "timeout: {connect: 100ms}"),
    Failing("resets", then_reset(steps.read_request), ConnectionFailed, "reset", 3, 502),
    Failing("babbles", raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"), ConnectionFailed, "bad_response", 1, 502),
    Failing("says_500", answer(500, b'{"why": 1}'), ServiceError, "", 1, 500),
    Failing("says_503", answer(503, b"busy"), ServiceError, "", 3, 503),
    Failing("says_400", answer(400, b"no"), ClientError, "", 1, 400),
    Failing("says_404", answer(404, b"none"), NotFound, "", 1, 404),
]

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 3s, request: 10s, idle: 30s}
  retry: {backoff: {base: 1ms, max: 2ms}, budget: {ratio: 1, min_per_second: 1000}}
  breaker: {volume_threshold: 1000}
services:
  scene: {endpoints: ["$scene"]}
  single: {endpoints: ["$single"], limits: {max_concurrent: 1}}
  fragile: {endpoints: ["$fragile"], breaker: {volume_threshold: 2, reset_timeout: 30s}}
  nowhere: {url: "http://no-such-name.invalid:8080"}
  loop: {url: "http://127.0.0.1:$proxy"}
aggregates:
  page: {parts: {main: {service: scene, path: /main, required: true}}}
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    lines = [f'  {each.name}: {{endpoints: ["${each.name}"], {each.policy}}}\n' for each in FAILING]
    services, mark, aggregates = CONFIG.partition("aggregates:")
    names = [each.name for each in FAILING if each.script is not None]
    dead: dict[str, RefusedPort | ConnectBlackHole] = {"refused": RefusedPort(), "black_hole": ConnectBlackHole()}
    with Rig(services + "".join(lines) + mark + aggregates, *names, "scene", "single", "fragile", dead=dead) as rig:
        yield rig


Client = Callable[..., Awaitable[ServiceClient]]


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[Client]:
    """Opens a client of a service; when the test ends, no connection may be in use."""
    opened: list[ServiceClient] = []

    async def opening(service: str, **more: object) -> ServiceClient:
        url = {"base_url": f"http://127.0.0.1:{rig.ports.proxy}"}
        opened.append(await ServiceClient(service, **{**url, **more}).open())  # type: ignore[arg-type]
        return opened[-1]

    yield opening
    if opened:
        assert connections_in_use() == 0
    for each in opened:
        await each.close()


def connections_in_use() -> int:
    connector = pool._by_loop[asyncio.get_running_loop()].session.connector
    assert connector is not None
    return len(connector._acquired)


async def raised(calling: Awaitable[object], kind: type[CallError]) -> CallError:
    with pytest.raises(kind) as caught:
        await calling
    assert type(caught.value) is kind
    return caught.value


async def until(check: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, check)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("failing", FAILING, ids=lambda failing: failing.name)
async def test_failure(rig: Rig, client: Client, failing: Failing, method: str) -> None:
    if failing.script is not None:
        rig[failing.name].play(failing.script)
    calling = await client(failing.name)
    body = {"json": {"a": 1}} if method == "POST" else {}
    error = await raised(
        calling.request(method, "/events/1?token=secret", headers={"X-Request-Id": "r-1"}, **body), failing.error
    )
    sent = failing.script is not None
    attempts = 1 if method == "POST" and sent else failing.attempts
    known = (error.service, error.method, error.path, error.request_id, error.attempts, error.status)
    assert known == (failing.name, method, "/events/1", "r-1", attempts, failing.status)
    assert "secret" not in str(error)
    assert all(word in str(error) for word in (failing.name, method, "/events/1", "r-1"))
    if isinstance(error, SidecarError):
        assert error.reason == failing.reason
        if method != "HEAD":
            assert [each.reason for each in error.tries] == [failing.reason] * attempts
            assert error.detail
    await until(lambda: rig.idle(failing.name) is None)


async def test_answer_of_the_service_goes_with_its_error(rig: Rig, client: Client) -> None:
    rig["scene"].play(answer(422, b'{"field": "name"}', [("X-Code", "E7"), ("Content-Type", "application/json")]))
    error = await raised((await client("scene")).post("/x", json={}), ClientError)
    assert isinstance(error, ClientError)
    assert (error.json(), error.text(), error.headers["x-code"]) == ({"field": "name"}, '{"field": "name"}', "E7")


async def test_large_head_of_the_services_answer(rig: Rig, client: Client) -> None:
    """As large as the sidecar lets it be, which is more than aiohttp would take by itself."""
    rig["scene"].play(answer(200, b"ok", [("X-Large", "a" * 30_000)]))
    assert len((await (await client("scene")).get("/x")).headers["x-large"]) == 30_000


async def test_attempts_of_an_answer_that_a_retry_brought(rig: Rig, client: Client) -> None:
    rig["scene"].play(then_reset(steps.read_request), answer(body=b"[1]"))
    response = await (await client("scene")).get("/x")
    assert (response.body, response.attempts) == (b"[1]", 2)


async def test_circuit_open(rig: Rig, client: Client) -> None:
    rig["fragile"].play(answer(500))
    fragile = await client("fragile")
    for _ in range(2):
        await raised(fragile.get("/x"), ServiceError)
    for method in ("GET", "HEAD"):
        error = await raised(fragile.request(method, "/x"), CircuitOpen)
        assert isinstance(error, CircuitOpen)
        assert error.retry_after is not None
        assert 0 < error.retry_after < 36  # up to a fifth more than `reset_timeout`, so that apps come back apart
        assert (error.attempts, error.status, error.reason) == (0, 503, "circuit_open")
        assert f"try again in {error.retry_after:.1f} s" in str(error)
    assert rig["fragile"].hits == 2


async def test_no_endpoint(client: Client) -> None:
    nowhere = await client("nowhere")

    async def refused() -> CallError:
        with pytest.raises((NoEndpoint, ConnectionFailed)) as caught:
            await nowhere.get("/x")
        return caught.value

    until_looked_up = time.monotonic() + 10
    while not isinstance(error := await refused(), NoEndpoint):
        assert time.monotonic() < until_looked_up
        await asyncio.sleep(0.05)
    assert (error.attempts, error.reason, error.status) == (0, "no_endpoint", 503)


async def test_overloaded(rig: Rig, client: Client) -> None:
    upstream = rig["single"].play(held(answer()))
    single = await client("single")
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(single.get("/1"))
        await until(lambda: upstream.hits == 1)
        error = await raised(single.get("/2"), Overloaded)
        upstream.gate.set()
    assert isinstance(error, Overloaded)
    assert error.retry_after is not None
    assert 1 <= error.retry_after < 2
    assert (error.attempts, error.status) == (0, 503)
    assert first.result().status == 200
    await until(lambda: rig.idle("single") is None)


async def test_unknown_service_is_never_a_missing_thing(client: Client) -> None:
    venu = await client("venu")
    error = await raised(venu.get_json("/x", missing_ok=True), UnknownService)
    assert (error.service, error.attempts, error.status) == ("venu", 0, 404)


async def test_bad_request(client: Client) -> None:
    error = await raised((await client("_aggregate")).post("/page", json={}), BadRequest)
    assert (error.attempts, error.status) == (0, 405)
    error = await raised((await client("scene")).get("/x", headers={"Connection": "Host"}), BadRequest)
    assert error.status == 400


async def test_loop(client: Client) -> None:
    error = await raised((await client("loop")).get("/loop/loop/loop/x"), LoopDetected)  # at the third return
    assert error.status == 508


async def test_aggregate_failed(rig: Rig, client: Client) -> None:
    rig["scene"].play(answer(500))
    error = await raised((await client("_aggregate")).get("/page"), AggregateFailed)
    assert isinstance(error, AggregateFailed)
    assert (error.errors["main"].service, error.errors["main"].status, error.status) == ("scene", 500, 502)


@pytest.mark.parametrize("half", [HALF, HALF_CHUNKED], ids=["by length", "chunked"])
async def test_truncated(rig: Rig, client: Client, half: Step) -> None:
    upstream = rig["scene"].play(then_held(half, steps.close))
    scene = await client("scene")
    upstream.gate.set()
    error = await raised(scene.get("/x"), ConnectionFailed)
    assert isinstance(error, ConnectionFailed)
    assert (error.reason, error.status, error.attempts) == ("truncated", 200, 1)


@pytest.mark.parametrize("half", [HALF, HALF_CHUNKED], ids=["by length", "chunked"])
async def test_truncated_stream(rig: Rig, client: Client, half: Step) -> None:
    """It fails where it is read, in our words, and an app may go on after it."""
    upstream = rig["scene"].play(then_held(half, steps.close))
    scene = await client("scene")
    read = b""
    async with scene.stream("GET", "/x") as response:
        pieces = response.content.iter_any()
        read += await anext(pieces)
        upstream.gate.set()
        error = await raised(anext(pieces), ConnectionFailed)  # type: ignore[arg-type]
    assert isinstance(error, ConnectionFailed)
    assert (read, error.reason, error.path) == (b"half-", "truncated", "/x")


async def test_stream_up_and_down(rig: Rig, client: Client) -> None:
    rig["scene"].play(steps.echo())
    scene = await client("scene")

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(300):
            yield b"%d," % number * 100

    read = bytearray()
    async with scene.stream("POST", "/up", data=pieces()) as response:
        async for piece in response.content.iter_chunked(1000):
            assert len(piece) <= 1000
            read += piece
    assert read == b"POST /up\n" + b"".join(b"%d," % number * 100 for number in range(300))


async def test_body_that_still_comes_when_the_limit_has_passed(
    rig: Rig, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not for want of a sidecar."""
    aiohttps, reading = Response.read, asyncio.Event()

    async def noticed(response: Response) -> bytes:
        reading.set()
        return await aiohttps(response)

    monkeypatch.setattr(Response, "read", noticed)
    rig["scene"].play(then(HALF, Turn.wait_closed))
    scene = await client("scene")
    calling = asyncio.get_running_loop().create_task(scene.get("/x"))
    await reading.wait()
    limit = pool._by_loop[asyncio.get_running_loop()].limit
    (task,) = limit._calls
    limit._calls[task] = (0.0, *limit._calls[task][1:])
    limit._end_due()
    error = await raised(calling, UpstreamTimeout)
    assert isinstance(error, UpstreamTimeout)
    assert (error.reason, error.status) == ("body_timeout", 200)
    await until(lambda: rig.idle("scene") is None)


async def test_stream_of_an_error(rig: Rig, client: Client) -> None:
    rig["scene"].play(answer(500, b"x" * 200_000))
    scene = await client("scene")
    with pytest.raises(ServiceError) as caught:
        async with scene.stream("GET", "/x"):
            pytest.fail("it has no answer to be read")
    assert len(caught.value.body) == 64 * 1024
    async with scene.stream("GET", "/x", raise_for_status=False) as response:
        assert len(await response.read()) == 200_000
    with pytest.raises(UnknownService):
        async with (await client("venu")).stream("GET", "/x", raise_for_status=False):
            pytest.fail("it has no answer to be read")


async def test_rate_limited() -> None:
    """From a script until the daemon has a rate limit."""
    body = b'{"detail": "10 a second", "reason": "rate_limited", "retry_after": 0.25, "attempts": []}'
    fields = [("x-sidecar-reason", "rate_limited"), ("Retry-After", "1")]
    with Upstream(answer(429, body, fields)) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            error = await raised(venue.get("/x"), RateLimited)
            assert isinstance(error, RateLimited)
            assert (error.retry_after, error.attempts, error.detail) == (0.25, 0, "10 a second")


# The sidecar itself.


async def test_no_sidecar_listens() -> None:
    with RefusedPort() as port:
        async with ServiceClient("venue", base_url=port.url) as venue:
            error = await raised(venue.get("/x"), SidecarUnavailable)
            with pytest.raises(SidecarUnavailable):
                async with venue.stream("GET", "/x"):
                    pytest.fail("nobody answers")
            assert not await venue.health_check()
    assert (error.attempts, error.status) == (0, None)
    assert all(word in str(error) for word in (port.url, "SIDECAR_URL", "sidecar run"))


async def test_sidecar_that_accepts_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONNECT_S", 0.2)
    with ConnectBlackHole() as hole:
        async with ServiceClient("venue", base_url=hole.url) as venue:
            error = await raised(venue.get("/x"), SidecarUnavailable)
    assert error.attempts == 0


@pytest.mark.parametrize("ends", [steps.close, steps.reset], ids=["closes", "resets"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_is_sent_twice(ends: Step, method: str) -> None:
    """aiohttp alone would send a GET again that was lost on a kept-alive connection."""
    with Upstream(answer(), then(steps.read_request, ends)) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            await venue.get("/1")
            error = await raised(venue.request(method, "/2"), SidecarUnavailable)
        assert [(request.connection, request.target) for request in scripted.requests] == [
            (0, "/venue/1"),
            (0, "/venue/2"),
        ]
    assert error.attempts == 1


async def test_what_is_no_sidecar() -> None:
    with Upstream(raw(b"SSH-2.0-OpenSSH_9.2p1\r\n")) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            error = await raised(venue.get("/x"), SidecarUnavailable)
    assert "not HTTP" in str(error)


async def test_sidecar_that_hangs(rig: Rig, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of calls without a deadline, made short here; then it goes on."""
    rig["scene"].play(answer())
    scene = await client("scene")
    await scene.get("/1")
    limit = pool._by_loop[asyncio.get_running_loop()].limit
    monkeypatch.setattr(limit, "_total_s", 3.0)
    rig.daemon.signal(signal.SIGSTOP)
    try:
        error = await raised(scene.get("/2"), SidecarUnavailable)
        began = time.monotonic()
        assert not await scene.health_check(within=0.1)
        assert time.monotonic() - began < 2.5
    finally:
        rig.daemon.signal(signal.SIGCONT)
    assert "no response within" in str(error)
    assert (await scene.get("/3")).status == 200


# Deadlines.


async def test_deadline_is_sent_and_kept(rig: Rig, client: Client) -> None:
    upstream = rig["scene"].play(silence)
    scene = await client("scene")
    began = time.monotonic()
    async with deadline(0.6):
        with pytest.raises(UpstreamTimeout) as caught:
            await scene.get("/x")
    assert 0.55 < time.monotonic() - began < 2.5
    # The sidecar answers at the same moment as we give up: either may come first.
    assert isinstance(caught.value, DeadlineExceeded) or caught.value.reason == "request_timeout"
    assert caught.value.attempts == 1
    assert 0 < int(upstream.last.get("x-envoy-expected-rq-timeout-ms") or "") <= 600
    await until(lambda: rig.idle("scene") is None)


async def test_deadline_of_a_client(client: Client) -> None:
    with Upstream(silence) as scripted:
        hurried = await client("venue", base_url=scripted.url, deadline=0.4)
        error = await raised(hurried.get("/x"), DeadlineExceeded)
        assert isinstance(error, TimeoutError)
        assert (error.attempts, error.status) == (1, None)
        assert 0 < int(scripted.last.get("x-envoy-upstream-rq-timeout-ms") or "") <= 400
        with pytest.raises(DeadlineExceeded):
            async with hurried.stream("GET", "/x"):
                pytest.fail("nobody answers")
        await until(lambda: scripted.open_connections == 0)


async def test_after_the_deadline_nothing_is_sent(rig: Rig, client: Client) -> None:
    upstream = rig["scene"].play(answer())
    scene = await client("scene")
    async with deadline(-1):
        error = await raised(scene.get("/x"), DeadlineExceeded)
        assert not await scene.health_check()
    assert (error.attempts, upstream.hits) == (0, 0)


async def test_body_of_a_stream_may_outlast_the_deadline_of_its_head(rig: Rig, client: Client) -> None:
    upstream = rig["scene"].play(then_held(HALF, lambda turn: turn.send(b"whole")))
    hurried = await client("scene", deadline=0.6)
    async with hurried.stream("GET", "/x") as response:
        await asyncio.sleep(0.7)  # The rule is about our clock: nothing to poll for.
        upstream.gate.set()
        assert await response.read() == b"half-whole"


# What is given up.


Calling = Callable[[ServiceClient, asyncio.Event], Awaitable[None]]


async def before_the_head(scene: ServiceClient, under_way: asyncio.Event) -> None:
    under_way.set()
    await scene.get("/x")


async def in_a_stream(scene: ServiceClient, under_way: asyncio.Event) -> None:
    async with scene.stream("GET", "/x") as response:
        assert await response.content.readany() == b"half-"
        under_way.set()
        await response.content.readany()


async def in_an_upload(scene: ServiceClient, under_way: asyncio.Event) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        under_way.set()
        await asyncio.Event().wait()

    await scene.post("/x", data=endless())


async def in_an_upload_that_nobody_takes(scene: ServiceClient, under_way: asyncio.Event) -> None:
    """Every buffer on the way is full, so closing in order would wait: the sidecar has to be told by a reset."""
    taken = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(64 * 1024)

    async def watch() -> None:
        await asyncio.to_thread(settled, lambda: taken)
        under_way.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        await scene.post("/x", data=flood())


def reads_the_head_only(turn: Turn) -> None:
    turn.read_head()
    turn.wait_for_gate()
    turn.wait_closed()


GIVEN_UP: dict[str, tuple[Step, Calling]] = {
    "before the head": (silence, before_the_head),
    "in the body": (then(HALF, Turn.wait_closed), before_the_head),
    "in a stream": (then(HALF, Turn.wait_closed), in_a_stream),
    "in an upload": (steps.read_request, in_an_upload),
    "in an upload that nobody takes": (reads_the_head_only, in_an_upload_that_nobody_takes),
}


@pytest.mark.parametrize("where", GIVEN_UP)
async def test_call_that_is_cancelled_leaves_nothing(rig: Rig, client: Client, where: str) -> None:
    script, make = GIVEN_UP[where]
    upstream = rig["scene"].play(script)
    scene = await client("scene")
    under_way = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(make(scene, under_way))
        await under_way.wait()
        await until(lambda: upstream.hits == 1)
        assert connections_in_use() == 1
        calling.cancel()
    assert calling.cancelled()
    assert connections_in_use() == 0
    await until(lambda: rig.idle("scene") is None)
    upstream.gate.set()
    await until(lambda: upstream.open_connections == 0)
    rig["scene"].play(answer())
    assert (await scene.get("/again")).status == 200


@pytest.mark.parametrize("limited", [False, True], ids=["no deadline", "deadline"])
@pytest.mark.parametrize("where", GIVEN_UP)
async def test_closing_the_last_client_ends_its_calls(rig: Rig, where: str, limited: bool) -> None:
    """aiohttp would leave them waiting for ever."""
    script, make = GIVEN_UP[where]
    upstream = rig["scene"].play(script)
    scene = ServiceClient("scene", base_url=f"http://127.0.0.1:{rig.ports.proxy}", deadline=60.0 if limited else None)
    await scene.open()
    under_way = asyncio.Event()
    calling = asyncio.get_running_loop().create_task(make(scene, under_way))
    await under_way.wait()
    await until(lambda: upstream.hits == 1)
    await scene.close()
    async with asyncio.timeout(5):
        with pytest.raises((CallError, ExceptionGroup)) as caught:
            await calling
    error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert type(error) is CallError
    assert "the client was closed while the call was in progress" in str(error)
    assert calling.cancelling() == 0
    await until(lambda: rig.idle("scene") is None)
    upstream.gate.set()
    await until(lambda: upstream.open_connections == 0)


async def test_closing_one_of_two_clients_ends_no_call(rig: Rig, client: Client) -> None:
    upstream = rig["scene"].play(held(answer()))
    first, _ = await client("scene"), await client("scene")
    calling = asyncio.get_running_loop().create_task(first.get("/x"))
    await until(lambda: upstream.hits == 1)
    await first.close()
    upstream.gate.set()
    assert (await calling).status == 200


async def test_stream_whose_client_is_closed_keeps_what_has_come_whole(rig: Rig) -> None:
    rig["scene"].play(answer(body=b"whole"))
    async with ServiceClient("scene", base_url=f"http://127.0.0.1:{rig.ports.proxy}") as scene:
        entered = scene.stream("GET", "/x")
        async with scene.stream("GET", "/x") as response:
            await response.content.wait_eof()
            await scene.close()
            assert await response.read() == b"whole"
        with pytest.raises(RuntimeError, match="not open"):
            async with entered:
                pytest.fail("the client is closed")


async def test_stream_that_is_left_early(rig: Rig, client: Client) -> None:
    upstream = rig["scene"].play(then(HALF, Turn.wait_closed))
    scene = await client("scene")
    async with scene.stream("GET", "/x") as response:
        assert response.status == 200
    assert connections_in_use() == 0
    await until(lambda: rig.idle("scene") is None)
    await until(lambda: upstream.open_connections == 0)


async def test_answer_that_comes_before_a_flood_has_ended_is_not_lost(rig: Rig, client: Client) -> None:
    rig["scene"].play(steps.answer_early(413))
    scene = await client("scene")

    async def flood() -> AsyncIterator[bytes]:
        for _ in range(1024):
            yield bytes(64 * 1024)

    for _ in range(10):
        refused = await raised(scene.post("/upload", data=flood()), ClientError)
        assert refused.status == 413


async def test_upload_that_fails_by_the_apps_own_doing(rig: Rig, client: Client) -> None:
    rig["scene"].play(steps.echo())
    scene = await client("scene")

    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise LookupError("the app's own")

    with pytest.raises(LookupError, match="the app's own"):
        await scene.post("/x", data=failing())
    await until(lambda: rig.idle("scene") is None)


# What else aiohttp would do.


async def test_no_cookie_goes_with_the_next_call(rig: Rig, client: Client) -> None:
    upstream = rig["scene"].play(answer(headers=[("Set-Cookie", "session=alice; Path=/")]))
    scene = await client("scene")
    response = await scene.get("/1")
    await scene.get("/2")
    assert response.cookies["session"].value == "alice"
    assert [request.get("cookie") for request in upstream.requests] == [None, None]


async def test_no_redirect_is_followed(rig: Rig, client: Client) -> None:
    with Upstream(answer()) as elsewhere:
        upstream = rig["scene"].play(answer(302, b"", [("Location", elsewhere.url)]))
        scene = await client("scene")
        assert (await scene.get("/1")).status == 302
        assert "redirect" in str(await raised(scene.get_json("/1"), InvalidAnswer))
        assert (upstream.hits, elsewhere.hits) == (2, 0)


async def test_bare_aiohttp_would_have_kept_both(rig: Rig) -> None:
    """Why the two tests above are there."""
    upstream = rig["scene"].play(answer(headers=[("Set-Cookie", "session=alice; Path=/")]))
    jar = aiohttp.CookieJar(unsafe=True)  # An address is no name: else it would keep none for this test's host.
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        for _ in range(2):
            await (await session.get(f"http://127.0.0.1:{rig.ports.proxy}/scene/")).read()
    assert upstream.last.get("cookie") == "session=alice"
