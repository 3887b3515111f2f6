"""The response to a call: aiohttp's response with the call's identity, typed decoding, and this client's exceptions.

This module owns which exception a status of the service raises. `service_client` makes the calls.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast, overload

import aiohttp
import msgspec
from multidict import istr

from sidecar.client import decoding
from sidecar.client.errors import CallError, ClientError, InvalidAnswer, NotFound, ResponseError, ServiceError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

ATTEMPTS: Final = istr("x-envoy-attempt-count")
FALLBACK: Final = istr("x-sidecar-fallback")
REASON: Final = istr("x-sidecar-reason")
REQUEST_ID: Final = istr("X-Request-Id")
CODING: Final = istr("Content-Encoding")

_BOM: Final = codecs.BOM_UTF8


class Call(msgspec.Struct, frozen=True, gc=False):
    """A call's identity, as errors name it. `path` has no query."""

    service: str
    method: str
    path: str
    request_id: str

    def known(self) -> dict[str, Any]:
        """The identity as keyword arguments of a CallError."""
        return {"service": self.service, "method": self.method, "path": self.path, "request_id": self.request_id}


class Response(aiohttp.ClientResponse):
    """A response. After `get()` and similar calls the body has been read: `body` is set, and `json()`, `text()` and
    `read()` do not wait.

    In a `stream()` block, the app reads the body from `content`.
    """

    call: Call
    """The client sets it before the app sees the response."""

    def __repr__(self) -> str:
        """Leaves out the query and the headers, which may hold secrets; aiohttp's `repr` has both."""
        call = getattr(self, "call", None)
        named = f" {call.service}: {call.method} {call.path}" if call is not None else ""
        return f"<{type(self).__name__}{named} [{self.status}]>"

    @property
    def body(self) -> bytes:
        """The whole body. Raises RuntimeError in a stream until `read()` was awaited."""
        if self._body is None:
            raise RuntimeError("this body is streamed: read it from `content`, or await read()")
        return self._body

    @property
    def request_id(self) -> str:
        return self.call.request_id

    @property
    def attempts(self) -> int:
        """How many attempts the sidecar made for this response."""
        return told_attempts(self) or 1

    @property
    def fallback(self) -> str:
        """The fallback that answered in the service's place (`stale`, `static`, ...); "" if the service answered."""
        return self.headers.get(FALLBACK, "")

    async def read(self) -> bytes:
        """The whole body. Raises InvalidAnswer for one that is over MAX_UNPACKED bytes when it is unpacked."""
        if self._body is not None or CODING not in self.headers:
            return await super().read()
        pieces, size = [], 0
        try:
            while piece := await self.content.readany():
                pieces.append(piece)
                size += len(piece)
                if size > decoding.MAX_UNPACKED:
                    raise self.invalid(f"the body is over {decoding.MAX_UNPACKED} bytes when it is unpacked")
        except BaseException:
            self.close()
            raise
        await super().read()
        self._body = b"".join(pieces)
        return self._body

    @overload
    def decode(self, type: type[T]) -> T: ...
    @overload
    def decode(self, type: TypeForm[T]) -> T: ...
    @overload
    def decode(self, type: Any = ...) -> Any: ...
    def decode(self, type: Any = Any) -> Any:  # noqa: A002 - the word that json libraries use
        """The body, decoded from JSON to a `type`. Raises InvalidAnswer."""
        try:
            return decoding.decode(self.body, type)
        except decoding.Mismatch as mismatch:
            raise self.invalid(str(mismatch)) from None

    async def json(
        self,
        *,
        encoding: str | None = None,
        loads: Callable[[str], Any] = json.loads,
        content_type: str | None = "application/json",
    ) -> Any:
        """Like aiohttp's `json`, but raises InvalidAnswer if the body is not JSON or its Content-Type differs."""
        if encoding is None and (await self.read()).startswith(_BOM):
            encoding = "utf-8-sig"
        try:
            return await super().json(encoding=encoding, loads=loads, content_type=content_type)
        except aiohttp.ContentTypeError:
            raise self.invalid(f"its Content-Type is not {content_type}") from None
        except ValueError as error:
            raise self.invalid(f"not JSON: {type(error).__name__}") from None

    def raise_for_status(self) -> None:
        """Raises for a 4xx or 5xx the same exception as a call without `raise_for_status=False`."""
        if self.status >= 400:
            raise self.failure(self._body or b"")

    def failure(self, body: bytes) -> ResponseError:
        """The exception for a status of 400 or above that the service itself sent."""
        kind = ServiceError if self.status >= 500 else NotFound if self.status == 404 else ClientError
        return kind(headers=self.headers, body=body, attempts=self.attempts, status=self.status, **self.call.known())

    def guard_body(self, failed: Callable[[Exception], CallError]) -> None:
        """From now on, reading `content` raises this client's exceptions."""
        self.content = cast(aiohttp.StreamReader, Body(self.content, failed))

    async def beginning(self, size: int) -> bytes:
        """The first `size` bytes of a streamed body."""
        read = bytearray()
        while len(read) < size and (piece := await self.content.read(size - len(read))):
            read += piece
        return bytes(read)

    def invalid(self, detail: str) -> InvalidAnswer:
        content_type = self.content_type if "Content-Type" in self.headers else "no Content-Type"
        words = f"{self.status} with {content_type}: {detail}"
        return InvalidAnswer(words, attempts=self.attempts, status=self.status, **self.call.known())


