"""DNS discovery: when names are looked up, which answers count, and what is pushed.

Time is simulated and answers come from a table. The last tests use a real name server and real time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint
from sidecar.discovery.dns import LONGEST_RETRY_S, MOST_ENDPOINTS, DnsSource, next_s, retry_s
from sidecar.discovery.dns_lookup import STRAGGLER_S, Answer, Ask, LookupFailed, NoRecords, Service
from sidecar.discovery.resolv_conf import Search
from sidecar.policy.settings import DnsSettings
from tests.support.dns_server import DnsServer, dns_server

Drive = Callable[[Coroutine[Any, Any, None]], None]
START = 1000.0
VENUE = DnsSettings(name="venue", port=80)
SRV = DnsSettings(name="venue", srv=True)
HANG = "hang"
FAIL = LookupFailed("SERVFAIL")
NO_NAME = NoRecords(no_name=True)
NOTHING = NoRecords()


def ips(*addresses: str, ttl: float = 10) -> Answer:
    return Answer(ttl, addresses)


class Names:
    """Answers what `zone` says, and notes when it was asked (in seconds since the start). What is not there is NOTHING
    for a name that is there with another kind, else NO_NAME."""

    def __init__(self, zone: dict[tuple[str, str], Answer | Exception | str]) -> None:
        self.zone = zone
        self.asked: list[tuple[float, str, str]] = []
        self.open = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Ask]:
        self.open += 1
        try:
            yield self._ask
        finally:
            self.open -= 1

    async def _ask(self, name: str, kind: str) -> Answer:
        self.asked.append((since_start(), name, kind))
        known = any(one == name for one, _ in self.zone)
        answer = self.zone.get((name, kind), NOTHING if known else NO_NAME)
        if isinstance(answer, str):
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    def times(self, name: str = "venue", kind: str = "A") -> list[float]:
        return [at for at, *asked in self.asked if asked == [name, kind]]


def since_start() -> float:
    return round(asyncio.get_running_loop().time() - START, 3)


async def until(true: Callable[[], object]) -> None:
    """Wait, in the loop's own time, for at most 10 s."""
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true")


class Watcher:
    """Takes what is pushed, as `address:port` lists with the time."""

    def __init__(self) -> None:
        self.pushed: list[tuple[float, list[str]]] = []
        self.last: list[DiscoveredEndpoint] = []

    def __call__(self, found: list[DiscoveredEndpoint]) -> None:
        self.last = found
        self.pushed.append((since_start(), [f"{one.address}:{one.url.port}" for one in found]))


def source(names: Names, draw: float = 0.0, **options: Any) -> DnsSource:
    return DnsSource(session=names.session, search=options.pop("search", Search()), random=lambda: draw, **options)


async def ended(source: DnsSource, names: Names) -> None:
    source.close()
    await source.closed()
    assert names.open == 0
    assert len(asyncio.all_tasks()) == 1


