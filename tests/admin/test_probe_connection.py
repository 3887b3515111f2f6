"""HTTP/1.1 of the probe listener: what it reads, refuses, keeps and ends, on a loopback socket."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.admin import probe_connection
from sidecar.admin.probe_answers import Answer, text
from sidecar.admin.probe_connection import MAX_HEAD, MOST_BODY_BYTES, ProbeServer
from sidecar.net.http_listener import Bounds, HttpListener
from tests.support.kubernetes_api import until

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


class Listening:
    """A listener whose `/slow` waits for `gate`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.body: list[bytes] = [b"slow\n"]
        self.error: Exception | None = None
        self.server = ProbeServer(self._at_once, self._in_time)
        self.port = 0
        self.opened: list[asyncio.StreamWriter] = []

    def _at_once(self, method: str, path: str) -> Answer | None:
        self.asked.append((method, path))
        return None if path == "/slow" else text(200, f"{path}\n")

    async def _in_time(self, path: str) -> Answer:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Answer(200, self.body, {"Content-Type": "text/plain"})

    async def open(self) -> Stream:
        stream = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(stream[1])
        return stream

    async def said(self, sent: bytes) -> bytes:
        """All that comes back until the connection ends."""
        reader, writer = await self.open()
        writer.write(sent)
        async with asyncio.timeout(5):
            return await reader.read()


@asynccontextmanager
async def listening(**bounds: float) -> AsyncIterator[Listening]:
    found = Listening()
    found.server.listener = HttpListener(found.server, Bounds(**{"most": 20} | bounds))  # type: ignore[arg-type]
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    found.port = bound.getsockname()[1]
    await found.server.listener.start([bound])
    try:
        yield found
    finally:
        await found.server.listener.end(0.1)
        for writer in found.opened:
            writer.transport.abort()


@pytest.fixture
async def found() -> AsyncIterator[Listening]:
    async with listening() as one:
        yield one


async def answered(stream: Stream) -> bytes:
    """One response with its body."""
    async with asyncio.timeout(5):
        head = await stream[0].readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await stream[0].readexactly(length)


