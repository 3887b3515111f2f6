"""Kubernetes API client: complete lists and watches of EndpointSlices from one server, over aiohttp.

Owns requests, size limits and timeouts, and turns every error into a Problem. It keeps nothing but its connections and
does not retry, with one exception: a request whose token was refused (401) is sent once more if there is a newer token.

Every watch has a connection of its own, because aiohttp speaks HTTP/1.1. TCP keepalive notices a dead server within
about 30 s; otherwise the watch ends at its timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from msgspec import Struct

from sidecar.discovery.kubernetes import wire
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.problem import Problem, gone

if TYPE_CHECKING:
    import aiohttp

PAGE: Final = 500
"""Slices in one page of a list, as in client-go."""

LARGEST_LIST: Final = 8 * 1024 * 1024
"""The most bytes of all pages of one list: some 20,000 endpoints."""

_LARGEST_STATUS: Final = 64 * 1024
_LONGEST_MESSAGE: Final = 300
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


class Times(Struct, frozen=True, kw_only=True):
    """Timeouts in seconds. The server is asked to end a watch after `watch`; the client ends it `grace` later."""

    head: float = 10.0
    """Until the response head, including the connection."""
    list: float = 30.0
    watch: int = 300
    grace: float = 10.0


TIMES: Final = Times()


class Api:
    """A client of one API server. Create and use it in a running event loop; call `close` at the end."""

    def __init__(self, credentials: Credentials, times: Times = TIMES) -> None:
        self._credentials = credentials
        self._times = times
        self._session: aiohttp.ClientSession | None = None

    async def slices(self, namespace: str, service: str, version: str = "") -> tuple[list[wire.SliceObject], str]:
        """All EndpointSlices of a Service, and the `resourceVersion` to watch from. Raises Problem.

        `version` "0" allows an answer from the server's cache, which is cheap and may be slightly old. "" asks for the
        current state.
        """
        found: list[wire.SliceObject] = []
        room = LARGEST_LIST
        parameters = {"limit": str(PAGE)}
        if version:
            parameters["resourceVersion"] = version
        try:
            async with asyncio.timeout(self._times.list):
                while True:
                    async with self._get(namespace, service, parameters) as response:
                        body = await _read(response, room)
                    if body is None:
                        raise Problem("size", f"the list of slices is larger than {LARGEST_LIST} bytes")
                    room -= len(body)
                    page = wire.read_list(body)
                    found += page.items or ()
                    if not page.metadata.continue_:
                        return found, page.metadata.resource_version
                    parameters = {"limit": str(PAGE), "continue": page.metadata.continue_}
        except wire.WrongContent as wrong:
            raise Problem("content", str(wrong)) from None
        except TimeoutError:
            raise Problem("slow", f"no complete list within {self._times.list:g} s") from None
        except _transport_errors() as error:
            raise self._broken(error) from None

    async def watch(
        self,
        namespace: str,
        service: str,
        version: str,
        *,
        seconds: int,
        opened: Callable[[], None],
        take: Callable[[list[bytes]], None],
    ) -> bool:
        """Watch a Service's slices from `version` on, until the watch ends; False if the connection broke.

        `opened` is called when the server accepts, `take` with each batch of complete lines. Raises Problem if the
        server refuses the watch or a line is too long, and whatever `take` raises. An incomplete last line is dropped;
        the server sends it again.
        """
        parameters = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        accepted = False
        try:
            async with (
                asyncio.timeout(seconds + self._times.grace),
                self._get(namespace, service, parameters) as response,
            ):
                accepted = True
                opened()
                lines = wire.Lines()
                async for data in response.content.iter_any():
                    if complete := lines.feed(data):
                        take(complete)
        except wire.WrongContent as wrong:
            raise Problem("content", str(wrong), relist=True, in_stream=True) from None
        except TimeoutError:
            return False
        except _transport_errors() as error:
            if not accepted:
                raise self._broken(error) from None
            return False
        return True

    async def close(self) -> None:
        """Close all connections. No request may be in flight any more."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def _get(
        self, namespace: str, service: str, parameters: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a GET, if its status is 200. Raises Problem, and the errors of the transport."""
        url = (
            f"{self._credentials.server}/apis/discovery.k8s.io/v1/namespaces/{quote(namespace, safe='')}/endpointslices"
            f"?labelSelector={quote(f'kubernetes.io/service-name={service}', safe='')}"
        )
        url += "".join(f"&{name}={quote(value, safe='')}" for name, value in parameters.items())
        for last in (False, True):
            response = await self._send(url)
            try:
                if response.status == 401 and not last and self._credentials.token_was_refused():
                    continue
                if response.status != 200:
                    raise await self._refusal(response, namespace)
                yield response
                return
            finally:
                response.release()  # keeps the connection if the body was read to its end, else closes it

    async def _send(self, url: str) -> aiohttp.ClientResponse:
        from yarl import URL

        try:
            target = URL(url, encoded=True)
            usable = target.scheme in ("http", "https") and target.host and target.port
        except ValueError:
            usable = False
        if not usable:
            raise Problem("server", f"`server` {self._credentials.server} is not an http or https URL")
        # No compression, so that the limit on the bytes read also limits the memory used.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "service-sidecar"}
        if (token := self._credentials.token()) is not None:
            headers["Authorization"] = f"Bearer {token}"
        tls = self._credentials.tls()
        try:
            async with asyncio.timeout(self._times.head):
                return await self._opened_session().get(
                    target, headers=headers, allow_redirects=False, ssl=True if tls is None else tls
                )
        except TimeoutError:
            words = f"no answer from {self._credentials.server} within {self._times.head:g} s"
            raise Problem("slow", words) from None

    def _opened_session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                # No limit: each watch holds a connection, and with a limit the next one would wait for ever.
                connector=aiohttp.TCPConnector(
                    limit=0,
                    socket_factory=_kept_alive_socket,
                    resolver=aiohttp.ThreadedResolver(),  # the loop's; aiohttp prefers c-ares where it finds it
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,  # the HTTP_PROXY of the app's pod is this sidecar
            )
        return self._session

    async def _refusal(self, response: aiohttp.ClientResponse, namespace: str) -> Problem:
        status = response.status
        with contextlib.suppress(TimeoutError, *_transport_errors()):
            async with asyncio.timeout(self._times.head):
                body = await _read(response, _LARGEST_STATUS)
                said = wire.read_status(body or b"")
                return self._explain(status, said, response.headers.get("Retry-After", ""), namespace)
        return self._explain(status, wire.Status(), response.headers.get("Retry-After", ""), namespace)

    def _explain(self, status: int, said: wire.Status, retry_after: str, namespace: str) -> Problem:
        if status == 410 or said.is_gone:
            return gone("the server no longer has this resourceVersion (410)")
        message = (said.message or "")[:_LONGEST_MESSAGE]
        words = {
            401: f"the API server does not accept {self._credentials.token_source} (401): it is wrong or has expired",
            403: f"not allowed (403): the service account needs a Role in namespace {namespace} with the verbs list "
            "and watch on endpointslices of apiGroup discovery.k8s.io",
            404: "not found (404): `server` must be an API server of Kubernetes 1.21 or newer (discovery.k8s.io/v1)",
            429: "the API server is overloaded and asks to wait (429)",
        }.get(status, f"the API server answered {status}")
        wish = float(retry_after) if retry_after.isdecimal() else 0.0
        return Problem(str(status), f"{words}; its message: {message}" if message else words, retry_after_s=wish)

    def _broken(self, error: Exception) -> Problem:
        import aiohttp

        server = self._credentials.server
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            return Problem("certificate", f"the certificate of {server} is not trusted: {why}; is ca_file its CA?")
        if isinstance(error, aiohttp.ClientConnectorError):
            return Problem("connect", f"cannot connect to {server}: {error.os_error.strerror or error.os_error}")
        return Problem("broken", f"the connection to {server} broke: {type(error).__name__}")


def _transport_errors() -> tuple[type[Exception], ...]:
    import aiohttp

    return (aiohttp.ClientError, OSError)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytearray | None:
    """The whole body; None if it is larger than `most` bytes."""
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) > most:
            return None
    return body


def _kept_alive_socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # Linux has all of them
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
