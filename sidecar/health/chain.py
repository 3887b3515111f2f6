"""Health chain: the checks behind `GET /health`; runs every check and looks at every service, side by side.

Owns when a run happens, and its limits. `report` and `service_part` decide the status of a part.

- Concurrent callers share one run, and its report is valid for a second. So probes cause at most one run a second,
  however many there are. A run does not belong to a caller: a caller that leaves does not disturb the others.
- A check has its own timeout. A run ends after `LONGEST_REPORT_S` (load balancers give up their probes after 5 s).
  Parts without a result by then get `timeout`; the rest of the report is still valid.
- A part that fails in an unexpected way is `internal`, and the others are reported.

Each change of a part's status is logged with its reason, and with nothing that a server sent: an error from Redis may
repeat what it received, including the password. So of an unexpected error only the type and the code locations are
logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from time import monotonic
from traceback import walk_tb
from typing import Any, Final, NamedTuple

from sidecar.config.schema import LONGEST_REPORT_S
from sidecar.health import service_part
from sidecar.health.active import Check as CheckEndpoint
from sidecar.health.active import Start
from sidecar.health.http_check import OK
from sidecar.health.report import (
    HEALTHY,
    INTERNAL,
    TIMEOUT,
    UNHEALTHY,
    Part,
    Report,
    ServicePart,
    aggregate,
    milliseconds,
    reason_word,
)
from sidecar.health.service_part import Answers, Seen, ServiceView

CACHED_S: Final = 1.0

MOST_PLACES: Final = 8
"""The most code locations that are logged for an error, the innermost ones."""

_log = logging.getLogger("sidecar.health")


Sliced = Callable[[Generator[None, None, Any]], Awaitable[Any]]
"""Runs a generator to its end, in slices between which the loop serves requests; gives what it returns."""


async def _at_once(work: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class Check(NamedTuple):
    """One entry of `checks`. `ask` returns `ok` or the reason of the failure; an exception counts as an internal
    error.
    """

    ask: Callable[[], Awaitable[str]]
    required: bool
    timeout_s: float


class HealthChain:
    """Creates reports. Create and use it in a running event loop.

    `services` gives the live services and is called in each run. `check` runs one check of an endpoint
    (`Checks.check`). `start` starts and holds a background task. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        services: Callable[[], Iterable[ServiceView]],
        *,
        check: CheckEndpoint,
        start: Start,
        sliced: Sliced = _at_once,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._checks = checks
        self._services = services
        self._check = check
        self._start = start
        self._sliced = sliced
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        self._last: Report | None = None
        self._good_until = 0.0
        self._runs = 0
        self._statuses: dict[tuple[str, str], str] = {}
        """Statuses of the last run's parts, by kind and name."""

    async def report(self) -> Report:
        """The report of the current run, of a run in the last second, or of a new run."""
        running = self._running
        if running is None or running.done():
            if self._last is not None and self._clock() < self._good_until:
                return self._last
            running = self._running = self._start(self._run(), "health chain")
        await asyncio.shield(running)
        assert self._last is not None
        return self._last

    async def _run(self) -> None:
        self._last = await self._made()
        self._good_until = self._clock() + CACHED_S

    async def _made(self) -> Report:
        self._runs += 1
        services = list(self._services())
        seen: dict[str, Seen] = await self._sliced(self._looked(services))
        checks: dict[str, Part] = {}
        answers: dict[str, Answers] = {}

        async def answered(service: ServiceView) -> None:
            found = await service_part.ask(service, seen[service.name].candidates, self._check)
            if found is not None:
                answers[service.name] = found

        async def checked(name: str, check: Check) -> None:
            checks[name] = await self._checked(name, check)

        work: list[tuple[str, Coroutine[object, object, None]]] = [
            (f"health of check {name}", checked(name, check)) for name, check in self._checks.items()
        ]
        asked = [one for one in services if _is_asked(one)]
        work += [(f"health of service {one.name}", answered(one)) for one in asked]
        await self._side_by_side(work)
        for one in asked:
            if seen[one.name].candidates:
                answers.setdefault(one.name, Answers(False, TIMEOUT, LONGEST_REPORT_S))
        late = Part(status=UNHEALTHY, latency_ms=milliseconds(LONGEST_REPORT_S), reason=TIMEOUT)
        report: Report = await self._sliced(
            self._reported({name: checks.get(name, late) for name in self._checks}, services, seen, answers)
        )
        return report

    def _looked(self, services: Sequence[ServiceView]) -> Generator[None, None, dict[str, Seen]]:
        seen: dict[str, Seen] = {}
        for one in services:
            seen[one.name] = service_part.look(one, self._runs, self._clock())
            yield
        return seen

    async def _side_by_side(self, work: list[tuple[str, Coroutine[object, object, None]]]) -> None:
        """Run all work in parallel. Work that is not done in time is cancelled and not awaited."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._sliced(self._started(work, tasks))
            if tasks:
                await asyncio.wait(tasks, timeout=LONGEST_REPORT_S)
        finally:
            for task in tasks:
                task.cancel()
            for _, not_begun in work[len(tasks) :]:
                not_begun.close()

    def _started(
        self, work: list[tuple[str, Coroutine[object, object, None]]], tasks: list[asyncio.Task[None]]
    ) -> Generator[None, None, None]:
        for name, one in work:
            tasks.append(self._start(one, name))
            yield

    async def _checked(self, name: str, check: Check) -> Part:
        began = self._clock()
        try:
            async with asyncio.timeout(check.timeout_s):
                reason = await check.ask()
        except TimeoutError:
            reason = TIMEOUT
        except Exception as error:
            fields = {"check": name, "error": type(error).__name__, "at": _places(error)}
            _log.error("a check failed because of an internal error", extra={"fields": fields})
            reason = INTERNAL
        latency_ms = milliseconds(self._clock() - began)
        if reason == OK:
            return Part(status=HEALTHY, latency_ms=latency_ms)
        return Part(status=UNHEALTHY, latency_ms=latency_ms, reason=reason_word(reason))

    def _reported(
        self,
        checks: dict[str, Part],
        services: Sequence[ServiceView],
        seen: Mapping[str, Seen],
        answers: Mapping[str, Answers],
    ) -> Generator[None, None, Report]:
        before, self._statuses = self._statuses, {}
        parts: list[tuple[str, bool]] = []
        for name, check in checks.items():
            parts.append((check.status, self._checks[name].required))
            self._log_change(before, "check", name, check)
        found: dict[str, ServicePart] = {}
        for one in services:
            part = found[one.name] = service_part.part(seen[one.name], answers.get(one.name))
            parts.append((part.status, one.config.required))
            self._log_change(before, "service", one.name, part)
            yield
        return Report(status=aggregate(parts), checks=checks, services=found)

    def _log_change(
        self, before: Mapping[tuple[str, str], str], kind: str, name: str, part: Part | ServicePart
    ) -> None:
        self._statuses[kind, name] = part.status
        if before.get((kind, name), HEALTHY) == part.status:
            return
        fields = {kind: name, "status": part.status, "reason": part.reason}
        level = logging.WARNING if part.status == UNHEALTHY else logging.INFO
        _log.log(level, "health of a %s changed", kind, extra={"fields": fields})

    def __repr__(self) -> str:
        state = " running" if self._running is not None and not self._running.done() else ""
        return f"<HealthChain{state} {self._runs} runs, {len(self._checks)} checks>"


def _places(error: Exception) -> list[str]:
    """The code locations of an error, the outermost first, without source text or values."""
    innermost = deque(walk_tb(error.__traceback__), MOST_PLACES)
    return [f"{frame.f_code.co_filename}:{line}" for frame, line in innermost]


def _is_asked(service: ServiceView) -> bool:
    health = service.config.policy.health
    return health is not None and health.path is not None
