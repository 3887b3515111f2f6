"""Kubernetes feed: keeps the EndpointSlices of one Service up to date.

Owns when to list, when to watch and how long to wait. The rules:

- List once and watch from there. A watch that ended or broke is resumed at the last `resourceVersion` seen (bookmarks
  move it forward while nothing happens). List again only if the server says that its history is gone (410, as a status
  or an ERROR event), or if the content of a watch cannot be understood.
- The first list may come from the server's cache (`resourceVersion=0`, as in client-go): a thousand sidecars that start
  together must not read etcd a thousand times. A later list asks for the current state, because the cache of another
  server may be behind what was seen here.
- After any failure the slices stay. It is tried again after a wait that doubles up to 30 s with jitter, or after the
  server's Retry-After (at most 5 min).
- After any end of a watch there is a short wait with jitter: when an API server restarts, all its watches end at once.
- A problem is logged when it begins, when its kind changes and when it is over. It is counted each time.
- All events that arrived together are applied before anybody is told: the control plane moves an endpoint from one
  slice to another in two events, and between them the endpoint would seem to be gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.discovery.kubernetes import slices, wire
from sidecar.discovery.kubernetes.api import Api, Times
from sidecar.discovery.kubernetes.problem import GONE, Problem, gone

FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 30.0
LONGEST_RETRY_AFTER_S: Final = 300.0
SETTLED_S: Final = 5.0
"""A watch that has been open for this long works, even if no event came."""

_LAST_DOUBLING: Final = 10

_log = logging.getLogger("sidecar.discovery")


class Feed:
    """The slices of one Service. Calls `changed` when they change. `run` is its only task.

    Counters are integers that only grow. `last_success` is the event loop's time at which the server last confirmed the
    state: by a list, an accepted watch, an event or a bookmark (about one a minute).
    """

    __slots__ = (
        "_api",
        "_changed",
        "_extra",
        "_random",
        "_settled",
        "_sleep",
        "_times",
        "answered",
        "breaks",
        "events",
        "failures",
        "failures_in_a_row",
        "last_success",
        "lists",
        "namespace",
        "problem",
        "service",
        "slices",
        "version",
        "watches",
    )

    def __init__(
        self,
        api: Api,
        namespace: str,
        service: str,
        changed: Callable[[], None],
        *,
        times: Times,
        random: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._api = api
        self._changed = changed
        self._random = random
        self._settled = False
        self._sleep = sleep
        self._times = times
        self._extra = {"kind": "discovery", "fields": {"source": "kubernetes", "name": f"{namespace}/{service}"}}
        self.namespace = namespace
        self.service = service
        self.slices: dict[str, slices.Slice] = {}
        self.version = ""
        """The `resourceVersion` to watch from. Empty means: list first."""
        self.answered = asyncio.Event()
        """Set when the first result has come, good or bad."""
        self.problem: Problem | None = None
        self.failures_in_a_row = 0
        self.failures = self.lists = self.watches = self.breaks = self.events = 0
        """Failed requests; complete lists; accepted watches; broken watches; events applied, without bookmarks."""
        self.last_success: float | None = None

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if not self.version:
                    await self._list()
                await self._watch()
                wait_s = self._jittered(FIRST_RETRY_S)
            except Problem as problem:
                wait_s = self._failed(problem)
            except Exception as defect:  # a bug here must not remove the last good set
                _log.exception("discovery of Service %s/%s failed", self.namespace, self.service)
                wait_s = self._failed(Problem("defect", f"internal error: {type(defect).__name__}", relist=True))
            self.answered.set()
            if wait_s:
                await self._sleep(wait_s)

    async def _list(self) -> None:
        found, version = await self._api.slices(self.namespace, self.service, "" if self.lists else "0")
        self.lists += 1
        self.slices = {one.metadata.name: slices.read(one) for one in found}
        self.version = version
        self._well(sure=False)
        if not found:
            words = "Service %s/%s has no EndpointSlice; does the Service exist?"
            _log.warning(words, self.namespace, self.service, extra=self._extra)
        self._changed()
        self.answered.set()

    async def _watch(self) -> None:
        # Spread, so that watches that began together do not end together.
        seconds = max(1, round(self._times.watch * (0.8 + 0.2 * self._random())))
        self._settled = False
        settle = asyncio.get_running_loop().call_later(SETTLED_S, self._well)
        try:
            ended = await self._api.watch(
                self.namespace, self.service, self.version, seconds=seconds, opened=self._opened, take=self._take
            )
        finally:
            settle.cancel()
        if not ended:
            self.breaks += 1
        if not self._settled:
            raise Problem("ended", "the API server accepts each watch and ends it at once", in_stream=True)

    def _opened(self) -> None:
        self.watches += 1
        self._well(sure=False)

    def _take(self, lines: list[bytes]) -> None:
        """Apply events, then call `changed` once. Raises WrongContent, and Problem for an ERROR event."""
        changed = False
        try:
            for line in lines:
                kind, found = wire.read_event(line)
                if isinstance(found, wire.Status):
                    raise self._error(found)
                self.version = found.metadata.resource_version
                if kind != "BOOKMARK":
                    self.events += 1
                    changed |= self._apply(kind, found)
        finally:
            if changed:
                self._changed()
        self._well()

    def _apply(self, kind: str, found: wire.SliceObject) -> bool:
        """Apply one event. True if anything changed; most changes of a slice do not matter here."""
        name = found.metadata.name
        if kind == "DELETED":
            return self.slices.pop(name, None) is not None
        fresh = slices.read(found)
        if self.slices.get(name) == fresh:
            return False
        self.slices[name] = fresh
        return True

    @staticmethod
    def _error(said: wire.Status) -> Problem:
        if said.is_gone:
            return gone("the server no longer has the resourceVersion to continue the watch from (410)")
        wish = said.details.retry_after_seconds if said.details else None
        words = f"the watch ended with error {said.code}: {(said.message or said.reason or '')[:300]}"
        return Problem(f"event {said.code}", words, relist=True, in_stream=True, retry_after_s=wish or 0.0)

    def _well(self, sure: bool = True) -> None:
        """The server confirmed the state. Not `sure`: it only accepted a request, which does not end a problem in the
        stream.
        """
        self.last_success = asyncio.get_running_loop().time()
        self._settled |= sure
        if not self.failures_in_a_row or (self.problem is not None and self.problem.in_stream and not sure):
            return
        if self.problem is not None and self.problem.kind != GONE:
            words = "discovery of Service %s/%s works again after %d failures"
            _log.info(words, self.namespace, self.service, self.failures_in_a_row, extra=self._extra)
        self.problem = None
        self.failures_in_a_row = 0

    def _failed(self, problem: Problem) -> float:
        """Record a problem; returns the seconds to wait before the next request."""
        if problem.relist:
            self.version = ""
        before, self.problem = self.problem, problem
        if problem.kind == GONE:
            if self.failures_in_a_row == 0:
                self.failures_in_a_row = 1
                _log.info("Service %s/%s is listed again: %s", self.namespace, self.service, problem)
                return 0.0
        elif before is None or before.kind != problem.kind:
            stays = f"its {len(self.slices)} known slices stay in use" if self.slices else "no slice is known yet"
            words = "discovery of Service %s/%s failed (%s); %s"
            _log.warning(words, self.namespace, self.service, problem, stays, extra=self._extra)
        doubled_s = FIRST_RETRY_S * 2.0 ** min(self.failures_in_a_row, _LAST_DOUBLING)
        wait_s = self._jittered(min(LONGEST_RETRY_S, doubled_s))
        self.failures += 1
        self.failures_in_a_row += 1
        if problem.retry_after_s:
            # A little later than asked for. Otherwise all clients that were asked to wait would come back together.
            return max(wait_s, min(problem.retry_after_s, LONGEST_RETRY_AFTER_S) + self._random())
        return wait_s

    def _jittered(self, longest_s: float) -> float:
        return longest_s * (0.5 + 0.5 * self._random())

    def __repr__(self) -> str:
        state = f"failing: {self.problem.kind}" if self.problem else "well"
        return f"<Feed {self.namespace}/{self.service} {len(self.slices)} slices at {self.version!r} {state}>"
