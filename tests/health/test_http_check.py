"""The request of a health check and how its answer is read: as leniently as the data path reads answers."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from sidecar.health.http_check import BODY_MAX, HEAD_MAX, ask
from sidecar.policy.settings import HealthSettings
from tests.support.upstream import RefusedPort
from tests.wire.test_lenient_answers import BODY, HEADS, MIXED

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Server(NamedTuple):
    port: int
    address: str = "127.0.0.1"
    server_name: str = "venue-service"
    authority: bytes = b"venue-service:3002"


async def told(*pieces: bytes, holds: bool = False, timeout: float = 5.0) -> tuple[str, bytes]:
    """The verdict on an answer that comes in these pieces, and how the connection looked to its server at the end:
    what came behind the request, with `broken` for a reset. `holds`: the server leaves the end to the check.
    """
    ended = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if not holds:
                writer.write_eof()
            ended.set_result(await reader.read())
        except ConnectionError:
            ended.set_result(b"broken")
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(timeout):
            reason = await ask(Server(server.sockets[0].getsockname()[1]), HealthSettings(path="/health"), None)
        return reason, await ended
    finally:
        server.close()


def bytewise(answer: bytes) -> list[bytes]:
    return [answer[at : at + 1] for at in range(len(answer))]


LENIENT = {
    **HEADS,
    **{f"mixed line ends: {where}": head for where, head in MIXED.items()},
    "a tab before the status": b"HTTP/1.1\t200 OK\r\nContent-Length: 9\r\n\r\n",
    "no phrase": b"HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\n",
    "bytes above 0x7f": b"HTTP/1.1 200 \xd6K\r\nX-A: \xff\r\nContent-Length: 9\r\n\r\n",
    "an empty value": OK + b"X-A:\r\nContent-Length: 9\r\n\r\n",
    "a long value": OK + b"X-A: " + b"a" * 20_000 + b"\r\nContent-Length: 9\r\n\r\n",
    "many fields": OK + b"".join(b"X-%d: a\r\n" % number for number in range(500)) + b"Content-Length: 9\r\n\r\n",
    "an interim answer": b"HTTP/1.1 103 Early Hints\nLink: x\n\n" + OK + b"Content-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("name", LENIENT)
async def test_what_an_app_would_get_passes(name: str) -> None:
    """Each of these is served by the data path (tests/wire/test_lenient_answers.py)."""
    answer = LENIENT[name] + BODY
    assert await told(answer, holds=True) == ("ok", b"")
    if len(answer) < 1000:
        assert await told(*bytewise(answer), holds=True) == ("ok", b"")


@pytest.mark.parametrize(
    "answer",
    [
        b"2\r\nok\r\n0\r\n\r\n",
        b"2 ; a = b\r\nok\r\n1;x\r\n!\r\n0\r\nX-Trailer: a\r\n\r\n",
        b"0A\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
        b"0\r\n\r\n",
    ],
)
async def test_chunks_have_an_end(answer: bytes) -> None:
    for pieces in ([CHUNKED + answer], bytewise(CHUNKED + answer)):
        assert await told(*pieces, holds=True) == ("ok", b"")
        assert (await told(*pieces))[0] == "ok"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OK + b"\r\nuntil the connection ends", "ok"),
        (OK + b"\r\n", "ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "ok"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "ok"),
        (b"HTTP/1.1 503 What\r\nContent-Length: 9\r\n\r\nshort", "status 503"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "status 101"),
        (OK + b"x-envoy-IMMEDIATE-health-check-fail:\r\n\r\n", "immediate_fail"),
        (OK + b"Content-Length: 9\r\n\r\nshort", "reset"),
        (CHUNKED + b"5\r\nshort", "reset"),
        (CHUNKED + b"5\r\nshort\r\n0\r\n", "reset"),
        (OK + b"Content-Le", "reset"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "reset"),
        (b"HTTP", "reset"),
        (b"", "reset"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "bad_response"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 600 What\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 2000 What\r\n\r\n", "bad_response"),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "bad_response"),
        (OK + b" folded\r\n\r\n", "bad_response"),
        (OK + b"no colon\r\n\r\n", "bad_response"),
        (OK + b"Content-Length: -1\r\n\r\n", "bad_response"),
        (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nshort", "bad_response"),
        (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_response"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", "bad_response"),
        (CHUNKED + b"x\r\n", "bad_response"),
        (CHUNKED + b"2\r\nokay\r\n0\r\n\r\n", "bad_response"),
        (CHUNKED + b"1%b\r\n" % (b"0" * 16), "bad_response"),
        (OK + b"X-A: " + b"a" * HEAD_MAX, "bad_response"),
    ],
)
async def test_which_answers_pass(answer: bytes, reason: str) -> None:
    assert (await told(answer))[0] == reason
    if len(answer) < 1000:
        assert (await told(*bytewise(answer)))[0] == reason


@pytest.mark.parametrize("length", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked", b"X-A: until the end"])
async def test_the_first_part_of_a_large_body_is_enough(length: bytes) -> None:
    head = OK + length + b"\r\n\r\n" + (b"F4240\r\n" if b"chunked" in length else b"")
    framing = len(head) - head.index(b"\r\n\r\n") - 4
    assert (await told(head, b"x" * (BODY_MAX - framing), holds=True))[0] == "ok"
    with pytest.raises(TimeoutError):
        await told(head, b"x" * (BODY_MAX - framing - 1), holds=True, timeout=0.2)


async def test_a_refused_connection_is_raised() -> None:
    with RefusedPort() as dead, pytest.raises(ConnectionRefusedError):
        await ask(Server(dead.port), HealthSettings(path="/"), None)
