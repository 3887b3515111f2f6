"""What a call sends as its body, and whose failures those of a body are that an app makes as it is sent.

Owns telling an error of the app's iterator from one of the connection: aiohttp makes the former into the latter.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final, Self

from multidict import CIMultiDict, istr

from sidecar.client import decoding

IDEMPOTENCY_KEY: Final = istr("Idempotency-Key")
CONTENT_TYPE: Final = istr("Content-Type")
LARGE: Final = 1024 * 1024
"""Bytes that aiohttp would rather send piece by piece, and warns of."""


class Upload:
    """An async iterator of bytes; `error` is what it raised, if it did."""

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._pieces: AsyncIterator[bytes] = aiter(source)
        self.error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise


def watched(data: Any) -> Any:
    """`data` as aiohttp takes it, an async iterable of bytes as an Upload. A streamed body is sent as it comes."""
    if data is None or isinstance(data, bytes | str):
        return io.BytesIO(data) if isinstance(data, bytes) and len(data) > LARGE else data
    if hasattr(data, "iter_any"):
        data = data.iter_any()
    return Upload(data) if isinstance(data, AsyncIterable) else data


def body_of(fields: CIMultiDict[str], json: Any, data: Any, idempotency_key: bool | str) -> Any:
    """What aiohttp is given as the body; adds the fields that go with it. Raises ValueError for two bodies, and
    TypeError for `json` that has no JSON form.
    """
    if idempotency_key:
        key = os.urandom(16).hex() if idempotency_key is True else idempotency_key
        fields.setdefault(IDEMPOTENCY_KEY, key)
    if json is None:
        return watched(data)
    if data is not None:
        raise ValueError("a call has either json or data")
    fields.setdefault(CONTENT_TYPE, "application/json")
    return watched(decoding.encode(json))
