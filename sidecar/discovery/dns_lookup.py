"""DNS lookup: asks the name servers for one name and reads their answers.

Owns the questions (A and AAAA of RFC 1035 and 3596, SRV of RFC 2782), how an answer is read, and which endpoints the
answers give together. It keeps no state between lookups; `sidecar.discovery.dns` decides which answers count.

The rules:
- Aliases (CNAME) are followed within an answer; records of other names are ignored. A chain across answers is followed
  by the name server, not here (RFC 1034, section 5.3.1: a stub resolver asks a recursive one).
- A truncated answer is asked for again over TCP; c-ares does that.
- NXDOMAIN and an answer without records are answers (`NoRecords`). Every other problem is a `LookupFailed`.
- When A has answered with addresses (or NXDOMAIN), AAAA gets half a second more, and the other way round: some name
  servers drop questions that they do not know. RFC 8305, section 3, delays a resolution for the same reason.
- Addresses that come with an SRV answer (additional section, RFC 2782) are not asked for again, as in HAProxy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from sidecar.config.schema import Url
from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint
from sidecar.discovery.resolv_conf import canonical

if TYPE_CHECKING:
    from pycares import DNSRecord, DNSResult

KINDS: Final = ("A", "AAAA")
STRAGGLER_S: Final = 0.5
MOST_SERVICES: Final = 1000
TARGETS_AT_ONCE: Final = 16
TRY_S: Final = 1.0
TRIES: Final = 3
_NOT_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})  # the answers of name servers that block a name

Question = tuple[str, str]
"""(name, kind); names are in lower case without a trailing dot."""


class NoRecords(LookupError):
    """The name servers answer that there are no records. `no_name`: of no kind at all (NXDOMAIN; RFC 8020)."""

    def __init__(self, no_name: bool = False) -> None:
        super().__init__("no such name" if no_name else "no such records")
        self.no_name = no_name


class LookupFailed(Exception):
    """The lookup gave no usable answer."""


class Service(Struct, frozen=True):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class Answer(Struct, frozen=True):
    """`ttl_s` is the shortest TTL of the records read. `glue` are the addresses of SRV targets that came with the
    answer.
    """

    ttl_s: float
    addresses: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    glue: dict[Question, tuple[str, ...]] = {}


Ask = Callable[[str, str], Awaitable[Answer]]
"""(name, kind) -> Answer; raises NoRecords or LookupFailed."""

Session = Callable[[], AbstractAsyncContextManager[Ask]]
"""Opens the channel for the questions of one lookup."""


class NameServers:
    """Asks through aiodns, which is imported at the first question. `servers` are `ip:port`; none means the
    system's.
    """

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = tuple(servers)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Ask]:
        """A c-ares channel for one lookup.

        It is not kept longer, because a channel has a cache that aiodns cannot turn off, and which keeps an empty
        answer for an hour. A new channel costs 0.2 ms and notices a changed resolv.conf.
        """
        import aiodns
        from aiodns.error import ARES_ENODATA, ARES_ENOTFOUND, DNSError

        # Otherwise each channel may log that no inotify watch is left. Lookups work without one.
        logging.getLogger("aiodns").setLevel(logging.ERROR)
        channel = aiodns.DNSResolver(self._servers or None, timeout=TRY_S, tries=TRIES)

        async def ask(name: str, kind: str) -> Answer:
            try:
                result = await channel.query_dns(name, kind)
            except DNSError as error:
                code, text = error.args[0], str(error.args[-1])
                if code in (ARES_ENODATA, ARES_ENOTFOUND):
                    raise NoRecords(code == ARES_ENOTFOUND) from None
                raise LookupFailed(text) from None
            except UnicodeError as error:
                raise LookupFailed(str(error)) from None
            return read_answer(result, name, kind)

        try:
            yield ask
        finally:
            await channel.close()


def read_answer(result: DNSResult, name: str, kind: str) -> Answer:
    """The records of `name`, or of the name that it is an alias of. Raises NoRecords."""
    from pycares import CNAMERecordData, SRVRecordData

    aliases = {
        canonical(one.name): (canonical(one.data.cname), one.ttl)
        for one in result.answer
        if isinstance(one.data, CNAMERecordData)
    }
    meant = canonical(name)
    ttls: list[int] = []
    while (alias := aliases.pop(meant, None)) is not None:  # popped, so that a loop of aliases ends
        meant, ttl = alias
        ttls.append(ttl)
    answers = [one for one in result.answer if canonical(one.name) == meant]
    if kind != "SRV":
        addresses = _addresses(answers, kind, ttls)
        if not addresses:
            raise NoRecords
        return Answer(min(ttls), tuple(dict.fromkeys(addresses[meant])))
    services: set[Service] = set()
    for one in answers:
        if isinstance(one.data, SRVRecordData):
            data, target = one.data, canonical(one.data.target)
            if target and data.port:  # the target "." means "no such service"; port 0 is invalid
                services.add(Service(data.priority, data.weight, data.port, target))
                ttls.append(one.ttl)
    if not services:
        raise NoRecords
    targets = {service.target for service in services}
    came_along = [one for one in result.additional if canonical(one.name) in targets]
    glue = {
        (host, kind): tuple(dict.fromkeys(addresses))
        for kind in KINDS
        for host, addresses in _addresses(came_along, kind, ttls).items()
    }
    return Answer(min(ttls), services=tuple(sorted(services, key=preference)), glue=glue)


def _addresses(records: Iterable[DNSRecord], kind: str, ttls: list[int]) -> dict[str, list[str]]:
    """Addresses of one kind, by name. Their TTLs are added to `ttls`."""
    from pycares import AAAARecordData, ARecordData

    wanted = ARecordData if kind == "A" else AAAARecordData
    found: dict[str, list[str]] = {}
    for one in records:
        if isinstance(one.data, wanted) and one.data.addr not in _NOT_ADDRESSES:
            found.setdefault(canonical(one.name), []).append(one.data.addr)
            ttls.append(one.ttl)
    return found


def preference(service: Service) -> tuple[int, int, str, int]:
    """Sort key: the most preferred service first. No two services have the same key."""
    return service.priority, -service.weight, service.target, service.port


def merge(
    services: Iterable[Service], addresses: Mapping[Question, Sequence[str]], scheme: str, host: str | None = None
) -> list[DiscoveredEndpoint]:
    """The set of endpoints, in an order independent of the order of the answers. `host` replaces the targets."""
    found: dict[tuple[str, int], DiscoveredEndpoint] = {}
    for service in sorted(services, key=preference):
        url = Url(scheme, host or service.target, service.port)
        for kind in KINDS:
            for address in addresses.get((service.target, kind), ()):
                one = DiscoveredEndpoint(url, address, max(1, service.weight), service.priority)
                found.setdefault((address, service.port), one)
    return sorted(found.values(), key=lambda one: (one.priority, ":" in one.address, one.address, one.url.port))


class Lookup:
    """The state and result of one lookup of `name`. `run` fills it in and handles all errors of `ask`."""

    __slots__ = ("_ask", "_deadline", "_missing", "addresses", "failed", "left_out", "name", "services", "ttl_s")

    def __init__(self, name: str, ask: Ask, deadline: float) -> None:
        self.name = name
        self.services: tuple[Service, ...] = ()
        self.addresses: dict[Question, tuple[str, ...]] = {}
        """Questions that were answered, also with an empty answer."""
        self.failed: dict[Question, str] = {}
        """Questions that failed, with the reason."""
        self.left_out = 0
        self.ttl_s = inf
        self._ask = ask
        self._deadline = deadline
        self._missing: set[str] = set()

    @property
    def found(self) -> bool:
        """Whether any address was found."""
        return any(self.addresses.values())

    async def run(self, port: int | None) -> None:
        """Ask for the addresses of the name or, without a port, for its services and their addresses."""
        if port is not None:
            self.services = (Service(0, 1, port, self.name),)
            await self._host(self.name)
            return
        answer = await self._question((self.name, "SRV"))
        if answer is None:
            return
        self.services = answer.services[:MOST_SERVICES]
        self.left_out = len(answer.services) - len(self.services)
        self.addresses.update(answer.glue)
        supplied = {host for host, _ in answer.glue}
        gate = asyncio.Semaphore(TARGETS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for target in dict.fromkeys(service.target for service in self.services):
                if target not in supplied:
                    group.create_task(self._target(target, gate))

    async def _target(self, target: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            await self._host(target)

    async def _host(self, host: str) -> None:
        loop = asyncio.get_running_loop()

        async def one(kind: str) -> None:
            answer = await self._question((host, kind))
            if answer is not None:
                self.addresses[host, kind] = answer.addresses
            if answer is not None or host in self._missing:
                scope.reschedule(min(self._deadline, loop.time() + STRAGGLER_S))

        try:
            async with asyncio.timeout_at(self._deadline) as scope, asyncio.TaskGroup() as group:
                for kind in KINDS:
                    group.create_task(one(kind))
        except TimeoutError:
            pass
        nothing = host in self._missing and not any(self.addresses.get((host, kind)) for kind in KINDS)
        for kind in KINDS:
            if nothing:  # a name that does not exist has no records of any kind, so the other question does not matter
                self.failed.pop((host, kind), None)
                self.addresses[host, kind] = ()
            elif (host, kind) not in self.addresses:
                self.failed.setdefault((host, kind), "no answer in time")

    async def _question(self, question: Question) -> Answer | None:
        try:
            async with asyncio.timeout_at(self._deadline):
                answer = await self._ask(*question)
        except NoRecords as none:
            self.addresses[question] = ()
            if none.no_name:
                self._missing.add(question[0])
            return None
        except TimeoutError:
            self.failed[question] = "no answer in time"
            return None
        except LookupFailed as failure:
            self.failed[question] = str(failure)
            return None
        self.ttl_s = min(self.ttl_s, answer.ttl_s)
        return answer
