"""What a call sends as its body, and whose failures those of a body are that an app makes as it is sent.

Owns telling an error of the app's iterator from one of the connection: aiohttp makes the former into the latter.
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
"""Bytes that aiohttp would rather send piece by piece, and warns of."""


class Upload:
    """An async iterator of bytes. `error` is what it raised, if it did; `under_way`, whether the connection has taken
    some and not all of it.
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
            # Either aiohttp gives up, and cancels the task that reads us, or it is the app's: it awaits a task that
            # somebody has cancelled.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self.error = error
            raise
        except Exception as error:
            self.error = error
            raise
        if not isinstance(piece, bytes | bytearray | memoryview):
            self.error = TypeError(f"a body that is streamed comes as bytes, not as {type(piece).__name__}")
            raise self.error
        return cast(bytes, piece)


def watched(fields: CIMultiDict[str], data: Any) -> Any:
    """`data` as aiohttp takes it, an async iterable of bytes as an Upload. A streamed body is sent as it comes."""
    if data is None:
        return None
    if isinstance(data, str) and len(data) > LARGE // 4:
        fields.setdefault(CONTENT_TYPE, "text/plain; charset=utf-8")  # As aiohttp has it for text.
        data = data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return io.BytesIO(data) if memoryview(data).nbytes > LARGE else data
    if isinstance(data, str):
        return data
    if hasattr(data, "iter_any"):
        data = data.iter_any()
    if isinstance(data, Generator):
        raise TypeError("data= takes bytes, text, a file, or an async iterator of bytes; this generator is none")
    return Upload(data) if isinstance(data, AsyncIterable) else data


def under_way(data: Any) -> bool:
    """Whether the connection may have taken a part of a body, and not all: what is sent at once never breaks off."""
    return data.under_way if isinstance(data, Upload) else isinstance(data, io.IOBase)


def body_of(fields: CIMultiDict[str], json: Any, data: Any, idempotency_key: bool | str) -> Any:
    """What aiohttp is given as the body; adds the fields that go with it. Raises ValueError for two bodies, and
    TypeError for `json` that has no JSON form.
    """
    if idempotency_key:
        key = os.urandom(16).hex() if idempotency_key is True else idempotency_key
        fields.setdefault(IDEMPOTENCY_KEY, key)
    if json is None:
        return watched(fields, data)
    if data is not None:
        raise ValueError("a call has either json or data")
    fields.setdefault(CONTENT_TYPE, "application/json")
    return watched(fields, decoding.encode(json))
