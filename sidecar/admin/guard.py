"""Access control of the admin listener: refuses cross-site requests, rebound host names and missing tokens.

The danger is not the network, because the listener is on loopback. It is an operator's browser: a port-forward makes
the listener reachable for every page that is open there.

    Host      An attacker can point a host name at 127.0.0.1 (DNS rebinding). A page of that name is then "same-origin"
              with the admin API and may read it. So Host must be a loopback name or address (with any port, because the
              local end of a port-forward may be any), the address that the listener is bound to, or one of
              `admin.hosts`. In an absolute-form target the host is in the target, and Host is ignored (RFC 9112,
              section 3.2.2).
    Origin    If a browser sends it, it must match Host. Browsers send it with every POST, and with what a script reads.
    Sec-Fetch-Site
              `cross-site` and `same-site` (another port of localhost) are refused, except when a user follows a link.
    Content-Type
              A POST must be application/json. Forms cannot send that, and `fetch` sends it only after a preflight,
              which this listener does not answer.
    token     With `admin.token_file`, everything requires the token, except probes, metrics and the dashboard's files.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import stat
from contextlib import suppress
from errno import EINVAL
from pathlib import Path
from threading import Thread
from typing import Final

from aiohttp import web

from sidecar.admin.problem import ApiProblem
from sidecar.config.schema import Address, Admin
from sidecar.net.addresses import address_of, is_this_machine

log = logging.getLogger("sidecar.admin")

READING: Final = frozenset({"GET", "HEAD"})
_ANY_HOST: Final = frozenset({"/livez", "/readyz"})
_NO_TOKEN: Final = frozenset({"/", "/livez", "/readyz", "/metrics"})
_UI: Final = "/ui/"
_ABSOLUTE: Final = re.compile(r"http://([^/?#]*)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+?)\.?(?::([0-9]{1,5}))?")
MOST_TOKEN_BYTES: Final = 4096
LONGEST_READ_S: Final = 5.0
"""The largest token file, in bytes. A larger file locks everybody out."""


class Token:
    """The token in a file. The file is read again when it changes, because secrets are rotated during operation."""

    def __init__(self) -> None:
        self._known: tuple[str, tuple[int, int, int] | None, bytes] = ("", None, b"")
        """Path, result of `stat`, and token. Replaced as one object, because threads do it."""
        self._reading: tuple[str, asyncio.Future[bytes]] | None = None

    async def current(self, path: str) -> bytes:
        """Like `read`, but empty if reading takes too long. A mount that hangs blocks one thread and nothing else."""
        reading = self._reading
        if reading is None or reading[0] != path or reading[1].done():
            reading = self._reading = (path, self._begin(path))
        try:
            async with asyncio.timeout(LONGEST_READ_S):
                return await asyncio.shield(reading[1])
        except TimeoutError:
            return b""

    def _begin(self, path: str) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bytes] = loop.create_future()

        def run() -> None:
            token = self.read(path)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(found.set_result, token)

        # A daemon thread of its own: if it hangs, neither name lookups nor the end of the process wait for it.
        Thread(target=run, name="admin token", daemon=True).start()
        return found

    def read(self, path: str) -> bytes:
        """The token; empty if the file has no usable one, which is logged once."""
        known_path, known_seen, token = self._known
        try:
            found = Path(path).stat()
            if not stat.S_ISREG(found.st_mode):
                raise OSError(EINVAL, "not a regular file")
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if (path, seen) != (known_path, known_seen):
                with Path(path).open("rb") as file:
                    token = file.read(MOST_TOKEN_BYTES).strip()
                self._known = (path, seen, token)
                if not token:
                    log.warning("the admin token's file is empty: every request is refused", extra=_about(path))
        except (OSError, ValueError) as error:  # ValueError: the path is not a valid file name
            if known_path != path or token or known_seen is None:
                detail = (isinstance(error, OSError) and error.strerror) or "cannot be read"
                log.warning("the admin token cannot be read: every request is refused", extra=_about(path, detail))
            token = b""
            self._known = (path, (0, 0, 0), token)
        return token


class Guard:
    """Checks every request. `bound` is the listener's address."""

    def __init__(self, bound: Address) -> None:
        self._bound = bound
        self._token = Token()

    async def check(self, request: web.BaseRequest, settings: Admin) -> None:
        """Raises ApiProblem if the request is refused."""
        path = request.path
        if path not in _ANY_HOST:
            self._check_host(request, settings)
            self._check_site(request, settings)
        if request.method not in READING and not _is_json(request):
            raise ApiProblem(415, "content_type", "a change must be sent with Content-Type: application/json")
        if settings.token_file is not None and not (path in _NO_TOKEN or path.startswith(_UI)):
            await self._check_token(request, settings.token_file)

    def _check_host(self, request: web.BaseRequest, settings: Admin) -> None:
        if not self._is_ours(_authority(request), settings):
            detail = "the host is neither loopback nor this listener's address; other names must be in admin.hosts"
            raise ApiProblem(421, "host", detail)

    def _is_ours(self, authority: str, settings: Admin) -> bool:
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None:
            return False
        host = parts[1].strip("[]")
        if host in settings.hosts:
            return True
        bound = self._bound
        if host in ("0.0.0.0", "::"):
            return False
        if is_this_machine(host):
            return True
        address, own = address_of(host), address_of(bound.host)
        if address is None:
            return False  # a name may point to any address, but an address only to itself
        return own is not None and (own.is_unspecified or own == address)

    def _check_site(self, request: web.BaseRequest, settings: Admin) -> None:
        headers = request.headers
        origins = headers.getall("Origin", [])
        host = _authority(request)
        ours = {f"http://{host}"}
        if host.partition(":")[0] in settings.hosts:
            ours.add(f"https://{host}")
        if any(origin.lower() not in ours for origin in origins):
            raise ApiProblem(403, "cross_site", "Origin is another site's")
        site = headers.get("Sec-Fetch-Site", "none")
        follows_link = request.method in READING and headers.get("Sec-Fetch-Mode") == "navigate"
        if site not in ("same-origin", "none") and not follows_link:
            raise ApiProblem(403, "cross_site", "the request comes from another site's page")

    async def _check_token(self, request: web.BaseRequest, path: str) -> None:
        wanted = await self._token.current(path)
        if not wanted:
            raise ApiProblem(503, "token_file", "admin.token_file cannot be read or is empty")
        given = request.headers.getall("Authorization", [])
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        sent = token.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(sent, wanted):
            raise ApiProblem(
                401,
                "token",
                "a bearer token is required: Authorization: Bearer <the content of admin.token_file>",
                headers={"WWW-Authenticate": 'Bearer realm="sidecar admin"'},
            )


def _authority(request: web.BaseRequest) -> str:
    """The host and port: of the target if it has them, else of Host, in lower case. Empty if they are not certain."""
    hosts, target = request.headers.getall("Host", []), request.raw_path
    if len(hosts) != 1:
        return ""
    if target.startswith("/") or target == "*":
        return hosts[0].lower()
    absolute = _ABSOLUTE.match(target)
    return absolute[1].lower() if absolute else ""


def _is_json(request: web.BaseRequest) -> bool:
    given = request.headers.getall("Content-Type", [])
    return len(given) == 1 and given[0].partition(";")[0].strip().lower() == "application/json"


def _about(path: str, detail: str | None = None) -> dict[str, object]:
    fields = {"file": path} | ({"detail": detail} if detail else {})
    return {"kind": "operator", "fields": fields}
