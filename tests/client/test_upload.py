"""A body made as it is sent: it arrives, and its own failures stay its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from sidecar.client.upload import LARGE, Upload, body_of, watched


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
    with pytest.raises(ValueError, match="either json or data"):
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


async def test_being_cancelled_is_no_failure() -> None:
    async def endless() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    upload = Upload(endless())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await anext(upload)
    assert upload.error is None


def test_watches_iterators_only() -> None:
    assert [watched(data) for data in (None, b"x", "x", {"a": "b"})] == [None, b"x", "x", {"a": "b"}]
    assert isinstance(watched(pieces()), Upload)


def test_large_bodies_go_piece_by_piece() -> None:
    assert watched(bytes(LARGE)) == bytes(LARGE)
    assert watched(bytes(LARGE + 1)).read() == bytes(LARGE + 1)
