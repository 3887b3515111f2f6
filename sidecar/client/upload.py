"""Prepares a call's body, and tells an error in the app's own body iterator from a connection error.

aiohttp turns an error of the iterator into a connection error, so this module records where it came from.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Generator
from typing import Any, Final, Self, cast

from multidict import CIMultiDict, istr

from sidecar.client import decoding

IDEMPOTENCY_KEY: Final = istr("Idempotency-Key")
CONTENT_TYPE: Final = istr("Content-Type")
LARGE: Final = 1024 * 1024
"""A body of more bytes than this goes to aiohttp as a file: aiohttp prefers to send it in pieces, and warns otherwise.
"""


class Upload:
    """An async iterator of bytes that remembers what happened. `error` is the exception that the app's iterator raised.
    `under_way` is whether the connection has taken a part of the body, but not all of it.
    """

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._pieces: AsyncIterator[bytes] = aiter(source)
        self._asked = 0
        self._ended = False
        self.error: BaseException | None = None

    @property
    def under_way(self) -> bool:
        return self._asked > 1 and not self._ended

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._asked += 1
        try:
            piece: object = await anext(self._pieces)
        except StopAsyncIteration:
            self._ended = True
            raise
        except asyncio.CancelledError as error:
            # Two causes: aiohttp gave up and cancelled the task that reads this iterator, or the app's iterator awaits
            # a task that something else cancelled. Only the second one is an error of the app.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self.error = error
            raise
        except Exception as error:
            self.error = error
            raise
        if not isinstance(piece, bytes | bytearray | memoryview):
            self.error = TypeError(f"a streamed body must consist of bytes, not {type(piece).__name__}")
            raise self.error
        return cast(bytes, piece)


def watched(fields: CIMultiDict[str], data: Any) -> Any:
    """Returns `data` in a form that aiohttp accepts; an async iterable of bytes becomes an Upload. A streamed response
    can be passed on while it is received.
    """
    if data is None:
        return None
    if isinstance(data, str) and len(data) > LARGE // 4:
        fields.setdefault(CONTENT_TYPE, "text/plain; charset=utf-8")  # The same as aiohttp sets for text.
        data = data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return io.BytesIO(data) if memoryview(data).nbytes > LARGE else data
    if isinstance(data, str):
        return data
    if hasattr(data, "iter_any"):
        data = data.iter_any()
    if isinstance(data, Generator):
        raise TypeError("data= takes bytes, text, a file, or an async iterator of bytes, but not a generator")
    return Upload(data) if isinstance(data, AsyncIterable) else data


def under_way(data: Any) -> bool:
    """Whether the connection may have taken a part of the body, but not all of it. A body that is sent in one piece is
    never partly sent.
    """
    return data.under_way if isinstance(data, Upload) else isinstance(data, io.IOBase)


def body_of(fields: CIMultiDict[str], json: Any, data: Any, idempotency_key: bool | str) -> Any:
    """Returns the body for aiohttp, and adds its headers to `fields`. Raises ValueError for two bodies, and TypeError
    for `json` that has no JSON form.
    """
    if idempotency_key:
        key = os.urandom(16).hex() if idempotency_key is True else idempotency_key
        fields.setdefault(IDEMPOTENCY_KEY, key)
    if json is None:
        return watched(fields, data)
    if data is not None:
        raise ValueError("a call takes either json or data, not both")
    fields.setdefault(CONTENT_TYPE, "application/json")
    return watched(fields, decoding.encode(json))
