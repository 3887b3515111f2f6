"""Name resolution: resolves host names to addresses and reports changes (`url` and `endpoints` of a service).

Owns when a name is looked up, and which answers count. A watcher receives the complete set of (spec, IP address) after
each change.

The rules:
- Each name is looked up every `refresh_s` by one task, however many specs use it. IP literals are never looked up.
- While none of the services that use a name gets requests, it is looked up as seldom as their health is checked
  (`idle_interval`). Every `refresh_s` the task looks whether requests have begun again.
- A failed lookup (an empty answer is one) changes nothing: the last good set stays, because a name server that is down
  says nothing about the endpoints (Envoy's STRICT_DNS does the same). It is repeated after a wait that doubles up to 30
  s, with jitter.
- Answers are compared as sets: name servers rotate their answers, and a rotation is no change.
- A connect failure is a hint that a set is stale. `refresh_soon` then brings the next lookup forward, to at most one a
  second for each name.

- A lookup without an answer after `timeout_s` has failed. The next one begins when the system's resolver has given up;
  if it has an answer after all, that is used.

Time is the event loop's. `sidecar.net.names` does the lookups.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sidecar.config.schema import EndpointSpec
from sidecar.net.addresses import is_ip
from sidecar.net.names import look_up
from sidecar.net.tasks import Tasks

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> IP addresses in order of preference. Raises when the name has none."""

Push = Callable[[list[tuple[EndpointSpec, str]]], None]

Rest = Callable[[], float]
"""How old the answers may be now, in seconds: 0 while the service gets requests."""

MOST_ADDRESSES = 256
"""The most addresses of one name; more are left out, so that a wrong answer cannot cause endless work."""

SHORTEST_INTERVAL_S = 1.0
LONGEST_RETRY_S = 30.0
_FIRST_RETRY_S = 0.5
_LAST_DOUBLING = 10

_log = logging.getLogger("sidecar.discovery")


def _never() -> float:
    """The default of `rest`."""
    return 0.0


class _Name:
    """One host name: its addresses, counters and the time of its next lookup. Only its own task changes it."""

    __slots__ = (
        "addresses",
        "answered",
        "due",
        "failures",
        "failures_in_a_row",
        "hinted",
        "host",
        "last_success",
        "overdue",
        "port",
        "problem",
        "started",
        "successes",
        "task",
        "wake",
        "watches",
    )

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.addresses: list[str] = []
        self.answered = asyncio.Event()
        self.successes = self.failures = self.failures_in_a_row = 0
        self.last_success: float | None = None
        """The loop's time of the last success, which is the age of the addresses."""
        self.problem: str | None = None
        """Why the last lookup failed, else None."""
        self.started = self.due = 0.0
        self.overdue = False
        """Whether the lookup that runs has been counted as failed."""
        self.hinted = False
        """Whether the addresses may be stale, so that the next lookup waits for no request."""
        self.wake = asyncio.Event()
        self.watches: set[Watch] = set()
        self.task: asyncio.Task[None] | None = None


class Source:
    """One name of a watch, as metrics and the admin API read it."""

    __slots__ = ("_name", "_specs")

    kind: Final = "name"

    def __init__(self, name: _Name, specs: int) -> None:
        self._name = name
        self._specs = specs

    @property
    def name(self) -> str:
        return self._name.host

    @property
    def endpoints(self) -> int:
        """The number of known addresses, times the specs that use the name."""
        return self._specs * len(self._name.addresses)

    @property
    def updates(self) -> dict[str, int]:
        """Lookups by result."""
        return {"success": self._name.successes, "failure": self._name.failures}

    @property
    def last_success(self) -> float | None:
        """The loop's time of the last success."""
        return self._name.last_success

    @property
    def problem(self) -> str | None:
        """Why the last lookup failed; None if it succeeded."""
        return self._name.problem


