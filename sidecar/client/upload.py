"""A request's body that an app makes as it is sent, and whose failures are the app's own.

Owns telling an error of the app's iterator from one of the connection: aiohttp makes the former into the latter.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final, Self

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
