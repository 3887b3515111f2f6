"""The limited Redis parser, in redis-py's own connection to a stream."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from sidecar.health.checks.redis_lines import LineParser

LINE = 64 * 1024


async def read(*said: bytes, ends: bool = True) -> bytes | exceptions.ResponseError:
    """The first answer of a stream that says these, one after the other."""
    stream = asyncio.StreamReader()
    for piece in said:
        stream.feed_data(piece)
    if ends:
        stream.feed_eof()
    parser = LineParser(socket_read_size=65536)
    parser.on_connect(SimpleNamespace(_reader=stream, encoder=None))
    return await parser.read_response()


async def test_simple_strings_and_errors() -> None:
    assert await read(b"+PONG\r\n", b"+more\r\n") == b"PONG"
    assert await read(b"+PO", b"NG\r", b"\n") == b"PONG"
    assert await read(b"+\r\n") == b""
    assert isinstance(await read(b"-NOPERM no\r\n"), exceptions.NoPermissionError)
    assert isinstance(await read(b"-\xff\r\n"), exceptions.ResponseError)
    # Those that redis-py counts as errors of the connection are raised at once.
    with pytest.raises(exceptions.AuthenticationError):
        await read(b"-NOAUTH Authentication required.\r\n")
    with pytest.raises(exceptions.BusyLoadingError):
        await read(b"-LOADING wait\r\n")


@pytest.mark.parametrize(
    "said", [b"$4\r\nPONG\r\n", b"$500000000\r\n", b"*1\r\n+PONG\r\n", b"*100000000\r\n", b":1\r\n", b"PONG\r\n", b"\n"]
)
async def test_other_answers_are_refused_at_their_first_line(said: bytes) -> None:
    with pytest.raises(exceptions.InvalidResponse):
        await read(said, ends=False)


async def test_a_line_is_limited() -> None:
    assert await read(b"+" + b"x" * (LINE - 2) + b"\r\n") == b"x" * (LINE - 2)
    for said in (b"+" + b"x" * LINE + b"\r\n", b"-" + b"x" * LINE + b"\r\n", b"x" * 2 * LINE):
        with pytest.raises(exceptions.InvalidResponse):
            await read(said, ends=False)


@pytest.mark.parametrize("said", [b"", b"+PONG", b"+PONG\r", b"+PONG\n", b"-ERR"])
async def test_a_line_that_breaks_off(said: bytes) -> None:
    with pytest.raises(exceptions.ConnectionError):
        await read(said)


async def test_a_parser_without_a_connection() -> None:
    with pytest.raises(exceptions.ConnectionError):
        await LineParser(socket_read_size=65536).read_response()


@given(st.binary(max_size=40))
def test_any_bytes_give_an_answer_or_a_redis_error(said: bytes) -> None:
    try:
        found = asyncio.run(read(said))
    except exceptions.RedisError:
        return
    assert isinstance(found, exceptions.ResponseError) or said.startswith(b"+" + found + b"\r\n")
