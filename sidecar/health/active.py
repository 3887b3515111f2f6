"""Active health checks: checks each endpoint at intervals, on a connection of its own.

Owns when an endpoint is checked, and whether a single check passed. `sidecar.policy.health_state` owns the thresholds.
The creator of a checker receives every result and decides which endpoints get requests.

- A check begins `interval` after the last one began, or up to a fifth earlier: many sidecars must not check at the same
  time (Envoy: interval_jitter), and `interval` stays the longest time that a change goes unseen. The first check of a
  new endpoint comes almost at once.
- Without traffic the interval is `idle_interval` (Envoy: no_traffic_interval). Every `interval` the checker looks
  whether traffic has begun again, so that the first requests after a pause do not rely on an old result for long.
- Every check opens a connection and closes it. A kept connection would show that the process still answers, but not
  that it can still be reached (Envoy: reuse_connection, turned off).
- A redirect is a response like any other: it is judged by `expect` and not followed. A response with
  `x-envoy-immediate-health-check-fail` is a failed check, whatever its status.

`sidecar.health.http_check` sends the request and reads the answer; over HTTP/2, `sidecar.proxy.upstream.h2_check` does.

The reason of a result is one of the words below. For an unexpected status it is `status` and the number.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from time import monotonic
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from sidecar.health import http_check
from sidecar.health.http_check import CONNECT_FAILURE, OK
from sidecar.net.pem import BadPem
from sidecar.net.tls_contexts import H2, TlsContexts
from sidecar.policy.settings import DEFAULT_TLS, HealthSettings, TlsSettings

TIMEOUT: Final = "timeout"
INTERNAL: Final = "internal"

MOST_AT_ONCE: Final = 64

JITTER: Final = 0.2
FIRST_WITHIN: Final = 0.1
"""The first check comes within this share of `interval`."""

_log = logging.getLogger("sidecar.health")


class CheckedEndpoint(Protocol):
    """What a check needs of an endpoint; a live endpoint is one. Read again for each check."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> bool: ...
    @property
    def h2(self) -> bool:
        """It is called by HTTP/2."""

    @property
    def server_name(self) -> str: ...
    @property
    def authority(self) -> bytes:
        """The value of Host."""


T = TypeVar("T", bound=CheckedEndpoint)


class Result(NamedTuple):
    """The result of one check. `latency_s` does not include the wait for its turn."""

    ok: bool
    reason: str
    latency_s: float


Check = Callable[[CheckedEndpoint, HealthSettings, TlsSettings], Awaitable[Result]]
CheckOfService = Callable[[CheckedEndpoint, HealthSettings], Awaitable[Result]]
"""A Check with the TLS settings that the service has now."""

AskOverH2 = Callable[[CheckedEndpoint, HealthSettings, ssl.SSLContext | None, str | None], Awaitable[str]]
"""As `http_check.ask`, for endpoints that are called by HTTP/2: the engine for that stands above this package."""

Start = Callable[[Coroutine[object, object, None], str], asyncio.Task[None]]
"""(work, name) -> the background task that runs it."""


class Checks:
    """Runs single checks for all services, at most `at_once` at a time. Create and use it in a running event loop.

    `contexts` verify TLS endpoints. `over_h2` asks endpoints that are called by HTTP/2.
    """

    def __init__(
        self,
        contexts: TlsContexts | None = None,
        *,
        over_h2: AskOverH2 = http_check.ask,
        at_once: int = MOST_AT_ONCE,
    ) -> None:
        self.contexts = contexts or TlsContexts()
        self._over_h2 = over_h2
        self._turns = asyncio.Semaphore(at_once)

    async def check(
        self, endpoint: CheckedEndpoint, settings: HealthSettings, tls: TlsSettings = DEFAULT_TLS
    ) -> Result:
        """Run one check. Every error becomes a result; only cancellation is raised."""
        async with self._turns:
            began = monotonic()
            try:
                async with asyncio.timeout(settings.timeout):
                    if settings.tcp:
                        reason = await self._connect(endpoint)
                    elif endpoint.h2:
                        context = await self.contexts.made(tls, H2) if endpoint.tls else None
                        reason = await self._over_h2(endpoint, settings, context, tls.server_name)
                    else:
                        context = await self.contexts.made(tls) if endpoint.tls else None
                        reason = await http_check.ask(endpoint, settings, context, tls.server_name)
            except TimeoutError:
                reason = TIMEOUT
            except (OSError, BadPem):
                reason = CONNECT_FAILURE
            except Exception:
                _log.exception(
                    "a health check of %s:%d failed because of an internal error", endpoint.address, endpoint.port
                )
                reason = INTERNAL
            return Result(reason == OK, reason, monotonic() - began)

    async def _connect(self, endpoint: CheckedEndpoint) -> str:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, endpoint.address, endpoint.port)
        transport.close()
        return OK


class ActiveChecker(Generic[T]):
    """Checks the endpoints of one service, each in a small task.

    `check` runs one check (`Checks.check`). `start` starts and holds a background task. `idle` says whether the service
    gets no requests now. `on_result` is called with (endpoint, ok, reason, latency_s) after each check. `random` gives
    floats in [0, 1). `settings` may be set at any time and takes effect at each endpoint's next check.
    """

    def __init__(
        self,
        name: str,
        settings: HealthSettings,
        *,
        check: CheckOfService,
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

    def update(self, endpoints: Iterable[T]) -> None:
        """Replace the whole set of endpoints. An endpoint that left gives no more results; others keep their times."""
        wanted = dict.fromkeys(endpoints)
        for endpoint in [one for one in self._running if one not in wanted]:
            self._running.pop(endpoint).cancel()
        for endpoint in wanted:
            if endpoint not in self._running:
                self._running[endpoint] = self._start(self._keep(endpoint), f"health of {self.name}")

    def close(self) -> None:
        """Stop all checks. The owner of `start` can wait until the tasks have ended."""
        self.update(())

    async def _keep(self, endpoint: T) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(FIRST_WITHIN * self.settings.interval * self._random())
        while True:
            began = loop.time()
            result = await self._check(endpoint, self.settings)
            try:
                self._on_result(endpoint, *result)
            except Exception:
                # An error in the receiver must not end the checks.
                _log.exception("the result of a health check of %s could not be applied", self.name)
            await self._rest(began)

    async def _rest(self, began: float) -> None:
        """Wait until the next check is due, counted from the start of the last one."""
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
