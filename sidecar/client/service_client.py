"""Client for one service, used instead of an HTTP library.

This module owns the steps of a call and the order in which its response is checked. The client never sends a request
twice. The sidecar knows the endpoints, the retry budget and the breaker, so it alone decides on retries. Retries in the
client as well would multiply.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from math import inf
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypedDict, TypeVar, Unpack, cast, overload

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from sidecar.client import address, decoding, failures, outgoing, pool
from sidecar.client.address import Params
from sidecar.client.context import deadline
from sidecar.client.errors import CallError, NotFound
from sidecar.client.outgoing import Headers
from sidecar.client.response import REASON, Call, Response
from sidecar.client.upload import body_of

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

STREAM_HEAD_S: Final = 3600.0
"""Seconds until the head of a streamed response, including the whole upload before it, if there is no deadline."""
STREAM_IDLE_S: Final = 300.0
"""Seconds to wait for each piece of a streamed body. The sidecar's `timeout.idle` is shorter, unless the sidecar hangs.
"""
MAX_ERROR_BODY: Final = 64 * 1024
"""How many bytes of a stream's error response are read for the exception."""
HEALTH_S: Final = 2.0

log = logging.getLogger("sidecar.client")

_BY_PIECE: Final = aiohttp.ClientTimeout(total=None, sock_connect=pool.CONNECT_S, sock_read=STREAM_IDLE_S)


class CallOptions(TypedDict, total=False):
    """Options of every call.

    `params` is added to the path's query; the values of a list become one parameter each. Text is a query, and what is
    percent-encoded in it or in the path is sent as it is. A value that is neither text nor a number is a TypeError,
    because services do not agree on how to write None, True or a date. `headers` override
    those that the client adds. `raise_for_status` overrides the client's setting.
    """

    params: Params | None
    headers: Headers | None
    raise_for_status: bool | None


class SendOptions(CallOptions, total=False):
    """Additional options of a call with a body.

    Give the body either as `json` (anything that `decoding.encode` accepts; None means no body), or as `data` in a form
    that aiohttp accepts: bytes, text, a file, FormData, an async iterator of bytes. With `idempotency_key` the sidecar
    may retry a POST or PATCH. True creates a key for this call; text is a key of your own.
    """

    json: Any
    data: Any
    idempotency_key: bool | str


