"""Active health checks: each endpoint is asked, now and again, on a connection of its own.

Owns when an endpoint is checked and what its answer is worth as a single result. Thresholds are
`sidecar.policy.health_state`'s, and who gets requests follows elsewhere: whoever made the checker is told every result.

- A check begins `interval` after the last one began, or up to a fifth sooner: many sidecars must not ask in step
  (Envoy: interval_jitter), and `interval` stays the longest that a change goes unseen. A new endpoint is checked almost
  at once.
- Without traffic it is `idle_interval` (Envoy: no_traffic_interval). Whether there is traffic again is looked at every
  `interval`, so that the first requests after a pause do not live on an old result for long.
- Every check makes a connection and closes it: a kept one would say that the process still answers, not that it can
  still be reached (Envoy: reuse_connection, turned off).
- A redirect is an answer, judged by `expect` as any other; it is not followed. Of a body the first 64 KiB are waited
  for, and thrown away.
- A response that bears `x-envoy-immediate-health-check-fail` is a failed check, whatever its status.

The reason of a result is one of the words below; a status that is not expected is `status` and its number.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from sidecar import __version__
from sidecar.policy.health_state import IMMEDIATE_FAIL_HEADER
from sidecar.policy.settings import HealthSettings

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession

OK: Final = "ok"
CONNECT_FAILURE: Final = "connect_failure"
TIMEOUT: Final = "timeout"
RESET: Final = "reset"
BAD_RESPONSE: Final = "bad_response"
IMMEDIATE_FAIL: Final = "immediate_fail"
INTERNAL: Final = "internal"

MOST_AT_ONCE: Final = 64
BODY_MAX: Final = 64 * 1024
USER_AGENT: Final = f"sidecar-health/{__version__}"

JITTER: Final = 0.2
FIRST_WITHIN: Final = 0.1
"""Share of `interval`."""

_log = logging.getLogger("sidecar.health")


class Target(Protocol):
    """What a check has to know of an endpoint; a live endpoint is one. It is read anew for each check."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> bool: ...
    @property
    def server_name(self) -> str: ...
    @property
    def authority(self) -> bytes:
        """What Host says."""


T = TypeVar("T", bound=Target)


class Result(NamedTuple):
    """How one check ended. `latency_s` does not count the time it waited for its turn."""

    ok: bool
    reason: str
    latency_s: float


Check = Callable[[Target, HealthSettings], Awaitable[Result]]
Start = Callable[[Coroutine[object, object, None], str], asyncio.Task[None]]
"""(work, name) -> the background task that does it."""


class _Lost(Exception):
    """The connection ended before a whole response head."""


