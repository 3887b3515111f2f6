"""One Service's EndpointSlices, kept up to date for ever.

Owns when to list, when to watch and how long to wait. The rules:

- List once, watch from there, and resume a watch that ended or broke at the last `resourceVersion` seen (bookmarks
  move it on while nothing happens). List anew only where the server says that its history is gone (410, as a status
  or an ERROR event), or where what a watch said cannot be understood.
- The first list may come from the server's cache (`resourceVersion=0`, as client-go does it): a thousand sidecars that
  start together must not read etcd a thousand times. A list after that wants the present state, since the cache of
  another server may be behind what was seen here.
- Whatever fails, the slices stay. It is tried again after a jittered, doubling wait of at most 30 s, or as the server
  asks by Retry-After (at most 5 min of it).
- Any end of a watch is followed by a short jittered wait: as an API server restarts, all of its watches end at once.
- Trouble is logged as it begins, as its kind changes, and as it is over; and counted each time.
- All events that came together are taken in before anybody is told: the control plane moves an endpoint from one slice
  to another in two events, and between them it would seem to be gone.
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
LONGEST_WISH_S: Final = 300.0
SETTLED_S: Final = 5.0
"""A watch that has been open for so long works, even if nothing happened in it."""

_LAST_DOUBLING: Final = 10

_log = logging.getLogger("sidecar.discovery")


class Feed:
    """The slices of one Service; `changed` is called as they change. `run` is its only task.

    Counters are plain integers that only grow. `last_success` is the event loop's time at which the server last
    confirmed what is known: a list, an accepted watch, an event or a bookmark (about one a minute).
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
        """The `resourceVersion` to watch from; empty: list first."""
        self.answered = asyncio.Event()
        """The first result has come, good or bad."""
        self.problem: Problem | None = None
        self.failures_in_a_row = 0
        self.failures = self.lists = self.watches = self.breaks = self.events = 0
        """Failed tries; whole lists; accepted watches; watches that broke off; events taken in, without bookmarks."""
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
            except Exception as defect:  # ours, but the last good set must outlive it
                _log.exception("discovery of Service %s/%s failed", self.namespace, self.service)
                wait_s = self._failed(Problem("defect", f"a defect: {type(defect).__name__}", relist=True))
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
            words = "Service %s/%s has no EndpointSlice: is there such a Service?"
            _log.warning(words, self.namespace, self.service, extra=self._extra)
        self._changed()
        self.answered.set()

    async def _watch(self) -> None:
        # Not all watches that began together shall end together.
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
            raise Problem("ended", "the API server accepts a watch and ends it at once", in_stream=True)

    def _opened(self) -> None:
        self.watches += 1
        self._well(sure=False)

    def _take(self, lines: list[bytes]) -> None:
        """Take events in, and tell of it once. Raises WrongContent, and Problem for what an ERROR event says."""
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
        """True if anything is different now; most changes of a slice are of no interest to us."""
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
            return gone("the server no longer has what the watch would go on from (410)")
        wish = said.details.retry_after_seconds if said.details else None
        words = f"the watch ended with error {said.code}: {(said.message or said.reason or '')[:300]}"
        return Problem(f"event {said.code}", words, relist=True, in_stream=True, retry_after_s=wish or 0.0)

    def _well(self, sure: bool = True) -> None:
        """The server confirmed what is known. Not `sure`: by accepting, which trouble inside of a watch outlasts."""
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
        """Note it; returns the seconds to wait before the next try."""
        if problem.relist:
            self.version = ""
        before, self.problem = self.problem, problem
        if problem.kind == GONE:
            if self.failures_in_a_row == 0:
                self.failures_in_a_row = 1
                _log.info("Service %s/%s is listed anew: %s", self.namespace, self.service, problem)
                return 0.0
        elif before is None or before.kind != problem.kind:
            stays = f"its {len(self.slices)} known slices stay" if self.slices else "nothing is known of it"
            words = "discovery of Service %s/%s failed (%s); %s"
            _log.warning(words, self.namespace, self.service, problem, stays, extra=self._extra)
        doubled_s = FIRST_RETRY_S * 2.0 ** min(self.failures_in_a_row, _LAST_DOUBLING)
        wait_s = self._jittered(min(LONGEST_RETRY_S, doubled_s))
        self.failures += 1
        self.failures_in_a_row += 1
        if problem.retry_after_s:
            # A little later than asked for, or all who were asked to wait come back together.
            return max(wait_s, min(problem.retry_after_s, LONGEST_WISH_S) + self._random())
        return wait_s

    def _jittered(self, longest_s: float) -> float:
        return longest_s * (0.5 + 0.5 * self._random())

    def __repr__(self) -> str:
        state = f"failing: {self.problem.kind}" if self.problem else "well"
        return f"<Feed {self.namespace}/{self.service} {len(self.slices)} slices at {self.version!r} {state}>"