def told_attempts(response: aiohttp.ClientResponse) -> int:
    """The number of attempts in the response head; 0 if it has none."""
    told = response.headers.get(ATTEMPTS, "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 10 else 0


class Body:
    """A streamed body with the interface of aiohttp's StreamReader. It raises this client's exceptions."""

    def __init__(self, reader: aiohttp.StreamReader, failed: Callable[[Exception], CallError]) -> None:
        self._reader = reader
        self._failed = failed

    async def _ours(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(error) from error

    async def read(self, n: int = -1) -> bytes:
        return await self._ours(self._reader.read(n))

    async def readany(self) -> bytes:
        return await self._ours(self._reader.readany())

    async def readchunk(self) -> tuple[bytes, bool]:
        return await self._ours(self._reader.readchunk())

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        return await self._ours(self._reader.readline(max_line_length=max_line_length))

    async def readuntil(self, separator: bytes = b"\n", *, max_size: int | None = None) -> bytes:
        return await self._ours(self._reader.readuntil(separator, max_size=max_size))

    async def readexactly(self, n: int) -> bytes:
        return await self._ours(self._reader.readexactly(n))

    def __aiter__(self) -> Pieces[bytes]:
        """Iterates over lines."""
        return Pieces(self.readline, b"")

    def iter_chunked(self, n: int) -> Pieces[bytes]:
        """Iterates over pieces of at most `n` bytes."""
        return Pieces(lambda: self.read(n), b"")

    def iter_any(self) -> Pieces[bytes]:
        """Iterates over pieces as they arrive."""
        return Pieces(self.readany, b"")

    def iter_chunks(self) -> Pieces[tuple[bytes, bool]]:
        """Iterates over pieces as they arrive, each with whether it ends a chunk of the chunked transfer coding."""
        return Pieces(self.readchunk, (b"", False))

    def __getattr__(self, name: str) -> Any:
        """Everything that does not wait: `at_eof`, `total_bytes` and others."""
        return getattr(self._reader, name)


class Pieces(Generic[T]):
    """Iterates over the results of `read` until one equals `end`. It is not a generator, so a loop that is left early
    leaves nothing to close.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], end: T) -> None:
        self._read, self._end = read, end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        piece = await self._read()
        if piece == self._end:
            raise StopAsyncIteration
        return piece
