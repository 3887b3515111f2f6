"""A small synchronous client of the admin API, for the commands.

Owns the HTTP calls and their error messages: nothing listens, a token is needed, the API refuses. It uses only the
standard library, and imports it when a call is made: each command is a new process, which has to start fast.
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
"""The limit for connecting, and after that for the whole call. A stream of events has no limit."""

SILENCE_S: Final = 45.0
"""A stream of events is broken if nothing comes for this long: the sidecar sends a comment every 15 s."""

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
"""The members that the answer of a sidecar has at least."""

_ENTRIES: Final = {"services": _SERVICE, "events": _EVENT}
"""The members that each entry of these lists has at least."""


class AdminError(click.ClickException):
    """A call that failed. `status` and `problem` are those of the API, if the API refused the call."""

    exit_code = 1

    def __init__(self, message: str, status: int = 0, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


class NothingListens(AdminError):
    """The connection was refused: no process listens at the address."""


class AdminClient:
    """Calls the admin API at `url`. All methods raise AdminError."""

    def __init__(self, url: str = DEFAULT_ADMIN, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Raises ValueError unless `url` is an http or https URL. `host:port` alone means http."""
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
        """The JSON at a path. Query parameters that are None are left out."""
        return self._checked("GET", segments, self._call("GET", _target(segments, query), None))

    def post(self, *segments: str, body: Mapping[str, Any]) -> Any:
        """Send a change, without the members that are None. Returns the JSON of the answer."""
        import json

        given = {key: value for key, value in body.items() if value is not None}
        answer = self._call("POST", _target(segments, {}), json.dumps(given).encode())
        return self._checked("POST", segments, answer)

    def events(self, after: int | None, service: str | None) -> Iterator[dict[str, Any]]:
        """Events as they happen, starting after the event with the id `after`, until the sidecar closes the stream."""
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        connection = self._connection(SILENCE_S)
        try:
            self._read(connection.connect)
            sock = connection.sock
            answer = self._send(connection, "GET", _target(["events"], {"service": service}), None, headers)
            if answer.status != 200:
                with self._limited_time(sock), closing(answer):
                    content = self._read(lambda: answer.read(MAX_ANSWER))
                raise self._failure(answer.status, content)
            while line := self._read(lambda: answer.readline(MAX_EVENT), "the stream of events was cut off"):
                if line.startswith(b"data:"):
                    event = self._parsed(line[5:])
                    if not (_has(event, _EVENT) or _has(event, ("lost",))):
                        raise self._no_sidecar()
                    yield event
        finally:
            connection.close()

    def _call(self, method: str, target: str, body: bytes | None) -> Any:
        connection = self._connection(self._timeout_s)
        try:
            self._read(connection.connect)
            with self._limited_time(connection.sock):
                answer = self._send(connection, method, target, body, {"Accept": "application/json"})
                with closing(answer):
                    content = self._read(lambda: answer.read(MAX_ANSWER))
        finally:
            connection.close()
        if answer.status >= 300:
            raise self._failure(answer.status, content)
        return self._parsed(content)

    @contextmanager
    def _limited_time(self, sock: socket) -> Iterator[None]:
        """Breaks the connection when a call takes too long. A socket's own timeout starts again with each byte."""
        from socket import SHUT_RDWR, socket
        from threading import Timer

        late: list[bool] = []

        def end() -> None:
            late.append(True)
            with suppress(OSError):
                socket.shutdown(sock, SHUT_RDWR)  # not the method of TLS: another thread may be using it

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
            raise self._no_sidecar() from None

    def _checked(self, method: str, segments: Sequence[str], answer: Any) -> Any:
        """The answer, if it has the members that a sidecar's answer on this path has. Raises AdminError otherwise."""
        pattern = "/".join("*" if at % 2 else segment for at, segment in enumerate(segments))
        if not _has(answer, _MEMBERS.get(f"{method} {pattern}", ())):
            raise self._no_sidecar()
        entries = answer.get(pattern, [])
        if pattern in _ENTRIES and not (
            isinstance(entries, list) and all(_has(entry, _ENTRIES[pattern]) for entry in entries)
        ):
            raise self._no_sidecar()
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
        """Run a step on the connection; its failures become AdminError. `broken` is the message for a broken one."""
        import http.client
        import socket

        try:
            return step()
        except ConnectionRefusedError:
            hint = "Is the sidecar running? --admin URL or SIDECAR_ADMIN says where its admin listener is."
            raise NothingListens(f"nothing listens at {self.url}. {hint}") from None
        except socket.gaierror:
            raise AdminError(f"the host name {self._host} cannot be found; --admin URL says where to call") from None
        except TimeoutError:
            raise AdminError(f"no answer from {self.url} in time") from None
        except (http.client.HTTPException, ConnectionError):
            raise AdminError(broken) if broken else self._no_sidecar() from None
        except OSError as error:
            raise AdminError(f"{self.url} cannot be reached: {error.strerror or error}") from None

    def _no_sidecar(self) -> AdminError:
        return AdminError(f"the server at {self.url} is not a sidecar's admin listener")

    def _failure(self, status: int, content: bytes) -> AdminError:
        try:
            problem = self._parsed(content)
        except AdminError:
            problem = None
        if status == 401:
            said = "does not accept this token" if self._token is not None else "needs a token"
            hint = "--token-file FILE or SIDECAR_ADMIN_TOKEN_FILE names the file that holds it"
            return AdminError(f"{self.url} {said}: {hint}", status, problem if isinstance(problem, dict) else None)
        if not isinstance(problem, dict):
            return self._no_sidecar()
        lines = [str(problem.get("detail") or problem.get("title") or f"status {status}")]
        errors = problem.get("errors")
        lines += [_error_line(error) for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
        return AdminError("\n".join(map(printable, lines)), status, problem)


def _has(answer: Any, members: Sequence[str]) -> bool:
    return isinstance(answer, dict) and all(member in answer for member in members)


def _error_line(error: Mapping[str, Any]) -> str:
    """An error of a configuration, as `sidecar check` prints it."""
    where = f"{error.get('file', '')}:{error['line']}" if error.get("line") else str(error.get("file", ""))
    return ": ".join(str(part) for part in (where, error.get("key"), error.get("message")) if part)


def _target(segments: Sequence[str], query: Mapping[str, str | int | None]) -> str:
    from urllib.parse import quote, urlencode

    given = {key: value for key, value in query.items() if value is not None}
    path = "/" + "/".join(quote(segment, safe=":") for segment in segments)
    return f"{path}?{urlencode(given)}" if given else path
