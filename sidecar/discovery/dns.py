"""DNS discovery: endpoints from A and AAAA records of a name (RFC 1035, 3596), or from its SRV records (RFC 2782).

Owns when a name is looked up, and which answers count. `sidecar.discovery.dns_lookup` does the lookup. A watcher
receives the complete set of endpoints after each change.

The rules:
- The next lookup is due when the shortest TTL of the answer ends, but not within 1 s and not later than `refresh`. It
  is up to a tenth earlier, so that sidecars that started together do not ask together.
- Answers are compared as sets: name servers rotate their answers, and a rotation is no change.
- A failed lookup (no answer, SERVFAIL, REFUSED, ...) changes nothing, for as long as it fails: a name server that is
  down says nothing about the endpoints. It is repeated after 1 s, doubling with jitter up to `refresh` or 30 s. After
  an empty answer the limit is 5 s: the name server is well, and the first endpoint should not have to wait.
- Each question counts by itself: when AAAA fails, or one of the SRV targets, its last answer stays in the set.
- "No such name" and "no such records" are answers, not failures, and Envoy's STRICT_DNS empties its set at the first
  one. Here the set is emptied only after `refresh` without any other answer (failed lookups do not count). Name servers
  do give such answers briefly while they restart or register again (envoyproxy/envoy#2691). Using endpoints that are
  gone costs a refused connection and a retry; having no endpoints fails every request. But addresses that are kept for
  ever would one day belong to other services. If the name still has other addresses, or the service other targets, the
  removed ones leave at once.
- The search domain in which the name was found is used until the set is emptied. While `venue` has no records in the
  domain of its own namespace, a wildcard in the next domain must not get its traffic.
- At most 1,000 endpoints; more are left out, counted and logged.

SRV: the target is the endpoint's host, and its priority the endpoint's priority. Weight 0 counts as 1 (RFC 2782 gives
it "a very small chance"). Each address of a target has the weight of the record. When two records give the same address
and port, the preferred one (lower priority, then higher weight) counts.

Time is the event loop's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint, PushEndpoints
from sidecar.discovery.dns_lookup import KINDS, Lookup, LookupFailed, NameServers, Question, Session, merge
from sidecar.discovery.resolv_conf import Search, canonical, read_search
from sidecar.net.tasks import Tasks
from sidecar.policy.settings import DnsSettings

MOST_ENDPOINTS: Final = 1000
"""The most endpoints of one watch, so that a wrong answer cannot cause endless work."""

SHORTEST_INTERVAL_S: Final = 1.0
LONGEST_RETRY_S: Final = 30.0
LONGEST_EMPTY_S: Final = 5.0
_LAST_DOUBLING: Final = 10

_log = logging.getLogger("sidecar.discovery")


def next_s(ttl_s: float, refresh_s: float, random: float) -> float:
    """Seconds until the lookup after a successful one; `random` in [0, 1)."""
    return max(SHORTEST_INTERVAL_S, min(ttl_s, refresh_s) * (1.0 - 0.1 * random))


def retry_s(retries: int, refresh_s: float, random: float) -> float:
    """Seconds until the lookup after an unsuccessful one; `retries` is the number of unsuccessful ones before it in a
    row.
    """
    longest = min(LONGEST_RETRY_S, refresh_s, SHORTEST_INTERVAL_S * 2.0 ** min(retries, _LAST_DOUBLING))
    return max(SHORTEST_INTERVAL_S, longest * (1.0 - 0.5 * random))


class Watch:
    """The result of `DnsSource.watch`. Only its own task changes it; `close` ends it."""

    __slots__ = (
        "_answered",
        "_due",
        "_hosts",
        "_known",
        "_name",
        "_none_since",
        "_push",
        "_retries",
        "_scheme",
        "_source",
        "_started",
        "_state",
        "_task",
        "_wake",
        "doubted",
        "empty",
        "failures",
        "found",
        "last_success",
        "left_out",
        "partial",
        "problem",
        "settings",
        "successes",
    )

    kind: Final = "dns"

    def __init__(self, source: DnsSource, settings: DnsSettings, push: PushEndpoints, scheme: str) -> None:
        self.settings = settings
        self.found: list[DiscoveredEndpoint] = []
        """The last good set, which was pushed last."""
        self.successes = 0
        """Lookups whose answer decided the set."""
        self.partial = 0
        """Successes in which one question failed, so that its last answer was kept."""
        self.failures = 0
        """Lookups after which the old set stayed, because they gave no better one."""
        self.empty = 0
        """Lookups with an empty answer, accepted or not."""
        self.doubted = 0
        """Empty answers that were not accepted yet. They count as failures too."""
        self.last_success: float | None = None
        """The loop's time of the last success, which is the age of the set."""
        self.problem: str | None = None
        """What was wrong with the last lookup, else None."""
        self.left_out = 0
        """Endpoints above the limit in the last success."""
        self._source = source
        self._push = push
        self._scheme = scheme
        self._hosts: frozenset[str] = frozenset()
        self._known: dict[Question, tuple[str, ...]] = {}
        self._name: str | None = None
        self._none_since: float | None = None
        self._retries = 0
        self._started = self._due = 0.0
        self._state = ""
        self._answered = asyncio.Event()
        self._wake = asyncio.Event()
        self._task = source._tasks.start(self._keep(), f"DNS records of {settings.name}")

    @property
    def name(self) -> str:
        """The name as it is configured."""
        return self.settings.name

    @property
    def endpoints(self) -> int:
        return len(self.found)

    @property
    def updates(self) -> dict[str, int]:
        """Lookups by result; each counts once."""
        return {
            "success": self.successes - self.partial - (self.empty - self.doubted),
            "partial": self.partial,
            "empty": self.empty,
            "failure": self.failures - self.doubted,
        }

    def close(self) -> None:
        """Stop the callbacks and the lookups; `closed` waits until the task has ended."""
        self._source._watches.discard(self)
        self._answered.set()
        self._task.cancel()

    async def closed(self) -> None:
        await asyncio.wait([self._task])

    async def ready(self, timeout: float) -> bool:
        """Wait until the first lookup has a result, good or bad; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._answered.wait()
        except TimeoutError:
            return False
        return True

    def refresh_soon(self) -> None:
        """A hint that the set is stale: look it up now, or one second after the last lookup began. Cheap."""
        soon = self._started + SHORTEST_INTERVAL_S
        if soon < self._due:  # false while a lookup runs: then `_due` is not after its start
            self._due = soon
            self._wake.set()

    def __repr__(self) -> str:
        counts = f"successes={self.successes} failures={self.failures} found={len(self.found)}"
        return f"<Watch {self.settings.name} {self._state or 'not looked up yet'} {counts}>"

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._started = loop.time()
            wait_s = self._judge(await self._look_up(), loop.time())
            self._answered.set()
            self._due = loop.time() + wait_s
            while loop.time() < self._due:
                self._wake.clear()
                try:
                    async with asyncio.timeout_at(self._due):
                        await self._wake.wait()
                except TimeoutError:
                    break

    async def _look_up(self) -> Lookup | Exception:
        source, settings = self._source, self.settings
        deadline = asyncio.get_running_loop().time() + source._timeout_s
        port = None if settings.srv else settings.port
        search = read_search() if source._search is None else source._search
        names = [self._name] if self._name else search.names(settings.name)
        lookup = None
        try:
            async with source._session() as ask:
                for name in names:
                    lookup = Lookup(name, ask, deadline)
                    await lookup.run(port)
                    if lookup.found or lookup.failed:
                        break
        except Exception as failure:  # any error: the last good set stays
            return failure
        return lookup or LookupFailed("the name is empty")

    def _judge(self, lookup: Lookup | Exception, now: float) -> float:
        """Record the result of a lookup; returns the seconds to wait before the next one."""
        refresh_s, draw = self.settings.refresh, self._source._random()
        if isinstance(lookup, Lookup) and lookup.found:
            self._succeeded(now)
            self._none_since = None
            self._retries = 0
            self.partial += bool(lookup.failed)
            self._say("partial" if lookup.failed else "well", _first_reason(lookup))
            self._take(lookup)
            return next_s(lookup.ttl_s, refresh_s, draw)
        wait_s = retry_s(self._retries, refresh_s, draw)
        self._retries += 1
        if isinstance(lookup, Exception) or lookup.failed:
            self.failures += 1
            self._say("failed", repr(lookup) if isinstance(lookup, Exception) else _first_reason(lookup))
            return wait_s
        wait_s = min(wait_s, LONGEST_EMPTY_S)
        self.empty += 1
        if self._none_since is None:
            self._none_since = now
        believed_at = self._none_since + refresh_s
        if now < believed_at:
            self.failures += 1
            self.doubted += 1
            self._say("empty", "no such records")
            return max(SHORTEST_INTERVAL_S, min(wait_s, believed_at - now))
        self._succeeded(now)
        self._say("gone", "no such records")
        self._name = None
        self._known = {}
        self._replace([])
        return wait_s

    def _succeeded(self, now: float) -> None:
        self.successes += 1
        self.last_success = now

    def _take(self, lookup: Lookup) -> None:
        questions = [(service.target, kind) for service in lookup.services for kind in KINDS]
        kept = {question: self._known.get(question, ()) for question in questions}
        self._name = lookup.name
        self._known = {question: lookup.addresses.get(question, last) for question, last in kept.items()}
        host = None if self.settings.srv else canonical(self.settings.name)
        found = merge(lookup.services, self._known, self._scheme, host)
        left_out = lookup.left_out + max(0, len(found) - MOST_ENDPOINTS)
        if left_out and not self.left_out:
            _log.warning("%s has more than %d endpoints; %d are left out", self.settings.name, MOST_ENDPOINTS, left_out)
        self.left_out = left_out
        self._replace(found[:MOST_ENDPOINTS])

    def _replace(self, found: list[DiscoveredEndpoint]) -> None:
        if found == self.found or self not in self._source._watches:
            return
        self.found = found
        self._hosts = frozenset(one.url.host for one in found)
        try:
            self._push(list(found))
        except Exception:
            # An error in a watcher must not end the lookups.
            _log.exception("the new endpoints of %s could not be applied", self.settings.name)

    def _say(self, state: str, reason: str) -> None:
        """Log a change of state, once."""
        self.problem = None if state == "well" else reason
        if state == self._state:
            return
        extra = {"kind": "discovery", "fields": {"source": self.kind, "name": self.settings.name}}
        name, kept, before = self.settings.name, len(self.found), self._state
        self._state = state
        if state == "gone":
            words = "%s has had no records for %g s; its %d endpoints are removed"
            _log.warning(words, name, self.settings.refresh, kept, extra=extra)
        elif state == "partial":
            _log.warning(
                "lookup of %s failed in part (%s); the last answer for that part stays in use",
                name,
                reason,
                extra=extra,
            )
        elif state != "well":
            stays = f"its {kept} known endpoints stay in use" if kept else "no endpoint is known yet"
            _log.warning("lookup of %s failed (%s); %s", name, reason, stays, extra=extra)
        elif before:
            _log.info("lookup of %s works again", name, extra=extra)


def _first_reason(lookup: Lookup) -> str:
    for (name, kind), reason in lookup.failed.items():
        return f"{kind} of {name}: {reason}"
    return ""


class DnsSource:
    """Looks names up while somebody watches them. Create and use it in a running event loop.

    `nameservers` (`ip:port`) replace the system's, and `search` replaces the settings of resolv.conf. `session` opens
    the channel for a lookup, instead of aiodns. One lookup has `timeout_s` for all its questions.
    """

    def __init__(
        self,
        *,
        nameservers: Sequence[str] = (),
        search: Search | None = None,
        session: Session | None = None,
        timeout_s: float = 5.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._session = session or NameServers(nameservers).session
        self._search = search
        self._timeout_s = timeout_s
        self._random = random
        self._watches: set[Watch] = set()
        self._tasks = Tasks(_log)
        self._closed = False

    @property
    def watches(self) -> frozenset[Watch]:
        """The open watches; scrapes read their counters."""
        return frozenset(self._watches)

    def watch(self, settings: DnsSettings, push: PushEndpoints, scheme: str = "http") -> Watch:
        """Call `push` with the complete set on each change, for the first time when something was found."""
        if self._closed:
            raise RuntimeError("the source is closed")
        if not settings.srv and settings.port is None:
            raise ValueError("`port` is required without `srv`")
        watch = Watch(self, settings, push, scheme)
        self._watches.add(watch)
        return watch

    def refresh_soon(self, host: str) -> None:
        """Call `Watch.refresh_soon` on every watch that found endpoints whose `url` has this host."""
        for watch in self._watches:
            if host in watch._hosts:
                watch.refresh_soon()

    async def ready(self, timeout: float) -> bool:
        """Wait until every watch has its first result, good or bad; False after `timeout` seconds."""
        ready = await asyncio.gather(*(watch.ready(timeout) for watch in self._watches))
        return all(ready)

    def close(self) -> None:
        """Stop all callbacks and cancel all tasks; `closed` waits until the tasks have ended."""
        self._closed = True
        for watch in tuple(self._watches):
            watch.close()

    async def closed(self) -> None:
        await self._tasks.ended()
