"""Name resolution: when names are looked up, and what is pushed."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.schema import EndpointSpec, Url
from sidecar.discovery.addresses import LONGEST_RETRY_S, MOST_ADDRESSES, Resolver

Drive = Callable[[Coroutine[Any, Any, None]], None]
START = 1000.0
HANG = "hang"


class Late(NamedTuple):
    """What a name server that is nearly silent leads to."""

    after_s: float
    answer: list[str] | Exception


def spec(host: str, port: int = 80, weight: int = 1) -> EndpointSpec:
    return EndpointSpec(url=Url("http", host, port), weight=weight)


class NameService:
    """Answers what `zone` says, and notes when it was asked (in seconds since the start)."""

    def __init__(self, zone: dict[str, list[str] | Exception | str | Late]) -> None:
        self.zone = zone
        self.asked: list[tuple[float, str]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((round(asyncio.get_running_loop().time() - START, 3), host))
        answer = self.zone.get(host, OSError("no such name"))
        if isinstance(answer, str):
            await asyncio.Event().wait()
        if isinstance(answer, Late):
            await asyncio.sleep(answer.after_s)
            answer = answer.answer
        if isinstance(answer, Exception):
            raise answer
        return list(answer)  # type: ignore[arg-type]

    def times(self, host: str) -> list[float]:
        return [at for at, asked in self.asked if asked == host]


class Watcher:
    """Takes what is pushed, as `host>address` lists with the time."""

    def __init__(self) -> None:
        self.pushed: list[tuple[float, list[str]]] = []

    def __call__(self, known: list[tuple[EndpointSpec, str]]) -> None:
        now = round(asyncio.get_running_loop().time() - START, 3)
        self.pushed.append((now, [f"{spec.url.host}>{address}" for spec, address in known]))


def resolver(names: NameService, **options: Any) -> Resolver:
    return Resolver(resolve=names, random=lambda: 0.5, **options)


def test_a_name_is_looked_up_again_and_only_changes_are_pushed(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = NameService({"venue": ["10.0.0.1", "10.0.0.2"]}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue")], watcher)
        assert watcher.pushed == []
        await asyncio.sleep(6)
        names.zone["venue"] = ["10.0.0.2", "10.0.0.1"]  # rotated: no change
        await asyncio.sleep(5)
        names.zone["venue"] = ["10.0.0.3", "10.0.0.2", "10.0.0.3"]
        await asyncio.sleep(5)
        assert names.times("venue") == [0, 5, 10, 15]
        assert watcher.pushed == [
            (0, ["venue>10.0.0.1", "venue>10.0.0.2"]),
            (15, ["venue>10.0.0.3", "venue>10.0.0.2"]),
        ]
        addresses.close()

    drive(scenario())


def test_ip_literals_are_pushed_at_once_and_never_looked_up(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = NameService({}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("10.0.0.7"), spec("::1")], watcher)
        assert watcher.pushed == [(0, ["10.0.0.7>10.0.0.7", "::1>::1"])]
        assert await addresses.ready(0)
        await asyncio.sleep(60)
        assert names.asked == []
        addresses.close()

    drive(scenario())


def test_each_push_is_the_complete_set_in_the_order_of_the_specs(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = NameService({"b": ["10.0.0.2"], "a": Late(2, OSError("no answer"))}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("a"), spec("10.0.0.9"), spec("b", 80), spec("b", 81)], watcher)
        await asyncio.sleep(1)
        names.zone["a"] = ["10.0.0.1"]
        await asyncio.sleep(2)
        assert names.times("b") == [0], "one lookup for two specs"
        assert watcher.pushed == [
            (0, ["10.0.0.9>10.0.0.9"]),  # of `a` and `b` nothing is known yet
            (0, ["10.0.0.9>10.0.0.9", "b>10.0.0.2", "b>10.0.0.2"]),
            (2.375, ["a>10.0.0.1", "10.0.0.9>10.0.0.9", "b>10.0.0.2", "b>10.0.0.2"]),
        ]
        addresses.close()

    drive(scenario())


def test_what_a_scrape_reads_of_a_name(drive: Drive) -> None:
    async def scenario() -> None:
        names = NameService({"venue": ["10.0.0.1", "10.0.0.2"]})
        addresses = resolver(names)
        watch = addresses.watch([spec("venue", 80), spec("venue", 81), spec("auth"), spec("10.0.0.9")], Watcher())
        other = addresses.watch([spec("venue", 80)], Watcher())
        venue, auth = watch.sources
        assert (venue.last_success, venue.endpoints, venue.updates) == (None, 0, {"success": 0, "failure": 0})
        await asyncio.sleep(1)
        assert [(one.kind, one.name, one.endpoints) for one in watch.sources] == [
            ("name", "venue", 4),
            ("name", "auth", 0),
        ]
        assert [(one.name, one.endpoints) for one in other.sources] == [("venue", 2)]
        assert (venue.last_success, venue.updates) == (START, {"success": 1, "failure": 0})
        assert auth.last_success is None
        assert auth.updates["failure"] >= 2

        names.zone["venue"] = OSError("SERVFAIL")
        await asyncio.sleep(100)
        failures = venue.updates["failure"]
        assert failures > 5
        assert (venue.last_success, venue.endpoints, venue.updates["success"]) == (START, 4, 1)
        names.zone["venue"] = ["10.0.0.1"]
        await asyncio.sleep(LONGEST_RETRY_S)
        assert venue.last_success is not None
        assert venue.last_success > START + 101
        assert venue.endpoints == 2
        assert failures <= venue.updates["failure"] <= failures + 1, "they only grow"
        addresses.close()

    drive(scenario())


@pytest.mark.parametrize("answer", [OSError("SERVFAIL"), UnicodeError("label too long"), RuntimeError("broken"), []])
def test_the_last_good_set_stays_while_lookups_fail(
    drive: Drive, caplog: pytest.LogCaptureFixture, answer: list[str] | Exception
) -> None:
    caplog.set_level(logging.INFO, "sidecar.discovery")

    async def scenario() -> None:
        names, watcher = NameService({"venue": ["10.0.0.1"]}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue")], watcher)
        await asyncio.sleep(1)
        names.zone["venue"] = answer
        await asyncio.sleep(100)
        assert addresses.addresses("venue") == ["10.0.0.1"]
        assert len(watcher.pushed) == 1
        assert [record.levelname for record in caplog.records] == ["WARNING"], "once, however often it fails"
        assert "lookup of venue failed" in caplog.text
        assert "its 1 known addresses stay" in caplog.text

        names.zone["venue"] = ["10.0.0.1"]
        await asyncio.sleep(LONGEST_RETRY_S)
        assert len(caplog.records) == 2
        assert "lookup of venue works again" in caplog.text
        assert len(watcher.pushed) == 1, "the same as before the failure"
        names.zone["venue"] = answer
        await asyncio.sleep(10)
        assert len(caplog.records) == 3
        addresses.close()

    drive(scenario())


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("SERVFAIL"), "SERVFAIL"),
        (OSError(), "OSError"),
        ([], "the answer is empty"),
    ],
)
def test_the_log_says_why_a_lookup_failed(
    drive: Drive, caplog: pytest.LogCaptureFixture, failure: list[str] | Exception, words: str
) -> None:
    async def scenario() -> None:
        addresses = resolver(NameService({"venue": failure}))
        watch = addresses.watch([spec("venue")], Watcher())
        await asyncio.sleep(0.1)
        assert [source.problem for source in watch.sources] == [words]
        assert f"lookup of venue failed ({words}); no address is known yet" in caplog.text
        addresses.close()

    drive(scenario())


def test_waits_grow_while_lookups_fail(drive: Drive) -> None:
    async def scenario() -> None:
        names = NameService({})
        addresses = resolver(names)
        addresses.watch([spec("venue")], Watcher())
        await asyncio.sleep(300)
        times = names.times("venue")
        waits = [round(after - before, 3) for before, after in pairwise(times)]
        # Half to all of 0.5 s, doubling to 30 s; `random` gives the middle.
        assert waits[:8] == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]
        assert set(waits[6:]) == {22.5}
        names.zone["venue"] = ["10.0.0.1"]
        await asyncio.sleep(30)
        names.zone.clear()
        await asyncio.sleep(10)
        times = names.times("venue")
        assert round(times[-1] - times[-2], 3) <= 6.0, "success forgets the waiting"
        addresses.close()

    drive(scenario())


def test_a_lookup_without_an_answer_fails_once_and_is_followed_by_the_next_at_its_end(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        names = NameService({"venue": Late(4, OSError("no answer")), "auth": ["10.0.0.1"]})
        addresses = resolver(names, timeout_s=3)
        watch = addresses.watch([spec("venue"), spec("auth")], Watcher())
        await asyncio.sleep(9)
        assert names.times("venue") == [0, 4.375]
        assert watch.sources[0].updates == {"success": 0, "failure": 2}
        assert watch.sources[0].problem == "no answer"
        assert names.times("auth") == [0, 5], "other names do not wait for it"
        assert "lookup of venue failed (no answer within 3 s); no address is known yet" in caplog.text
        addresses.close()

    drive(scenario())


def test_a_late_answer_is_used(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        names, watcher = NameService({"venue": Late(7, ["10.0.0.1"])}), Watcher()
        addresses = resolver(names, timeout_s=5)
        watch = addresses.watch([spec("venue")], watcher)
        await asyncio.sleep(6)
        assert watch.sources[0].updates == {"success": 0, "failure": 1}
        await asyncio.sleep(2)
        assert watcher.pushed == [(7, ["venue>10.0.0.1"])]
        assert watch.sources[0].updates == {"success": 1, "failure": 1}
        assert watch.sources[0].problem is None
        assert "lookup of venue works again after 1 failures" in caplog.text
        await asyncio.sleep(5)
        assert names.times("venue") == [0, 12]
        addresses.close()

    drive(scenario())


def test_names_of_idle_services_rest(drive: Drive) -> None:
    async def scenario() -> None:
        names = NameService({"venue": ["10.0.0.1"], "auth": ["10.0.0.2"]})
        addresses = resolver(names)
        rests = {"one": 60.0, "other": 0.0}
        addresses.watch([spec("venue")], Watcher(), lambda: rests["one"])
        addresses.watch([spec("venue")], Watcher(), lambda: rests["other"])
        addresses.watch([spec("auth")], Watcher(), lambda: rests["one"])
        await asyncio.sleep(12)
        assert names.times("venue") == [0, 5, 10], "one of its services has requests"
        assert names.times("auth") == [0]
        rests["other"] = 30.0
        await asyncio.sleep(38)
        assert names.times("venue") == [0, 5, 10, 40]
        rests["one"] = 0.0  # requests begin again
        await asyncio.sleep(4.5)
        assert names.times("auth") == [0, 50]
        rests["one"] = 60.0
        await asyncio.sleep(60)
        assert names.times("auth") == [0, 50, 110]
        addresses.close()

    drive(scenario())


def test_a_connect_failure_ends_the_rest(drive: Drive) -> None:
    async def scenario() -> None:
        names = NameService({"venue": ["10.0.0.1"]})
        addresses = resolver(names)
        addresses.watch([spec("venue")], Watcher(), lambda: 60.0)
        await asyncio.sleep(12)
        addresses.refresh_soon("venue")
        await asyncio.sleep(50)
        assert names.times("venue") == [0, 12]
        addresses.close()

    drive(scenario())


def test_a_name_that_is_not_known_yet_is_not_left_to_rest(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = NameService({}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue")], watcher, lambda: 60.0)
        await asyncio.sleep(10)
        names.zone["venue"] = ["10.0.0.1"]
        await asyncio.sleep(10)
        assert len(watcher.pushed) == 1
        addresses.close()

    drive(scenario())


def test_a_connect_failure_brings_the_next_lookup_forward_to_once_a_second(drive: Drive) -> None:
    async def scenario() -> None:
        names = NameService({"venue": ["10.0.0.1"]})
        addresses = resolver(names, refresh_s=60)
        addresses.watch([spec("venue")], Watcher())
        addresses.refresh_soon("venue")  # before its first lookup began: that one will do
        addresses.refresh_soon("unknown")
        await asyncio.sleep(10)
        assert names.times("venue") == [0]
        addresses.refresh_soon("venue")
        await asyncio.sleep(0.2)
        for _ in range(28):
            addresses.refresh_soon("venue")
            await asyncio.sleep(0.1)
        await asyncio.sleep(30)
        assert names.times("venue") == [0, 10, 11, 12, 13]
        addresses.close()

    drive(scenario())


def test_a_connect_failure_during_a_lookup_starts_no_other(drive: Drive) -> None:
    async def scenario() -> None:
        names = NameService({"venue": ["10.0.0.1"]})
        addresses = resolver(names, refresh_s=60, timeout_s=10)
        addresses.watch([spec("venue")], Watcher())
        await asyncio.sleep(59)
        names.zone["venue"] = Late(10, OSError("no answer"))
        await asyncio.sleep(5)  # the lookup of 60 is under way until 70
        addresses.refresh_soon("venue")
        await asyncio.sleep(7)
        assert names.times("venue") == [0, 60, 70.375]
        addresses.close()

    drive(scenario())


def test_ready_waits_for_a_first_result_good_or_bad(drive: Drive) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        addresses = resolver(NameService({"good": ["10.0.0.1"], "slow": HANG}), timeout_s=4)
        assert await addresses.ready(1), "nothing is watched"
        addresses.watch([spec("good"), spec("bad")], Watcher())
        assert await addresses.ready(1)
        assert loop.time() == START
        addresses.watch([spec("slow")], Watcher())
        assert not await addresses.ready(3)
        assert loop.time() == START + 3
        assert await addresses.ready(3)
        assert loop.time() == START + 4
        addresses.close()

    drive(scenario())


def test_a_second_watch_begins_with_what_is_known(drive: Drive) -> None:
    async def scenario() -> None:
        names, second = NameService({"venue": ["10.0.0.1"]}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue")], Watcher())
        await asyncio.sleep(1)
        addresses.watch([spec("venue", 81)], second)
        assert second.pushed == [(1, ["venue>10.0.0.1"])]
        await asyncio.sleep(1)
        assert names.times("venue") == [0]
        addresses.close()

    drive(scenario())


def test_an_unwatched_name_is_no_longer_looked_up(drive: Drive) -> None:
    async def scenario() -> None:
        names, kept = NameService({"venue": ["10.0.0.1"], "auth": ["10.0.0.2"]}), Watcher()
        addresses = resolver(names)
        watch = addresses.watch([spec("venue"), spec("auth"), spec("auth", 81)], Watcher())
        addresses.watch([spec("auth")], kept)
        await asyncio.sleep(1)
        watch.close()
        watch.close()
        names.zone["auth"] = ["10.0.0.3"]
        await asyncio.sleep(10)
        assert names.times("venue") == [0]
        assert addresses.addresses("venue") == []
        assert kept.pushed[-1] == (5, ["auth>10.0.0.3"])
        assert len(asyncio.all_tasks()) == 2
        addresses.close()

    drive(scenario())


def test_a_watcher_that_raises_does_not_affect_others(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        def broken(known: list[tuple[EndpointSpec, str]]) -> None:
            raise ValueError("not today")

        names, watcher = NameService({"venue": ["10.0.0.1"]}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue")], broken)
        addresses.watch([spec("venue")], watcher)
        await asyncio.sleep(6)
        assert watcher.pushed == [(0, ["venue>10.0.0.1"])]
        assert names.times("venue") == [0, 5]
        assert "ValueError: not today" in caplog.text
        addresses.close()

    drive(scenario())


def test_a_push_may_end_another_watch_of_the_name(drive: Drive) -> None:
    async def scenario() -> None:
        names, watchers = NameService({"venue": ["10.0.0.1"]}), [Watcher(), Watcher()]
        addresses = resolver(names)
        watches: list[Any] = []

        def take(number: int, known: list[tuple[EndpointSpec, str]]) -> None:
            watchers[number](known)
            watches[1 - number].close()

        watches.append(addresses.watch([spec("venue")], lambda known: take(0, known)))
        watches.append(addresses.watch([spec("venue")], lambda known: take(1, known)))
        await asyncio.sleep(1)
        assert sorted(len(watcher.pushed) for watcher in watchers) == [0, 1]
        addresses.close()

    drive(scenario())


def test_a_name_has_no_more_addresses_than_the_bound(drive: Drive) -> None:
    async def scenario() -> None:
        many = [f"10.0.{number // 256}.{number % 256}" for number in range(MOST_ADDRESSES + 50)]
        names, watcher = NameService({"venue": many[:MOST_ADDRESSES]}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue")], watcher)
        await asyncio.sleep(1)
        assert len(watcher.pushed[0][1]) == MOST_ADDRESSES
        names.zone["venue"] = many[40:] + many[:40]
        await asyncio.sleep(5)
        assert len(watcher.pushed) == 1, "what is known comes first, or a rotation would be a change"
        names.zone["venue"] = many[40:]
        await asyncio.sleep(5)
        assert len(watcher.pushed[-1][1]) == MOST_ADDRESSES
        names.zone["venue"] = [many[0]]
        await asyncio.sleep(5)
        assert watcher.pushed[-1][1] == ["venue>10.0.0.0"]
        addresses.close()

    drive(scenario())


def test_closing_ends_every_task_and_pushes_no_more(drive: Drive) -> None:
    async def scenario() -> None:
        names, watcher = NameService({"venue": HANG, "auth": ["10.0.0.1"]}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue"), spec("auth")], watcher)
        await asyncio.sleep(1)
        names.zone["auth"] = ["10.0.0.2"]
        addresses.close()
        await addresses.closed()
        assert len(asyncio.all_tasks()) == 1
        await asyncio.sleep(60)
        assert len(watcher.pushed) == 1
        assert await addresses.ready(1)
        with pytest.raises(RuntimeError, match="closed"):
            addresses.watch([spec("auth")], watcher)

    drive(scenario())


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=12))
def test_the_last_push_is_the_last_good_set(answers: list[list[int]]) -> None:
    """The answers are taken in one after the other, with no waiting in between."""

    async def scenario() -> None:
        names, watcher = NameService({"venue": HANG}), Watcher()
        addresses = resolver(names)
        addresses.watch([spec("venue")], watcher)
        name = addresses._names["venue"]
        good: set[str] = set()
        for numbers in answers:
            found = [f"10.0.0.{number}" for number in dict.fromkeys(numbers)]
            before = len(watcher.pushed)
            assert addresses._judge(name, found or OSError("nothing")) > 0
            assert (len(watcher.pushed) > before) == bool(found and set(found) != good)
            good = set(found) or good
        assert {entry.removeprefix("venue>") for entry in (watcher.pushed[-1][1] if watcher.pushed else [])} == good
        addresses.close()
        await addresses.closed()

    asyncio.run(scenario())