async def test_a_whole_response(found: Listening) -> None:
    stream = await found.open()
    stream[1].write(ASK)
    head, _, body = (await answered(stream)).partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    assert (first, body) == (b"HTTP/1.1 200 OK", b"/livez\n")
    values = dict(field.split(b": ", 1) for field in fields)
    assert values.pop(b"Date").endswith(b" GMT")
    assert values == {b"Content-Type": b"text/plain; charset=utf-8", b"Content-Length": b"7", b"Server": b"sidecar"}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_however_a_request_is_cut(found: Listening, size: int) -> None:
    stream = await found.open()
    sent = ASK + b"\r\n" + ASK.replace(b"/livez", b"/slow") + ASK
    for start in range(0, len(sent), size):
        stream[1].write(sent[start : start + size])
        await asyncio.sleep(0)
    assert [(await answered(stream)).rpartition(b"\r\n")[2] for _ in range(3)] == [b"/livez\n", b"slow\n", b"/livez\n"]
    assert len(found.asked) == 3


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/livez?verbose=1", "/livez"),
        ("http://10.0.0.1:15021/livez", "/livez"),
        ("http://10.0.0.1", "/"),
        ("//livez", "//livez"),
        ("/liv%65z", "/liv%65z"),
        ("*", "*"),
    ],
)
async def test_the_path_of_a_target(found: Listening, target: str, path: str) -> None:
    stream = await found.open()
    stream[1].write(f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await answered(stream)
    assert found.asked == [("OPTIONS", path)]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x00\xff garbage", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"b" * MAX_HEAD + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * MAX_HEAD, 431),
    ],
)
async def test_what_is_not_sound_is_refused_and_the_connection_ends(
    found: Listening, sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    got = await found.said(sent + ASK)  # whatever comes behind it is no request
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in got
    assert found.asked == []
    assert not caplog.records  # else anyone could fill the log


async def test_a_head_may_have_all_of_its_size(found: Listening) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nA: "
    stream = await found.open()
    stream[1].write(head + b"b" * (MAX_HEAD - len(head) - 4) + b"\r\n\r\n")
    assert (await answered(stream)).startswith(b"HTTP/1.1 200")
    got = await found.said(head + b"b" * (MAX_HEAD - len(head) - 3) + b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "ends",
    [b"Connection: close\r\n", b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"],
)
async def test_what_ends_the_connection_after_its_response(found: Listening, ends: bytes) -> None:
    got = await found.said(ASK[:-2] + ends + b"\r\n" + ASK)
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in got
    assert len(found.asked) == 1


async def test_http_1_0_is_answered_once(found: Listening) -> None:
    got = await found.said(b"GET /livez HTTP/1.0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"\r\nConnection: close\r\n\r\n/livez\n")


@pytest.mark.parametrize("path", [b"/livez", b"/slow"])
async def test_a_body_is_discarded_and_the_connection_kept(found: Listening, path: bytes) -> None:
    stream = await found.open()
    head = b"GET %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, MOST_BODY_BYTES)
    stream[1].write(head + b"G" * MOST_BODY_BYTES + ASK)
    assert (await answered(stream)).startswith(b"HTTP/1.1 200")
    assert (await answered(stream)).endswith(b"/livez\n")


async def test_a_longer_body_ends_the_connection_and_its_response_is_read(found: Listening) -> None:
    head = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY_BYTES + 1)
    got = await found.said(head + b"G" * (MOST_BODY_BYTES + 1))
    assert got.startswith(b"HTTP/1.1 200")


async def test_who_sends_on_after_the_end_is_disconnected(found: Listening) -> None:
    _, writer = await found.open()
    writer.write(b"garbage\r\n\r\n")
    await until(lambda: bool(found.server.connections))

    async def send_on() -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        await send_on()
    await until(lambda: not found.server.connections)


async def test_who_does_not_close_is_disconnected(found: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_connection, "LINGER_S", 0.05)
    stream = await found.open()
    stream[1].write(b"garbage\r\n\r\n")
    await until(lambda: bool(found.server.connections))
    await until(lambda: not found.server.connections)


async def test_head_has_the_length_but_no_body(found: Listening) -> None:
    stream = await found.open()
    for path, length in ((b"/livez", 7), (b"/slow", 5)):
        stream[1].write(b"HEAD %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        head = await stream[0].readuntil(b"\r\n\r\n")
        assert b"\r\nContent-Length: %d\r\n" % length in head
    stream[1].write(ASK)
    assert (await answered(stream)).startswith(b"HTTP/1.1 200")


async def test_requests_wait_for_the_one_before_and_keep_their_order(found: Listening) -> None:
    found.gate.clear()
    stream = await found.open()
    stream[1].write(ASK.replace(b"/livez", b"/slow") + ASK)
    await until(lambda: len(found.asked) == 1)
    await asyncio.sleep(0.05)
    assert len(found.asked) == 1
    found.gate.set()
    assert (await answered(stream)).endswith(b"slow\n")
    assert (await answered(stream)).endswith(b"/livez\n")


async def test_many_requests_ahead_of_their_responses_end_the_connection(found: Listening) -> None:
    found.gate.clear()
    stream = await found.open()
    stream[1].write(ASK.replace(b"/livez", b"/slow"))
    await until(lambda: len(found.asked) == 1)
    stream[1].write(ASK * (MAX_HEAD // len(ASK) + 1))
    await until(lambda: not found.server.connections)
    found.gate.set()


async def test_a_client_with_many_requests_takes_turns_with_the_others(found: Listening) -> None:
    greedy, other = await found.open(), await found.open()
    greedy[1].write(ASK * 400)
    other[1].write(ASK.replace(b"/livez", b"/readyz"))
    await answered(other)
    assert len(found.asked) < 400


async def test_a_long_response_comes_whole(found: Listening) -> None:
    found.body = [b"a" * 300_000, b"b", b"c" * 65536]
    stream = await found.open()
    stream[1].write(ASK.replace(b"/livez", b"/slow"))
    assert (await answered(stream)).partition(b"\r\n\r\n")[2] == b"".join(found.body)
    stream[1].write(ASK)
    assert (await answered(stream)).endswith(b"/livez\n")


async def test_an_empty_response_has_its_head(found: Listening) -> None:
    found.body = []
    stream = await found.open()
    stream[1].write(ASK.replace(b"/livez", b"/slow"))
    assert b"\r\nContent-Length: 0\r\n" in await answered(stream)


async def test_a_reader_that_takes_nothing_is_disconnected(found: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_connection, "LONGEST_WRITE_S", 0.1)
    found.body = [b"a" * 32 * 1024 * 1024]
    reader, writer = await found.open()
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(ASK.replace(b"/livez", b"/slow"))
    await until(lambda: len(found.asked) == 1)
    await until(lambda: not found.server.connections)


async def test_who_asks_and_reads_nothing_is_not_answered_on_and_on(found: Listening) -> None:
    reader, writer = await found.open()
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(400):
        writer.write(ASK * 100)
        await asyncio.sleep(0)
        if not found.server.connections:
            break
    await until(lambda: not found.server.connections)
    assert len(found.asked) < 40_000


async def test_a_client_that_leaves_ends_the_wait_for_its_answer(found: Listening) -> None:
    found.gate.clear()
    stream = await found.open()
    stream[1].write(ASK.replace(b"/livez", b"/slow"))
    await until(lambda: len(found.server.tasks) == 1)
    stream[1].close()
    await until(lambda: not found.server.tasks)


async def test_a_defect_is_a_500_and_logged(found: Listening, caplog: pytest.LogCaptureFixture) -> None:
    found.error = OSError("10.0.0.7 refused")
    stream = await found.open()
    stream[1].write(ASK.replace(b"/livez", b"/slow"))
    with caplog.at_level(logging.ERROR):
        got = await answered(stream)
    assert got.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"10.0.0.7" not in got
    assert "10.0.0.7 refused" in caplog.text
    stream[1].write(ASK)
    assert (await answered(stream)).startswith(b"HTTP/1.1 200")


async def test_an_idle_time_runs_from_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.net.http_listener._SWEEP_S", 0.01)
    async with listening(idle_s=0.05) as found:
        stream = await found.open()
        stream[1].write(ASK + b"GET /liv")
        await answered(stream)
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.IncompleteReadError):
                await stream[0].readexactly(1)


async def test_at_the_end_a_response_under_way_is_sent_and_the_connection_closed() -> None:
    async with listening() as found:
        found.gate.clear()
        idle, busy = await found.open(), await found.open()
        busy[1].write(ASK.replace(b"/livez", b"/slow"))
        await until(lambda: len(found.server.tasks) == 1)
        await until(lambda: len(found.server.connections) == 2)
        asyncio.get_running_loop().call_later(0.05, found.gate.set)
        async with asyncio.timeout(5):
            await found.server.listener.end(5.0)
            assert await idle[0].read() == b""
            got = await busy[0].read()
        assert got.endswith(b"slow\n")


@given(st.lists(st.binary(max_size=40) | st.sampled_from([ASK, b"\r\n", b"GET /livez HTTP/1.1\r\n"]), max_size=6))
def test_whatever_is_sent_is_answered_or_waited_for(pieces: list[bytes]) -> None:
    """No input raises in a callback, where the event loop would only log it."""

    async def dialogue() -> None:
        failed: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        async with listening() as found:
            reader, writer = await found.open()
            for piece in pieces:
                writer.write(piece)
            writer.write_eof()
            async with asyncio.timeout(5):
                got = await reader.read()
            assert got == b"" or got.startswith(b"HTTP/1.1 ")
        assert not failed

    asyncio.run(dialogue())
