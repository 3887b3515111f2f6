"""A small synchronous client of the admin API.

Owns the HTTP of it, and errors in words: nobody listens, a token is wanted, the API refuses. It uses the standard
library alone and imports that when a call is made, because a command starts anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from sidecar.cli.output import printable

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from socket import socket

T = TypeVar("T")

DEFAULT_ADMIN: Final = "http://127.0.0.1:15000"

TIMEOUT_S: Final = 10.0
"""For connecting, and then for the whole of a call; a stream of events has no end."""

SILENCE_S: Final = 45.0
"""A stream of events that says nothing for so long is broken: a comment comes every 15 s."""

MAX_ANSWER: Final = 64 * 1024 * 1024
MAX_EVENT: Final = 1024 * 1024

_SERVICE: Final = ("name", "breaker", "endpoints", "rates", "budget")
_EVENT: Final = ("id", "time", "kind", "text")
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "GET services": ("services",),
    "GET services/*": _SERVICE,
    "GET config": ("config",),
    "GET explain": ("words",),
    "GET events": ("events",),
    "POST services/*/breaker": ("state",),
    "POST services/*/endpoints/*": ("available",),
    "POST log": ("level", "access"),
    "POST reload": ("result", "changed"),
    "POST drain": ("draining",),
}
"""What an answer has at the least, where a sidecar gave it."""

_ENTRIES: Final = {"services": _SERVICE, "events": _EVENT}
"""And each entry of these lists."""


class AdminError(click.ClickException):
    """A call that failed, in words; `status` and `problem` are the API's, if it was the API that said so."""

    exit_code = 1

    def __init__(self, message: str, status: int = 0, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


class NobodyListens(AdminError):
    """The connection was refused: no process listens at the address."""


class AdminClient:
    """Calls the admin API at `url`. All methods raise AdminError."""

    def __init__(self, url: str = DEFAULT_ADMIN, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Raises ValueError for what is no http or https URL; `host:port` alone is http."""
        from urllib.parse import urlsplit

        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected a URL such as http://127.0.0.1:15000")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s

    def get(self, *segments: str, **query: str | int | None) -> Any:
        """The JSON at a path; queries that are None are left out."""
        return self._checked("GET", segments, self._call("GET", _target(segments, query), None))

    def post(self, *segments: str, body: Mapping[str, Any]) -> Any:
        """The JSON that the API answers a change with."""
        import json

        given = {key: value for key, value in body.items() if value is not None}
        answer = self._call("POST", _target(segments, {}), json.dumps(given).encode())
        return self._checked("POST", segments, answer)

    def events(self, after: int | None, service: str | None) -> Iterator[dict[str, Any]]:
        """Events as they happen, from the one after `after` on, until the other side ends."""
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        connection = self._connection(SILENCE_S)
        try:
            self._read(connection.connect)
            sock = connection.sock
            answer = self._send(connection, "GET", _target(["events"], {"service": service}), None, headers)
            if answer.status != 200:
                with self._in_time(sock), closing(answer):
                    content = self._read(lambda: answer.read(MAX_ANSWER))
                raise self._failure(answer.status, content)
            while line := self._read(lambda: answer.readline(MAX_EVENT), "the stream of events broke off"):
                if line.startswith(b"data:"):
                    event = self._parsed(line[5:])
                    if not (_has(event, _EVENT) or _has(event, ("lost",))):
                        raise self._not_ours()
                    yield event
        finally:
            connection.close()

    def _call(self, method: str, target: str, body: bytes | None) -> Any:
        connection = self._connection(self._timeout_s)
        try:
            self._read(connection.connect)
            with self._in_time(connection.sock):
                answer = self._send(connection, method, target, body, {"Accept": "application/json"})
                with closing(answer):
                    content = self._read(lambda: answer.read(MAX_ANSWER))
        finally:
            connection.close()
        if answer.status >= 300:
            raise self._failure(answer.status, content)
        return self._parsed(content)

    @contextmanager
    def _in_time(self, sock: socket) -> Iterator[None]:
        """Breaks the connection when the time of a call is over: a socket's own limit begins anew with each byte."""
        from socket import SHUT_RDWR, socket
        from threading import Timer

        late: list[bool] = []

        def end() -> None:
            late.append(True)
            with suppress(OSError):
                socket.shutdown(sock, SHUT_RDWR)  # not TLS's own, which another thread may be in

        timer = Timer(self._timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except AdminError:
            if not late:
                raise
        finally:
            timer.cancel()
        if late:
            raise AdminError(f"no answer from {self.url} in time")

    def _parsed(self, content: bytes) -> Any:
        import json

        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self._not_ours() from None

    def _checked(self, method: str, segments: Sequence[str], answer: Any) -> Any:
        """The answer, if it is one that a sidecar gives on this path."""
        pattern = "/".join("*" if at % 2 else segment for at, segment in enumerate(segments))
        if not _has(answer, _MEMBERS.get(f"{method} {pattern}", ())):
            raise self._not_ours()
        entries = answer.get(pattern, [])
        if pattern in _ENTRIES and not (
            isinstance(entries, list) and all(_has(entry, _ENTRIES[pattern]) for entry in entries)
        ):
            raise self._not_ours()
        return answer

    def _connection(self, timeout_s: float) -> HTTPConnection:
        import http.client

        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout_s)

    def _send(
        self, connection: HTTPConnection, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> HTTPResponse:
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"

        def exchange() -> HTTPResponse:
            connection.request(method, self._prefix + target, body, headers)
            return connection.getresponse()

        return self._read(exchange)

    def _read(self, step: Callable[[], T], broken: str = "") -> T:
        """A step that may fail as sockets do, told in words; `broken` says what it means that a connection broke."""
        import http.client
        import socket

        try:
            return step()
        except ConnectionRefusedError:
            hint = "is the sidecar running? --admin URL or SIDECAR_ADMIN says where its admin listener is"
            raise NobodyListens(f"nobody listens at {self.url}: {hint}") from None
        except socket.gaierror:
            raise AdminError(f"{self._host} is the name of no host: --admin URL says where to call") from None
        except TimeoutError:
            raise AdminError(f"no answer from {self.url} in time") from None
        except (http.client.HTTPException, ConnectionError):
            raise AdminError(broken) if broken else self._not_ours() from None
        except OSError as error:
            raise AdminError(f"{self.url} cannot be called: {error.strerror or error}") from None

    def _not_ours(self) -> AdminError:
        return AdminError(f"what answers at {self.url} is not a sidecar's admin listener")

    def _failure(self, status: int, content: bytes) -> AdminError:
        try:
            problem = self._parsed(content)
        except AdminError:
            problem = None
        if status == 401:
            said = "does not take this token" if self._token is not None else "wants a token"
            hint = "--token-file FILE or SIDECAR_ADMIN_TOKEN_FILE names the file that has it"
            return AdminError(f"{self.url} {said}: {hint}", status, problem if isinstance(problem, dict) else None)
        if not isinstance(problem, dict):
            return self._not_ours()
        lines = [str(problem.get("detail") or problem.get("title") or f"status {status}")]
        errors = problem.get("errors")
        lines += [_error_line(error) for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
        return AdminError("\n".join(map(printable, lines)), status, problem)


def _has(answer: Any, members: Sequence[str]) -> bool:
    return isinstance(answer, dict) and all(member in answer for member in members)


def _error_line(error: Mapping[str, Any]) -> str:
    """A mistake of a configuration, as `sidecar check` prints it."""
    where = f"{error.get('file', '')}:{error['line']}" if error.get("line") else str(error.get("file", ""))
    return ": ".join(str(part) for part in (where, error.get("key"), error.get("message")) if part)


def _target(segments: Sequence[str], query: Mapping[str, str | int | None]) -> str:
    from urllib.parse import quote, urlencode

    given = {key: value for key, value in query.items() if value is not None}
    path = "/" + "/".join(quote(segment, safe=":") for segment in segments)
    return f"{path}?{urlencode(given)}" if given else path
