"""What a call brings: aiohttp's response, which knows of what call it is, and whose streamed body fails in our words.

Owns which error a status of the service's own is. Owns nothing of how the answer came to be; `service_client` makes the
calls.
"""

from __future__ import annotations

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


class Call(msgspec.Struct, frozen=True, gc=False):
    """What errors name a call by. `path` without its query."""

    service: str
    method: str
    path: str
    request_id: str

    def known(self) -> dict[str, str]:
        """As arguments of a CallError."""
        return {"service": self.service, "method": self.method, "path": self.path, "request_id": self.request_id}


class Response(aiohttp.ClientResponse):
    """An answer. After `get()` and its like it is read: `body` is there, and `json()`, `text()`, `read()` do not wait.

    In a `stream()` the body is at `content`, and is read as the app reads it.
    """

    call: Call
    """Set by the client before an app sees the response."""

    def __repr__(self) -> str:
        """Without the query and the headers, which may hold secrets: aiohttp's has both."""
        call = getattr(self, "call", None)
        named = f" {call.service}: {call.method} {call.path}" if call is not None else ""
        return f"<{type(self).__name__}{named} [{self.status}]>"

    @property
    def body(self) -> bytes:
        """The whole body. Raises RuntimeError in a stream of which `read()` was not awaited."""
        if self._body is None:
            raise RuntimeError("this body is streamed: read it from `content`, or await read()")
        return self._body

    @property
    def request_id(self) -> str:
        return self.call.request_id

    @property
    def attempts(self) -> int:
        """How many the sidecar made for this answer."""
        return told_attempts(self) or 1

    @property
    def fallback(self) -> str:
        """What answered in the service's place (`stale`, `static`, ... of the sidecar's file); "" where nothing did."""
        return self.headers.get(FALLBACK, "")

    @overload
    def decode(self, type: type[T]) -> T: ...
    @overload
    def decode(self, type: TypeForm[T]) -> T: ...
    @overload
    def decode(self, type: Any = ...) -> Any: ...
    def decode(self, type: Any = Any) -> Any:  # noqa: A002 - the word that json libraries use
        """The body from JSON, as a `type`. Raises InvalidAnswer."""
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
        """As aiohttp has it, but raises InvalidAnswer where the body is not JSON or is not said to be."""
        try:
            return await super().json(encoding=encoding, loads=loads, content_type=content_type)
        except aiohttp.ContentTypeError:
            raise self.invalid(f"not said to be {content_type}") from None
        except ValueError as error:
            raise self.invalid(f"not JSON: {type(error).__name__}") from None

    def raise_for_status(self) -> None:
        """Raises for a 4xx or 5xx what a call raises that has no `raise_for_status=False`."""
        if self.status >= 400:
            raise self.failure(self._body or b"")

    def failure(self, body: bytes) -> ResponseError:
        """A status of 400 and above that is the service's own, as an error."""
        kind = ServiceError if self.status >= 500 else NotFound if self.status == 404 else ClientError
        return kind(headers=self.headers, body=body, attempts=self.attempts, status=self.status, **self.call.known())

    def guard_body(self, failed: Callable[[Exception], CallError]) -> None:
        """From here on, reading `content` raises our errors."""
        self.content = cast(aiohttp.StreamReader, Body(self.content, failed))

    async def beginning(self, size: int) -> bytes:
        """The body, up to `size` bytes, of an answer whose body is streamed."""
        read = bytearray()
        while len(read) < size and (piece := await self.content.read(size - len(read))):
            read += piece
        return bytes(read)

    def invalid(self, detail: str) -> InvalidAnswer:
        content_type = self.content_type if "Content-Type" in self.headers else "no Content-Type"
        words = f"{self.status} with {content_type}: {detail}"
        return InvalidAnswer(words, attempts=self.attempts, status=self.status, **self.call.known())


def told_attempts(response: aiohttp.ClientResponse) -> int:
    """What the sidecar says of its attempts in the head; 0 where it says nothing."""
    told = response.headers.get(ATTEMPTS, "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 10 else 0


class Body:
    """A streamed body, read as aiohttp's StreamReader is, that raises our errors where that raises aiohttp's."""

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
        """By lines."""
        return Pieces(self.readline, b"")

    def iter_chunked(self, n: int) -> Pieces[bytes]:
        """By at most `n` bytes."""
        return Pieces(lambda: self.read(n), b"")

    def iter_any(self) -> Pieces[bytes]:
        """As it comes."""
        return Pieces(self.readany, b"")

    def iter_chunks(self) -> Pieces[tuple[bytes, bool]]:
        """As it comes, and whether a chunk of the transfer coding ends there."""
        return Pieces(self.readchunk, (b"", False))

    def __getattr__(self, name: str) -> Any:
        """All that does not wait: `at_eof`, `total_bytes`, ..."""
        return getattr(self._reader, name)


class Pieces(Generic[T]):
    """What `read` returns, until it is `end`. No generator: a loop that is left early leaves nothing to be closed."""

    def __init__(self, read: Callable[[], Awaitable[T]], end: T) -> None:
        self._read, self._end = read, end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        piece = await self._read()
        if piece == self._end:
            raise StopAsyncIteration
        return piece
