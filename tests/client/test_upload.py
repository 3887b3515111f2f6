"""A body made as it is sent: it arrives, and its own failures stay its own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from sidecar.client.upload import LARGE, Upload, body_of, under_way, watched

FIELDS: CIMultiDict[str] = CIMultiDict()


async def pieces(*, fails: bool = False) -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"
    if fails:
        raise LookupError("own")


def test_what_is_sent_as_a_body() -> None:
    fields: CIMultiDict[str] = CIMultiDict()
    assert body_of(fields, {"a": 1}, None, "key-1") == b'{"a":1}'
    assert dict(fields) == {"Idempotency-Key": "key-1", "Content-Type": "application/json"}
    fields = CIMultiDict({"content-type": "text/plain", "idempotency-key": "mine"})
    assert body_of(fields, None, b"x", True) == b"x"
    assert dict(fields) == {"content-type": "text/plain", "idempotency-key": "mine"}
    with pytest.raises(ValueError, match="either json or data, not both"):
        body_of(fields, {}, b"", False)
    with pytest.raises(TypeError, match="no JSON form"):
        body_of(fields, {1, object()}, None, False)


async def test_passes_on_what_it_is_given() -> None:
    upload = Upload(pieces())
    assert [piece async for piece in upload] == [b"a", b"b"]
    assert upload.error is None


async def test_remembers_its_own_failure() -> None:
    upload = Upload(pieces(fails=True))
    with pytest.raises(LookupError):
        _ = [piece async for piece in upload]
    assert isinstance(upload.error, LookupError)


async def test_generator_that_is_not_async_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="an async iterator of bytes, but not a generator"):
        body_of(CIMultiDict(), None, (piece for piece in (b"a", b"b")), False)


async def test_what_is_no_bytes_is_refused_in_words() -> None:
    async def text() -> AsyncIterator[bytes]:
        yield "text"  # type: ignore[misc]

    upload = Upload(text())
    with pytest.raises(TypeError, match="must consist of bytes, not str"):
        await anext(upload)
    assert isinstance(upload.error, TypeError)


async def test_cancelled_task_that_the_app_awaits_is_the_apps() -> None:
    async def awaits_another() -> AsyncIterator[bytes]:
        other = asyncio.get_running_loop().create_future()
        other.cancel()
        yield await other

    upload = Upload(awaits_another())
    with pytest.raises(asyncio.CancelledError):
        await anext(upload)
    assert isinstance(upload.error, asyncio.CancelledError)


async def test_is_under_way_between_its_first_piece_and_its_end() -> None:
    upload = Upload(pieces())
    seen = [under_way(upload)]
    async for _ in upload:
        seen.append(under_way(upload))  # noqa: PERF401 - it is a state in between
    assert [*seen, under_way(upload)] == [False, False, True, False]
    assert [under_way(data) for data in (None, b"x", io.BytesIO(b"x"))] == [False, False, True]


async def test_cancellation_is_not_a_failure() -> None:
    async def endless() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    upload = Upload(endless())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await anext(upload)
    assert upload.error is None


def test_watches_iterators_only() -> None:
    assert [watched(FIELDS, data) for data in (None, b"x", "x", {"a": "b"})] == [None, b"x", "x", {"a": "b"}]
    assert isinstance(watched(FIELDS, pieces()), Upload)


def test_large_bodies_go_piece_by_piece() -> None:
    for kind in (bytes, bytearray, memoryview):
        assert watched(FIELDS, kind(bytes(LARGE))) == bytes(LARGE)
        assert watched(FIELDS, kind(bytes(LARGE + 1))).read() == bytes(LARGE + 1)
    for text in ("a" * (LARGE + 1), "\N{EURO SIGN}" * (LARGE // 2)):
        fields: CIMultiDict[str] = CIMultiDict()
        assert watched(fields, text).read() == text.encode()
        assert fields["Content-Type"] == "text/plain; charset=utf-8"