def test_a_name_is_looked_up_when_its_ttl_ends_and_only_changes_are_pushed(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names({("venue", "A"): ips("10.0.0.2", "10.0.0.1", ttl=7), ("venue", "AAAA"): ips("fd00::1", ttl=20)})
        watcher, dns = Watcher(), source(names)
        watch = dns.watch(VENUE, watcher)
        assert watcher.pushed == []
        await asyncio.sleep(8)
        names.zone["venue", "A"] = ips("10.0.0.1", "10.0.0.2", ttl=4)  # rotated: no change
        await asyncio.sleep(7)
        names.zone["venue", "A"] = ips("10.0.0.3", "10.0.0.2", "10.0.0.3", ttl=60)
        await asyncio.sleep(60)
        assert names.times() == names.times(kind="AAAA") == [0, 7, 14, 18, 38, 58]
        assert watcher.pushed == [
            (0, ["10.0.0.1:80", "10.0.0.2:80", "fd00::1:80"]),
            (18, ["10.0.0.2:80", "10.0.0.3:80", "fd00::1:80"]),
        ]
        assert str(watcher.last[0].url) == "http://venue"
        assert (watch.successes, watch.failures, watch.partial, watch.last_success) == (6, 0, 0, START + 58)
        await ended(dns, names)

    drive(scenario())


@pytest.mark.parametrize(
    ("ttl_s", "refresh_s", "random", "expected"),
    [
        (10, 30, 0.0, 10),
        (10, 30, 0.5, 9.5),
        (10, 30, 0.999, 9.001),
        (60, 30, 0.0, 30),
        (0, 30, 0.0, 1),
        (1, 30, 0.9, 1),
        (2**31, 30, 0.0, 30),
        (10, 0.25, 0.0, 1),
    ],
)
def test_when_the_next_lookup_is_due(ttl_s: float, refresh_s: float, random: float, expected: float) -> None:
    assert next_s(ttl_s, refresh_s, random) == pytest.approx(expected)


@given(st.floats(0, 2**32), st.floats(1, 600), st.floats(0, 1, exclude_max=True), st.integers(0, 10_000))
def test_waits_are_within_bounds(ttl_s: float, refresh_s: float, random: float, retries: int) -> None:
    assert 1 <= next_s(ttl_s, refresh_s, random) <= max(1, min(ttl_s, refresh_s))
    assert 1 <= retry_s(retries, refresh_s, random) <= min(refresh_s, LONGEST_RETRY_S)


def test_the_log_says_when_no_endpoint_is_known_yet(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        dns = source(Names({}))
        dns.watch(VENUE, Watcher())
        await asyncio.sleep(1)
        assert [record.getMessage() for record in caplog.records] == [
            "lookup of venue failed (no such records); no endpoint is known yet"
        ]
        dns.close()

    drive(scenario())


@pytest.mark.parametrize("failure", [FAIL, HANG, OSError("no inotify"), RuntimeError("broken")], ids=repr)
def test_the_last_good_set_stays_while_lookups_fail(
    drive: Drive, caplog: pytest.LogCaptureFixture, failure: Exception | str
) -> None:
    caplog.set_level(logging.INFO, "sidecar.discovery")

    async def scenario() -> None:
        names, watcher = Names({("venue", "A"): ips("10.0.0.1")}), Watcher()
        dns = source(names)
        watch = dns.watch(VENUE, watcher)
        await asyncio.sleep(1)
        assert caplog.records == []
        names.zone.update({("venue", "A"): failure, ("venue", "AAAA"): failure})
        await asyncio.sleep(3600)
        assert [one.address for one in watch.found] == ["10.0.0.1"]
        assert (watch.successes, watch.last_success) == (1, START)
        assert watch.failures > 100
        assert [record.levelname for record in caplog.records] == ["WARNING"], "once, however often it fails"
        assert "lookup of venue failed" in caplog.text
        assert "its 1 known endpoints stay" in caplog.text

        names.zone.update({("venue", "A"): ips("10.0.0.1"), ("venue", "AAAA"): NOTHING})
        await asyncio.sleep(LONGEST_RETRY_S + 5)
        assert len(caplog.records) == 2
        assert "lookup of venue works again" in caplog.text
        assert len(watcher.pushed) == 1, "the same as before the failure"
        assert watch.last_success is not None
        assert watch.last_success > START + 3600
        await ended(dns, names)

    drive(scenario())


def test_waits_grow_while_lookups_fail(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names({("venue", "A"): FAIL, ("venue", "AAAA"): FAIL})
        dns = source(names, draw=0.5)
        dns.watch(DnsSettings(name="venue", port=80, refresh=60), Watcher())
        await asyncio.sleep(200)
        waits = [round(after - before, 3) for before, after in pairwise(names.times())]
        # Half to all of 1 s (but a second at least), doubling to 30 s; `random` gives the middle.
        assert waits[:7] == [1.0, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]
        names.zone["venue", "A"] = ips("10.0.0.1")
        await asyncio.sleep(30)
        names.zone["venue", "A"] = FAIL
        await asyncio.sleep(12)
        times = names.times()
        assert times[-1] - times[-2] <= 3.0, "success forgets the waiting"
        await ended(dns, names)

    drive(scenario())


@pytest.mark.parametrize("failure", [FAIL, HANG], ids=repr)
def test_a_family_that_fails_keeps_its_last_answer(
    drive: Drive, caplog: pytest.LogCaptureFixture, failure: Exception | str
) -> None:
    caplog.set_level(logging.INFO, "sidecar.discovery")

    async def scenario() -> None:
        names = Names({("venue", "A"): ips("10.0.0.1"), ("venue", "AAAA"): ips("fd00::1")})
        watcher, dns = Watcher(), source(names)
        watch = dns.watch(VENUE, watcher)
        await asyncio.sleep(1)
        names.zone.update({("venue", "A"): ips("10.0.0.2"), ("venue", "AAAA"): failure})
        await asyncio.sleep(30)
        assert [one for _, one in watcher.pushed] == [["10.0.0.1:80", "fd00::1:80"], ["10.0.0.2:80", "fd00::1:80"]]
        assert watcher.pushed[1][0] <= 10 + STRAGGLER_S
        assert (watch.failures, watch.partial) == (0, watch.successes - 1)
        assert len(caplog.records) == 1
        assert "AAAA of venue" in caplog.text
        names.zone["venue", "AAAA"] = NOTHING
        await asyncio.sleep(11)
        assert watcher.pushed[-1][1] == ["10.0.0.2:80"], "an answer: there is nothing to wait for"
        assert "works again" in caplog.text
        await ended(dns, names)

    drive(scenario())


@pytest.mark.parametrize("nothing", [NO_NAME, NOTHING], ids=["no such name", "no such records"])
def test_an_empty_answer_counts_after_refresh(
    drive: Drive, caplog: pytest.LogCaptureFixture, nothing: Exception
) -> None:
    caplog.set_level(logging.INFO, "sidecar.discovery")

    async def scenario() -> None:
        names, watcher = Names({("venue", "A"): ips("10.0.0.1", "10.0.0.2")}), Watcher()
        dns = source(names)
        watch = dns.watch(VENUE, watcher)
        await asyncio.sleep(1)
        names.zone["venue", "A"] = nothing
        await asyncio.sleep(38)  # it says so since 10
        assert len(watcher.pushed) == 1
        assert (watch.successes, watch.failures, watch.last_success) == (1, watch.empty, START)
        await asyncio.sleep(2)
        assert watcher.pushed[1:] == [(40, [])]
        assert (watch.successes, watch.last_success) == (2, START + 40)
        await asyncio.sleep(300)
        assert len(watcher.pushed) == 2
        assert watch.last_success > START + 300
        assert [record.getMessage() for record in caplog.records] == [
            "lookup of venue failed (no such records); its 2 known endpoints stay in use",
            "venue has had no records for 30 s; its 2 endpoints are removed",
        ]
        names.zone["venue", "A"] = ips("10.0.0.3")
        await asyncio.sleep(30)
        assert watcher.pushed[-1][1] == ["10.0.0.3:80"]
        await ended(dns, names)

    drive(scenario())


def test_what_a_scrape_reads_counts_each_lookup_once(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names({("venue", "A"): ips("10.0.0.1", "10.0.0.2")})
        dns = source(names)
        watch = dns.watch(VENUE, Watcher())
        assert (watch.kind, watch.name, watch.endpoints, watch.last_success) == ("dns", "venue", 0, None)
        await asyncio.sleep(15)
        assert watch.endpoints == 2
        assert watch.updates == {"success": 2, "partial": 0, "empty": 0, "failure": 0}
        names.zone["venue", "AAAA"] = FAIL
        await asyncio.sleep(10)
        assert watch.updates == {"success": 2, "partial": 1, "empty": 0, "failure": 0}
        names.zone["venue", "A"] = FAIL
        await asyncio.sleep(10)
        failed = watch.updates["failure"]
        assert failed >= 1
        assert watch.last_success == START + 20
        names.zone.update({("venue", "A"): NOTHING, ("venue", "AAAA"): NOTHING})
        await asyncio.sleep(29)
        doubted = watch.updates["empty"]
        assert watch.endpoints == 2
        assert watch.last_success == START + 20, "an answer that is not believed yet confirms nothing"
        await asyncio.sleep(60)
        assert watch.endpoints == 0
        assert watch.updates["empty"] > doubted >= 1
        assert (watch.updates["success"], watch.updates["failure"]) == (2, failed)
        assert sum(watch.updates.values()) == len(names.times())
        await ended(dns, names)

    drive(scenario())


def test_a_moment_without_records_changes_nothing(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = Names({("venue", "A"): ips("10.0.0.1")}), Watcher()
        dns = source(names)
        dns.watch(VENUE, watcher)
        for _ in range(5):  # never for `refresh` at a time
            await asyncio.sleep(11)
            names.zone["venue", "A"] = NO_NAME
            await asyncio.sleep(20)
            names.zone["venue", "A"] = ips("10.0.0.1")
        assert len(watcher.pushed) == 1
        await ended(dns, names)

    drive(scenario())


def test_failures_do_not_count_for_or_against_an_empty_answer(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = Names({("venue", "A"): ips("10.0.0.1")}), Watcher()
        dns = source(names)
        dns.watch(VENUE, watcher)
        await asyncio.sleep(1)
        names.zone["venue", "A"] = NOTHING
        await asyncio.sleep(15)
        names.zone["venue", "A"] = FAIL
        await asyncio.sleep(300)
        assert len(watcher.pushed) == 1
        names.zone["venue", "A"] = NOTHING
        await asyncio.sleep(31)
        assert [one for _, one in watcher.pushed[1:]] == [[]]
        await ended(dns, names)

    drive(scenario())


def test_search_domains_are_tried_and_the_one_found_is_kept(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = Names({("venue.b", "A"): ips("10.0.0.1"), ("venue.c", "A"): ips("10.9.9.9")}), Watcher()
        dns = source(names, search=Search(("a", "b", "c")))
        dns.watch(VENUE, watcher)
        await asyncio.sleep(11)
        assert [name for _, name, kind in names.asked if kind == "A"] == ["venue.a", "venue.b", "venue.b"]
        assert str(watcher.last[0].url) == "http://venue", "Host is what the file says"
        names.zone["venue.b", "A"] = NO_NAME
        await asyncio.sleep(28)
        assert len(watcher.pushed) == 1
        assert names.times("venue.c") == [], "another's, most likely"
        await asyncio.sleep(30)
        assert [one for _, one in watcher.pushed[1:]] == [[], ["10.9.9.9:80"]]
        await ended(dns, names)

    drive(scenario())


def test_a_failure_ends_the_search(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = Names({("venue.a", "A"): FAIL, ("venue.b", "A"): ips("10.9.9.9")}), Watcher()
        dns = source(names, search=Search(("a", "b")))
        watch = dns.watch(VENUE, watcher)
        await asyncio.sleep(60)
        assert watcher.pushed == []
        assert watch.failures > 1
        assert names.times("venue.b") == []
        await ended(dns, names)

    drive(scenario())


def services(*entries: tuple[int, int, int, str], ttl: float = 10) -> Answer:
    return Answer(ttl, services=tuple(Service(*entry) for entry in entries))


def test_services_bring_port_weight_and_priority(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names(
            {
                ("venue", "SRV"): services((10, 0, 81, "a"), (20, 5, 82, "b")),
                ("a", "A"): ips("10.0.0.1"),
                ("b", "A"): ips("10.0.0.2", ttl=3),
            }
        )
        watcher, dns = Watcher(), source(names)
        dns.watch(SRV, watcher, scheme="https")
        await asyncio.sleep(4)
        assert names.times(kind="SRV") == [0, 3]
        assert [(str(one.url), one.address, one.weight, one.priority) for one in watcher.last] == [
            ("https://a:81", "10.0.0.1", 1, 10),
            ("https://b:82", "10.0.0.2", 5, 20),
        ]
        assert len(watcher.pushed) == 1
        names.zone["venue", "SRV"] = services((10, 1, 81, "a"), (10, 5, 82, "b"))
        await asyncio.sleep(3)
        assert [(one.weight, one.priority) for one in watcher.last] == [(1, 10), (5, 10)], "a change, too"
        await ended(dns, names)

    drive(scenario())


def test_a_failing_target_keeps_its_last_answer_while_it_is_a_target(drive: Drive) -> None:
    async def scenario() -> None:
        both = services((0, 1, 80, "a"), (0, 1, 80, "b"))
        names = Names({("venue", "SRV"): both, ("a", "A"): ips("10.0.0.1"), ("b", "A"): ips("10.0.0.2")})
        watcher, dns = Watcher(), source(names)
        watch = dns.watch(SRV, watcher)
        await asyncio.sleep(1)
        names.zone.update({("b", "A"): FAIL, ("b", "AAAA"): FAIL})
        await asyncio.sleep(20)
        assert len(watcher.pushed) == 1
        names.zone.update({("a", "A"): FAIL, ("a", "AAAA"): FAIL})
        await asyncio.sleep(20)
        assert len(watcher.pushed) == 1
        assert watch.failures > 0
        names.zone["venue", "SRV"] = services((0, 1, 80, "a"))
        names.zone["a", "A"] = ips("10.0.0.1")
        await asyncio.sleep(31)
        assert [one for _, one in watcher.pushed[1:]] == [["10.0.0.1:80"]]
        await ended(dns, names)

    drive(scenario())


def test_services_without_addresses_count_as_empty_after_refresh(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = Names({("venue", "SRV"): services((0, 1, 80, "a")), ("a", "A"): ips("10.0.0.1")}), Watcher()
        dns = source(names)
        dns.watch(SRV, watcher)
        await asyncio.sleep(1)
        names.zone["a", "A"] = NO_NAME
        await asyncio.sleep(38)
        assert len(watcher.pushed) == 1
        await asyncio.sleep(2)
        assert watcher.pushed[1:] == [(40, [])]
        await ended(dns, names)

    drive(scenario())


def test_there_are_no_more_endpoints_than_the_bound(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        many = [f"10.0.{number // 250}.{number % 250}" for number in range(MOST_ENDPOINTS + 1)]
        names, watcher = Names({("venue", "A"): ips(*many[:-1])}), Watcher()
        dns = source(names)
        watch = dns.watch(VENUE, watcher)
        await asyncio.sleep(1)
        assert (len(watcher.last), watch.left_out) == (MOST_ENDPOINTS, 0)
        names.zone["venue", "A"] = ips(*many)
        await asyncio.sleep(10)
        names.zone["venue", "A"] = ips(*reversed(many))
        await asyncio.sleep(10)
        assert (len(watcher.last), watch.left_out) == (MOST_ENDPOINTS, 1)
        assert len(watcher.pushed) <= 2, "a rotation is no change, whatever is left out"
        assert [record.getMessage() for record in caplog.records] == [
            "venue has more than 1000 endpoints; 1 are left out"
        ]
        await ended(dns, names)

    drive(scenario())


def test_a_hint_brings_the_next_lookup_forward_to_once_a_second(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names({("venue", "A"): ips("10.0.0.1", ttl=300), ("auth", "A"): ips("10.0.0.2", ttl=300)})
        dns = source(names)
        watch = dns.watch(DnsSettings(name="Venue.", port=80, refresh=300), Watcher())
        dns.watch(DnsSettings(name="auth", port=80, refresh=300), Watcher())
        watch.refresh_soon()  # before its first lookup began: that one will do
        await asyncio.sleep(10)
        assert names.times() == [0]
        dns.refresh_soon("venue")
        dns.refresh_soon("unknown")
        await asyncio.sleep(0.2)
        for _ in range(28):
            watch.refresh_soon()
            await asyncio.sleep(0.1)
        await asyncio.sleep(30)
        assert names.times() == [0, 10, 11, 12, 13]
        assert names.times("auth") == [0]
        names.zone.update({("venue", "A"): HANG, ("venue", "AAAA"): HANG})
        watch.refresh_soon()
        await asyncio.sleep(2)
        watch.refresh_soon()  # one is under way, until 48
        await asyncio.sleep(3.5)
        assert names.times()[5:] == [43]
        await ended(dns, names)

    drive(scenario())


def test_ready_waits_for_a_first_result_good_or_bad(drive: Drive) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        names = Names({("good", "A"): ips("10.0.0.1"), ("slow", "A"): HANG, ("slow", "AAAA"): HANG})
        dns = source(names, timeout_s=4)
        assert await dns.ready(1), "nothing is watched"
        good = dns.watch(DnsSettings(name="good", port=80), Watcher())
        dns.watch(DnsSettings(name="bad", port=80), Watcher())
        assert await dns.ready(1)
        assert await good.ready(0.1)
        assert loop.time() == START
        slow = dns.watch(DnsSettings(name="slow", port=80), Watcher())
        assert not await dns.ready(3)
        assert not await slow.ready(0.5)
        assert loop.time() == START + 3.5
        assert await dns.ready(3)
        assert loop.time() == START + 4
        await ended(dns, names)

    drive(scenario())


def test_closing_a_watch_ends_only_its_own_lookups(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names({("venue", "A"): HANG, ("auth", "A"): ips("10.0.0.2")})
        watcher, dns = Watcher(), source(names)
        watch = dns.watch(VENUE, Watcher())
        other = dns.watch(DnsSettings(name="auth", port=80), watcher)
        await asyncio.sleep(1)
        watch.close()
        watch.close()
        await watch.closed()
        assert await watch.ready(0)
        assert dns.watches == {other}
        assert names.open == 0
        names.zone["auth", "A"] = ips("10.0.0.3")
        await asyncio.sleep(20)
        assert names.times() == [0]
        assert watcher.pushed[-1] == (10, ["10.0.0.3:80"])
        await ended(dns, names)
        names.zone["auth", "A"] = ips("10.0.0.4")
        await asyncio.sleep(60)
        assert len(watcher.pushed) == 2
        with pytest.raises(RuntimeError, match="closed"):
            dns.watch(VENUE, watcher)

    drive(scenario())


def test_a_watcher_that_raises_ends_nothing(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        def broken(found: list[DiscoveredEndpoint]) -> None:
            raise ValueError("not today")

        names = Names({("venue", "A"): ips("10.0.0.1")})
        dns = source(names)
        dns.watch(VENUE, broken)
        await asyncio.sleep(11)
        assert names.times() == [0, 10]
        assert "ValueError: not today" in caplog.text
        await ended(dns, names)

    drive(scenario())


def test_a_push_may_close_its_own_watch(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names({("venue", "A"): ips("10.0.0.1")})
        dns = source(names)
        watch = dns.watch(VENUE, lambda found: watch.close())
        await asyncio.sleep(30)
        assert names.times() == [0]
        await ended(dns, names)

    drive(scenario())


def test_a_port_is_needed_without_srv(drive: Drive) -> None:
    async def scenario() -> None:
        dns = source(Names({}))
        with pytest.raises(ValueError, match="port"):
            dns.watch(DnsSettings(name="venue"), Watcher())

    drive(scenario())


def test_repr_shows_the_state(drive: Drive) -> None:
    async def scenario() -> None:
        names = Names({("venue", "A"): ips("10.0.0.1")})
        dns = source(names)
        watch = dns.watch(VENUE, Watcher())
        assert repr(watch) == "<Watch venue not looked up yet successes=0 failures=0 found=0>"
        await asyncio.sleep(1)
        assert repr(watch) == "<Watch venue well successes=1 failures=0 found=1>"
        await ended(dns, names)

    drive(scenario())


answers = st.one_of(
    st.just(FAIL),
    st.just(NO_NAME),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=4).map(
        lambda addresses: ips(*addresses) if addresses else NOTHING
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # `drive` makes a new loop each time
@given(script=st.lists(st.tuples(answers, answers), max_size=12))
def test_the_set_joins_the_last_answers_of_both_families(
    drive: Drive, script: list[tuple[Answer | Exception, Answer | Exception]]
) -> None:
    """Against a model in one line a rule; `refresh` is too long for an empty set to be believed."""

    async def scenario() -> None:
        names, watcher = Names({}), Watcher()
        dns = source(names)
        watch = dns.watch(DnsSettings(name="venue", port=80, refresh=1e6), watcher)
        expected: dict[str, set[str]] = {"A": set(), "AAAA": set()}
        await watch.ready(1)
        for pair in script:
            before = len(watcher.pushed)
            said = dict(zip(("A", "AAAA"), pair, strict=True))
            names.zone = {("venue", kind): answer for kind, answer in said.items()}
            watch.refresh_soon()
            await until(lambda done=watch.successes + watch.failures: watch.successes + watch.failures > done)
            old = set().union(*expected.values())
            if any(isinstance(answer, Answer) for answer in pair):
                for kind, answer in said.items():
                    if isinstance(answer, Answer):
                        expected[kind] = set(answer.addresses)
                    elif answer is not FAIL:
                        expected[kind] = set()
            new = set().union(*expected.values())
            assert {one.address for one in watch.found} == new
            assert (len(watcher.pushed) > before) == (new != old)
        await ended(dns, names)

    drive(scenario())


# With a real name server, aiodns, and real time.


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with dns_server() as server:
        yield server


class Pushed:
    """Takes what is pushed; a test waits for the next one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[list[DiscoveredEndpoint]] = asyncio.Queue()

    def __call__(self, found: list[DiscoveredEndpoint]) -> None:
        self.queue.put_nowait(found)

    async def next(self) -> list[str]:
        async with asyncio.timeout(10):
            return [f"{one.address} {one.weight} {one.priority}" for one in await self.queue.get()]


async def test_changes_of_a_real_zone_are_pushed_within_their_ttl(server: DnsServer) -> None:
    loop = asyncio.get_running_loop()
    server.say("venue.prod.test", "A", "10.0.0.1", "10.0.0.2", ttl=1, rotate=True)
    pushed = Pushed()
    dns = DnsSource(nameservers=[server.address], search=Search(("prod.test", "test"), 5))
    watch = dns.watch(VENUE, pushed)
    assert await dns.ready(5)
    assert await pushed.next() == ["10.0.0.1 1 0", "10.0.0.2 1 0"]
    await until(lambda: watch.successes == 3)  # rotated each time
    assert pushed.queue.empty()
    changed = loop.time()
    server.say("venue.prod.test", "A", "10.0.0.2", "10.0.0.3", ttl=60)
    assert await pushed.next() == ["10.0.0.2 1 0", "10.0.0.3 1 0"]
    assert loop.time() - changed < 5.0, "by the TTL of 1 s, not by `refresh`"
    server.say("venue.prod.test", "A", "10.0.0.4", ttl=60)
    watch.refresh_soon()  # the TTL has a minute to go, and no cache stands between
    assert await pushed.next() == ["10.0.0.4 1 0"]
    dns.close()
    await dns.closed()


async def test_real_services_and_a_server_that_fails_and_comes_back(server: DnsServer) -> None:
    server.say("_http._tcp.venue.test", "SRV", "5 0 80 a.test.", "1 3 80 b.test.", ttl=1)
    server.say("a.test", "A", "10.0.0.1", ttl=1)
    server.say("b.test", "A", "10.0.0.2", ttl=1)
    pushed = Pushed()
    dns = DnsSource(nameservers=[server.address], search=Search())
    watch = dns.watch(DnsSettings(name="_http._tcp.venue.test", srv=True), pushed)
    assert await pushed.next() == ["10.0.0.2 3 1", "10.0.0.1 1 5"]
    server.say("_http._tcp.venue.test", "SRV", rcode="SERVFAIL")
    await until(lambda: watch.failures)
    assert [one.address for one in watch.found] == ["10.0.0.2", "10.0.0.1"]
    server.say("_http._tcp.venue.test", "SRV", "1 3 80 b.test.", ttl=1)
    assert await pushed.next() == ["10.0.0.2 3 1"]
    dns.close()
    await dns.closed()


async def test_closing_while_a_real_lookup_is_under_way(server: DnsServer) -> None:
    server.say("venue.test", "A", silent=True)
    server.say("venue.test", "AAAA", silent=True)
    dns = DnsSource(nameservers=[server.address], search=Search())
    dns.watch(DnsSettings(name="venue.test", port=80), Pushed())
    await until(lambda: server.times("venue.test", "A"))
    dns.close()
    async with asyncio.timeout(1):
        await dns.closed()
    assert len(asyncio.all_tasks()) == 1