class Watch:
    """The result of `Resolver.watch`: its specs and the callback for their sets. `close` ends it."""

    __slots__ = ("_push", "_pushed", "_resolver", "rest", "sources", "specs")

    def __init__(self, resolver: Resolver, specs: Sequence[EndpointSpec], push: Push, rest: Rest) -> None:
        self._resolver = resolver
        self.rest = rest
        self._push = push
        self._pushed: list[tuple[EndpointSpec, str]] = []
        self.specs = tuple(specs)
        self.sources: tuple[Source, ...] = ()
        """One source for each name in the specs, none for IP addresses."""

    def close(self) -> None:
        """Stop the callbacks. Names that nobody else watches are no longer looked up."""
        self._resolver._forget(self)

    def _update(self) -> None:
        known = [(spec, address) for spec in self.specs for address in self._resolver.addresses(spec.url.host)]
        if known == self._pushed:
            return
        self._pushed = known
        try:
            self._push(list(known))
        except Exception:
            # An error in one watcher must not end the lookups of a name that others watch too.
            _log.exception("the new addresses of %s could not be applied", {spec.url.host for spec in self.specs})


class Resolver:
    """Looks names up while somebody watches them. Create and use it in a running event loop.

    `resolve` does a lookup, with `timeout_s` for each one. `random` in [0, 1) spreads the lookups.
    """

    def __init__(
        self,
        *,
        resolve: Resolve = look_up,
        refresh_s: float = 5.0,
        timeout_s: float = 5.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._resolve = resolve
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._random = random
        self._names: dict[str, _Name] = {}
        self._tasks = Tasks(_log)
        self._closed = False

    def watch(self, specs: Sequence[EndpointSpec], push: Push, rest: Rest = _never) -> Watch:
        """Call `push` with the complete set in the order of `specs`: now, with the addresses known so far, and on each
        change.

        A name without known addresses adds nothing to the set. An empty first set is not pushed. `rest` says how long
        the lookups may rest now.
        """
        if self._closed:
            raise RuntimeError("the resolver is closed")
        watch = Watch(self, specs, push, rest)
        for spec in watch.specs:
            host = spec.url.host
            if is_ip(host):
                continue
            name = self._names.get(host)
            if name is None:
                name = self._names[host] = _Name(host, spec.url.port)
                name.task = self._tasks.start(self._keep(name), f"addresses of {host}")
            name.watches.add(watch)
        bearing = Counter(spec.url.host for spec in watch.specs)
        watch.sources = tuple(
            Source(self._names[host], specs) for host, specs in bearing.items() if host in self._names
        )
        watch._update()
        return watch

    def addresses(self, host: str) -> list[str]:
        """The last good set of a watched name; for an IP literal the literal itself."""
        name = self._names.get(host)
        if name is not None:
            return name.addresses
        return [host] if is_ip(host) else []

    def refresh_soon(self, host: str) -> None:
        """Look `host` up now, or one second after its last lookup began. Cheap; unwatched names are ignored."""
        name = self._names.get(host)
        if name is None:
            return
        soon = name.started + SHORTEST_INTERVAL_S
        if soon < name.due:  # false while a lookup runs: then `due` is not after its start
            name.due = soon
            name.hinted = True
            name.wake.set()

    async def ready(self, timeout: float) -> bool:
        """Wait until every watched name has its first result, good or bad; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                for name in list(self._names.values()):
                    await name.answered.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Stop all callbacks and cancel all tasks; `closed` waits until the tasks have ended."""
        self._closed = True
        for name in self._names.values():
            name.watches.clear()
            name.answered.set()
        self._names.clear()
        self._tasks.cancel()

    async def closed(self) -> None:
        """Wait until all tasks have ended."""
        await self._tasks.ended()

    def _forget(self, watch: Watch) -> None:
        for host in {spec.url.host for spec in watch.specs}:
            name = self._names.get(host)
            if name is None or watch not in name.watches:
                continue
            name.watches.discard(watch)
            if not name.watches:
                del self._names[host]
                name.answered.set()
                if name.task is not None:
                    name.task.cancel()

    async def _keep(self, name: _Name) -> None:
        loop = asyncio.get_running_loop()
        while True:
            name.started = loop.time()
            name.overdue = name.hinted = False
            overdue = loop.call_later(self._timeout_s, self._is_overdue, name)
            try:
                result = await self._lookup(name)
            finally:
                overdue.cancel()
            wait_s = self._judge(name, result)
            name.answered.set()
            name.due = loop.time() + wait_s
            await self._until_due(name)
            while not name.hinted and not name.problem and loop.time() < name.started + self._rest_s(name):
                name.due = loop.time() + wait_s
                await self._until_due(name)

    @staticmethod
    async def _until_due(name: _Name) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < name.due:
            name.wake.clear()
            try:
                async with asyncio.timeout_at(name.due):
                    await name.wake.wait()
            except TimeoutError:
                break

    @staticmethod
    def _rest_s(name: _Name) -> float:
        """How old the addresses may be: as the service says that rests least."""
        return min((watch.rest() for watch in name.watches), default=0.0)

    async def _lookup(self, name: _Name) -> list[str] | Exception:
        """Distinct addresses (at least one), or the error. May take minutes."""
        try:
            found = await self._resolve(name.host, name.port)
        except Exception as failure:  # any error of a resolver: the last good set stays
            return failure
        return list(dict.fromkeys(found)) or LookupError("the answer is empty")

    def _is_overdue(self, name: _Name) -> None:
        """It has failed for those who wait for it; a late answer is used all the same."""
        self._failed(name, f"no answer within {self._timeout_s:g} s")
        name.overdue = True
        name.answered.set()

    def _failed(self, name: _Name, why: str) -> None:
        name.failures += 1
        name.problem = why
        if name.failures_in_a_row == 0:
            kept = len(name.addresses)
            stays = f"its {kept} known addresses stay in use" if kept else "no address is known yet"
            _log.warning("lookup of %s failed (%s); %s", name.host, name.problem, stays, extra=_about(name))
        name.failures_in_a_row += 1

    def _judge(self, name: _Name, result: list[str] | Exception) -> float:
        """Record the result of a lookup; returns the seconds to wait before the next one."""
        if isinstance(result, Exception):
            if name.overdue:  # it is counted
                name.problem = _why(result)
            else:
                self._failed(name, _why(result))
            doublings = min(name.failures_in_a_row - 1, _LAST_DOUBLING)
            longest = min(LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0**doublings)
            return longest * (0.5 + 0.5 * self._random())
        name.successes += 1
        name.last_success = asyncio.get_running_loop().time()
        if name.failures_in_a_row:
            words = "lookup of %s works again after %d failures"
            _log.info(words, name.host, name.failures_in_a_row, extra=_about(name))
            name.failures_in_a_row = 0
            name.problem = None
        self._take(name, result)
        return self._refresh_s * (0.9 + 0.2 * self._random())

    def _take(self, name: _Name, found: list[str]) -> None:
        if len(found) > MOST_ADDRESSES:
            # Known addresses first: otherwise each rotated answer would be a change.
            held = set(name.addresses)
            found.sort(key=lambda address: address not in held)
            del found[MOST_ADDRESSES:]
        if set(found) == set(name.addresses):
            return
        name.addresses = found
        for watch in tuple(name.watches):
            if watch in name.watches:  # a push may close other watches
                watch._update()


def _why(failure: Exception) -> str:
    """The reason as text: the system's message without its error number."""
    said = failure.strerror if isinstance(failure, OSError) else None
    return said or str(failure) or type(failure).__name__


def _about(name: _Name) -> dict[str, object]:
    """Marks a log record as a discovery event that is shown to operators."""
    return {"kind": "discovery", "fields": {"source": "name", "name": name.host}}