class Checks:
    """Makes single checks for all services, at most `at_once` at a time. Make and use it in a running event loop.

    `tls` is what TLS endpoints are trusted by.
    """

    def __init__(self, *, tls: SSLContext | None = None, at_once: int = MOST_AT_ONCE) -> None:
        self._tls = tls
        self._turns = asyncio.Semaphore(at_once)
        self._session: ClientSession | None = None

    async def check(self, target: Target, settings: HealthSettings) -> Result:
        """Ask once. Whatever goes wrong is the result; only cancellation is raised."""
        async with self._turns:
            began = monotonic()
            try:
                async with asyncio.timeout(settings.timeout):
                    if settings.tcp:
                        reason = await self._connect(target)
                    else:
                        reason = await self._ask(target, settings)
            except TimeoutError:
                reason = TIMEOUT
            except OSError:
                reason = CONNECT_FAILURE
            except Exception:
                _log.exception("a health check of %s:%d failed to be made", target.address, target.port)
                reason = INTERNAL
            return Result(reason == OK, reason, monotonic() - began)

    async def close(self) -> None:
        """After this no check may be made."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _connect(self, target: Target) -> str:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, target.address, target.port)
        transport.close()
        return OK

    async def _ask(self, target: Target, settings: HealthSettings) -> str:
        import aiohttp
        from yarl import URL

        if self._session is None:
            self._session = self._make_session()
        host = f"[{target.address}]" if ":" in target.address else target.address
        url = URL(f"{'https' if target.tls else 'http'}://{host}:{target.port}{settings.path}", encoded=True)
        headers = {"host": target.authority.decode(), "user-agent": USER_AGENT}
        headers.update({name.lower(): value for name, value in settings.headers.items()})
        try:
            async with self._session.get(
                url,
                headers=headers,
                allow_redirects=False,
                server_hostname=target.server_name if target.tls else None,
            ) as response:
                if IMMEDIATE_FAIL_HEADER in response.headers:
                    return IMMEDIATE_FAIL
                if response.status not in settings.expect:
                    return f"status {response.status}"
                left = BODY_MAX
                while left > 0 and (piece := await response.content.read(left)):
                    left -= len(piece)
                if left <= 0:
                    response.close()
                return OK
        except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError):
            return CONNECT_FAILURE
        except (_Lost, aiohttp.ClientOSError, aiohttp.ClientPayloadError):
            return RESET
        except aiohttp.ClientError:
            return BAD_RESPONSE

    def _make_session(self) -> ClientSession:
        import aiohttp

        async def once(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
            # aiohttp would send a GET again, on a new connection too, and a check that was lost must count as lost.
            try:
                return await send(request)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as lost:
                raise _Lost from lost

        connector = aiohttp.TCPConnector(
            force_close=True, limit=0, use_dns_cache=False, ssl=self._tls if self._tls is not None else True
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
            read_bufsize=BODY_MAX,
            skip_auto_headers=("accept", "accept-encoding"),
            middlewares=(once,),
        )


class ActiveChecker(Generic[T]):
    """Keeps the endpoints of one service checked, each by a small task.

    `check` makes one check (`Checks.check`), `start` starts and holds a background task, `idle` tells whether the
    service gets no requests now, and `on_result` is called with (endpoint, ok, reason, latency_s) after each check.
    `random` gives floats in [0, 1). `settings` may be set at any time and counts from an endpoint's next check.
    """

    def __init__(
        self,
        name: str,
        settings: HealthSettings,
        *,
        check: Check,
        start: Start,
        on_result: Callable[[T, bool, str, float], None],
        idle: Callable[[], bool],
        random: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.settings = settings
        self._check = check
        self._start = start
        self._on_result = on_result
        self._idle = idle
        self._random = random
        self._running: dict[T, asyncio.Task[None]] = {}
        self.successes = self.failures = 0
        """Checks that ended, of all endpoints."""

    def update(self, endpoints: Iterable[T]) -> None:
        """Make this the complete set. Of one that left no result comes any more; one that stays keeps its times."""
        wanted = dict.fromkeys(endpoints)
        for endpoint in [one for one in self._running if one not in wanted]:
            self._running.pop(endpoint).cancel()
        for endpoint in wanted:
            if endpoint not in self._running:
                self._running[endpoint] = self._start(self._keep(endpoint), f"health of {self.name}")

    def close(self) -> None:
        """Check nothing any more; whoever gave `start` can wait until the tasks have ended."""
        self.update(())

    async def _keep(self, endpoint: T) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(FIRST_WITHIN * self.settings.interval * self._random())
        while True:
            began = loop.time()
            result = await self._check(endpoint, self.settings)
            if result.ok:
                self.successes += 1
            else:
                self.failures += 1
            try:
                self._on_result(endpoint, *result)
            except Exception:
                # Whoever is told must not end the checking by a fault of its own.
                _log.exception("a health check's result for %s was not taken", self.name)
            await self._rest(began)

    async def _rest(self, began: float) -> None:
        """Until the next check is due, counted from when the last one began."""
        loop = asyncio.get_running_loop()
        sooner = 1.0 - JITTER * self._random()
        look = began + self.settings.interval * sooner
        while True:
            await asyncio.sleep(max(0.0, look - loop.time()))
            idle_until = began + self.settings.idle_interval * sooner
            if loop.time() >= idle_until or not self._idle():
                return
            look = min(loop.time() + self.settings.interval, idle_until)

    def __repr__(self) -> str:
        return f"<ActiveChecker {self.name} {len(self._running)} endpoints>"