class ServiceClient:
    """`async with ServiceClient("venue") as venue:` calls a service by its name in the sidecar's file.

    `base_url` is the sidecar's address. The default is SIDECAR_URL, then http://localhost:15001. `deadline` is the
    longest time of each call, in seconds. `headers` are added to each call. An app may not set Host, Content-Length or
    Transfer-Encoding, here or in a call.

    A 4xx or 5xx of the service raises, unless `raise_for_status` is False. An error response that the sidecar itself
    made always raises. All errors are CallErrors. Redirects are not followed, because one could lead past the sidecar.

    A client can be created anywhere. It must be opened in the event loop that uses it. All clients of a loop share
    their connections. Raises ValueError for an invalid service name or `base_url`.
    """

    def __init__(
        self,
        service: str,
        *,
        base_url: str | None = None,
        deadline: float | None = None,
        headers: Headers | None = None,
        raise_for_status: bool = True,
    ) -> None:
        if deadline is not None and not 0 < deadline < inf:
            raise ValueError(f"a deadline is a positive, finite number of seconds, not {deadline}")
        self.service = address.service(service)
        self._given_url = base_url
        self._locate()
        self._deadline_s = deadline
        self._headers: CIMultiDict[str] = CIMultiDict(headers or {})
        address.check_fields(self._headers)
        self._raise_for_status = raise_for_status
        self._shared: pool.Shared | None = None

    def _locate(self) -> None:
        """Runs again when the client opens, because a module may create a client before SIDECAR_URL is set."""
        self.base_url = address.base_url(self._given_url)
        self._prefix = f"{self.base_url}/{self.service}"

    # Opening and closing.

    async def open(self) -> Self:
        """Opens the client, as `async with` does; `close` is the counterpart. Raises RuntimeError if already open. The
        end of the event loop in which it was opened has closed it.
        """
        if self.is_open:
            raise RuntimeError(f"{self!r} is open already")
        await self.close()
        self._locate()
        self._shared = pool.acquire()
        return self

    async def close(self) -> None:
        """Closes the client. The last client of a loop also closes the connections to the sidecar and ends the calls
        that still use them. Closing twice does nothing. Raises RuntimeError in another loop than the one it was opened
        in, unless that one has ended: then the client is closed already.
        """
        shared = self._shared
        if shared is not None:
            if self.is_open and shared.loop is not asyncio.get_running_loop():
                raise self._not_open_here()
            self._shared = None
            await pool.release(shared)

    @property
    def is_open(self) -> bool:
        """Whether the client is open, in an event loop that has not ended."""
        return self._shared is not None and not self._shared.loop.is_closed()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service} at {self.base_url}>"

    # Calls.

    async def get(self, path: str, **options: Unpack[CallOptions]) -> Response:
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Unpack[CallOptions]) -> Response:
        return await self.request("HEAD", path, **options)

    async def post(self, path: str, **options: Unpack[SendOptions]) -> Response:
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Unpack[SendOptions]) -> Response:
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Unpack[SendOptions]) -> Response:
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Unpack[SendOptions]) -> Response:
        return await self.request("DELETE", path, **options)

    @overload
    async def get_json(
        self, path: str, *, type: type[T], missing_ok: Literal[False] = ..., **options: Unpack[CallOptions]
    ) -> T: ...
    @overload
    async def get_json(
        self, path: str, *, type: type[T], missing_ok: bool, **options: Unpack[CallOptions]
    ) -> T | None: ...
    @overload
    async def get_json(
        self, path: str, *, type: TypeForm[T], missing_ok: Literal[False] = ..., **options: Unpack[CallOptions]
    ) -> T: ...
    @overload
    async def get_json(
        self, path: str, *, type: TypeForm[T], missing_ok: bool, **options: Unpack[CallOptions]
    ) -> T | None: ...
    @overload
    async def get_json(
        self, path: str, *, type: Any = ..., missing_ok: bool = ..., **options: Unpack[CallOptions]
    ) -> Any: ...
    async def get_json(
        self,
        path: str,
        *,
        type: Any = Any,  # noqa: A002 - the word that json libraries use
        missing_ok: bool = False,
        **options: Unpack[CallOptions],
    ) -> Any:
        """The JSON at `path` as a `type`: a dataclass, a msgspec Struct, a TypedDict, a pydantic model, or a list of
        them.

        With `missing_ok`, a 404 of the service returns None; a service that the sidecar does not know still raises. A
        204 and an empty body are None if the type allows None. Raises InvalidAnswer for a redirect, and for a body that
        does not match the type. Raises TypeError, before anything is sent, for a type that cannot be decoded. All other
        errors are those of any call. `raise_for_status` has no effect.
        """
        decoding.check(type)
        options["raise_for_status"] = True
        try:
            response = await self.request("GET", path, **options)
        except NotFound:
            if missing_ok:
                return None
            raise
        if response.status == 304:
            raise response.invalid("the headers of the call made it conditional, and a 304 has no body")
        if response.status >= 300:
            raise response.invalid("a redirect is not followed, because it could lead past the sidecar")
        return response.decode(type)

    async def health_check(self, path: str = "/health", *, within: float | None = HEALTH_S) -> bool:
        """Whether GET `path` returns 2xx within `within` seconds, of which the sidecar is told. It never raises, except
        CancelledError.

        A failed call returns False and is logged at DEBUG. An error of the calling code (a client that is not open, an
        invalid path) returns False too, and is logged at ERROR. The logger is `sidecar.client`.
        """
        try:
            async with nullcontext() if within is None or within == inf else deadline(within):
                response = await self.request("GET", path, raise_for_status=False)
        except (CallError, TimeoutError) as error:
            log.debug("health check of %s: %r", self.service, error)
            return False
        except Exception as error:
            log.error("health check of %s could not be made: %s: %s", self.service, type(error).__name__, error)
            return False
        return 200 <= response.status < 300

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Headers | None = None,
        json: Any = None,
        data: Any = None,
        idempotency_key: bool | str = False,
        raise_for_status: bool | None = None,
    ) -> Response:
        """Sends one request and reads its response; see CallOptions and SendOptions.

        `path` begins with "/" and may have a query. Raises ValueError for a path that could leave the service's root
        (dot segments, encoded or not, or a backslash), and for one with a fragment or control characters.
        """
        shared = self._opened()
        url = address.url(self._prefix, path, params)
        call, fields, at = outgoing.begin(
            self.service, method, path, always=self._headers, headers=headers, deadline_s=self._deadline_s
        )
        if json is not None or data is not None or idempotency_key:
            data = body_of(fields, json, data, idempotency_key)
        left = None if at is None else outgoing.left(call, fields, at)
        limit = shared.limit
        task = limit.begin(at)
        response: Response | None = None
        failed: BaseException | None = None
        try:
            response = cast(
                Response,
                await shared.session.request(call.method, url, headers=fields, data=data, allow_redirects=False),
            )
            response.call = call
            await response.read()
        except (aiohttp.ClientError, OSError) as error:
            if response is not None:
                raise failures.in_body(call, response, error) from error
            failed = failures.unanswered(call, self.base_url, data, error)
        except asyncio.CancelledError:
            if (cut := limit.cut(task)) is None:
                raise
            raise failures.cut_short(call, self.base_url, cut, left, response) from None
        finally:
            limit.end(task)
        if failed is not None:  # Raised outside `except`: aiohttp's message has the URL, whose query may hold secrets.
            raise failed
        assert response is not None
        if response.status >= 400:
            self._judge(call, response, response.body, raise_for_status, at)
        return response

    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Headers | None = None,
        json: Any = None,
        data: Any = None,
        idempotency_key: bool | str = False,
        raise_for_status: bool | None = None,
    ) -> AbstractAsyncContextManager[Response]:
        """`async with venue.stream("GET", "/export") as r:` lets the app read the response body from `r.content`.

        A deadline limits the time until the response head, not the body; a `deadline` block around everything limits
        both. Reading a body that breaks off raises ConnectionFailed. Leaving the block before the end closes the
        connection.
        """
        shared = self._opened()
        url = address.url(self._prefix, path, params)
        call, fields, at = outgoing.begin(
            self.service, method, path, always=self._headers, headers=headers, deadline_s=self._deadline_s
        )
        body = body_of(fields, json, data, idempotency_key)
        return self._stream(shared, call, url, at, raise_for_status, headers=fields, data=body)

    @asynccontextmanager
    async def _stream(
        self,
        shared: pool.Shared,
        call: Call,
        url: URL,
        at: float | None,
        raise_for_status: bool | None,
        **options: Any,
    ) -> AsyncIterator[Response]:
        if shared.closed:
            raise self._not_open_here()
        left = None if at is None else outgoing.left(call, options["headers"], at)
        limit = shared.limit
        task = limit.begin(monotonic() + STREAM_HEAD_S if at is None else at)
        response: Response | None = None
        try:
            try:
                response = await self._head(shared, call, url, options)
                if response.status >= 400 and self._raises(response, raise_for_status):
                    self._judge(call, response, await response.beginning(MAX_ERROR_BODY), raise_for_status, at)
            except asyncio.CancelledError:
                if (cut := limit.cut(task)) is None:
                    raise
                raise failures.cut_short(call, self.base_url, cut, left) from None
            finally:
                limit.end(task)
            shared.streams.add(response)
            yield response
        finally:
            if response is not None:
                shared.streams.discard(response)
                response.close()

    async def _head(self, shared: pool.Shared, call: Call, url: URL, options: dict[str, Any]) -> Response:
        try:
            response = await shared.session.request(
                call.method, url, allow_redirects=False, timeout=_BY_PIECE, **options
            )
        except (aiohttp.ClientError, OSError) as error:
            failed = failures.unanswered(call, self.base_url, options["data"], error)
        else:
            ours = cast(Response, response)
            ours.call = call

            def broken(error: Exception) -> CallError:
                return failures.of_closing(call) if shared.closed else failures.in_body(call, ours, error)

            ours.guard_body(broken)
            return ours
        raise failed  # Outside `except`, for the same reason as in `request`.

    # The parts of a call.

    def _opened(self) -> pool.Shared:
        shared = self._shared
        if shared is None or shared.loop is not asyncio.get_running_loop():
            raise self._not_open_here()
        return shared

    def _not_open_here(self) -> RuntimeError:
        if self._shared is None:
            return RuntimeError(f"{self!r} is not open: use it in `async with`, or await open()")
        if not self.is_open:
            return RuntimeError(f"{self!r} is not open: its event loop has ended. Open it again in this one")
        return RuntimeError(f"{self!r} was opened in another event loop: create a client for each event loop")

    def _raises(self, response: Response, raise_for_status: bool | None) -> bool:
        own = self._raise_for_status if raise_for_status is None else raise_for_status
        return own or REASON in response.headers

    def _judge(
        self, call: Call, response: Response, body: bytes, raise_for_status: bool | None, at: float | None
    ) -> None:
        """Raises the exception for a status of 400 or above, unless the call does not want one. `at` is when the call's
        deadline passes, if it has one.
        """
        if REASON in response.headers:
            raise failures.of_sidecar(call, response, body, at)
        if self._raises(response, raise_for_status):
            raise response.failure(body)
