"""The ring buffer of events and its followers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import msgspec
import pytest

from sidecar.telemetry import logs
from sidecar.telemetry.events import MOST_FOLLOWERS, MOST_WAITING, EventHandler, Events, TooManyFollowers

AT = 1763859723.456


def add(events: Events, count: int = 1, service: str | None = None) -> None:
    for number in range(count):
        fields = {"number": number} | ({"service": service} if service else {})
        events.add("breaker", "info", AT, f"event {number}", fields)


def ids(events: Events, after: int = 0, service: str | None = None) -> list[int]:
    return [event.id for event in events.since(after, service)]


def test_an_event_says_when_what_and_where() -> None:
    events = Events()
    events.add("breaker", "warning", AT, "breaker open", {"service": "venue", "to": "open"})
    (event,) = events.since()
    assert (event.id, event.kind, event.level, event.service) == (1, "breaker", "warning", "venue")
    assert (event.time, event.text, event.fields) == ("2025-11-23T01:02:03.456Z", "breaker open", {"to": "open"})


def test_the_ring_keeps_the_last_ones() -> None:
    events = Events(kept=3)
    add(events, 5)
    assert ids(events) == [3, 4, 5]


def test_the_size_of_an_event_is_bounded() -> None:
    events = Events()
    fields = {"errors": ["x" * 2000] * 51, "few": ("a", "b"), "number": 7}
    events.add("reload", "warning", AT, "y" * 2000, fields)
    (event,) = events.since()
    assert (len(event.text), len(event.fields["errors"]), len(event.fields["errors"][0])) == (1000, 51, 1000)
    assert (event.fields["errors"][-1], event.fields["few"], event.fields["number"]) == ("and 1 more", ["a", "b"], 7)


def test_an_event_with_any_file_name_can_be_sent() -> None:
    events = Events()
    events.add("reload", "warning", AT, "caf\udce9.yaml \u00e9", {"file": "caf\udce9", "errors": ["\udce9"]})
    (event,) = events.since()
    assert event.text == "caf\\udce9.yaml \u00e9"
    assert msgspec.json.encode(event)


def test_events_after_one_and_of_one_service() -> None:
    events = Events()
    add(events, 2, "venue")
    add(events, 2)
    assert ids(events, after=1) == [2, 3, 4]
    assert ids(events, service="venue") == [1, 2]
    assert ids(events, after=4) == []


def test_an_id_of_an_earlier_process_means_everything() -> None:
    events = Events()
    add(events, 2)
    assert ids(events, after=700) == [1, 2]


async def test_a_follower_gets_what_it_missed_and_then_what_comes() -> None:
    events = Events()
    add(events, 3)
    follower = events.follow(after=1)
    assert [event.id for event in follower.take()[1]] == [2, 3]
    add(events)
    await follower.wait(1)
    assert [event.id for event in follower.take()[1]] == [4]


async def test_without_an_id_it_gets_only_what_comes() -> None:
    events = Events()
    add(events, 3)
    follower = events.follow(None)
    assert follower.take() == (0, [])
    add(events)
    assert [event.id for event in follower.take()[1]] == [4]


async def test_waiting_has_a_limit() -> None:
    follower = Events().follow(None)
    await follower.wait(0.01)
    assert follower.take() == (0, [])


@pytest.mark.parametrize(("count", "lost"), [(MOST_WAITING - 1, 0), (MOST_WAITING, 0), (MOST_WAITING + 1, 1)])
async def test_a_slow_follower_loses_the_oldest_events_and_is_told(count: int, lost: int) -> None:
    events = Events()
    follower = events.follow(None)
    add(events, count)
    told, taken = follower.take()
    assert (told, taken[0].id, taken[-1].id) == (lost, lost + 1, count)
    assert follower.take() == (0, [])


async def test_followers_are_bounded() -> None:
    events = Events()
    followers = [events.follow(None) for _ in range(MOST_FOLLOWERS)]
    with pytest.raises(TooManyFollowers):
        events.follow(None)
    events.unfollow(followers[0])
    events.follow(None)


async def test_close_ends_followers_and_new_ones_too() -> None:
    events = Events()
    follower = events.follow(None)
    waiting = asyncio.gather(follower.wait(10))
    events.close()
    await waiting
    assert follower.closed
    assert events.follow(None).closed


@pytest.fixture
def sidecar_logger() -> Iterator[logging.Logger]:
    logger, root = logging.getLogger("sidecar"), logging.getLogger()
    before = (root.level, list(root.handlers), logger.level, list(logger.handlers))
    yield logger
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    logger.setLevel(before[2])
    logger.handlers[:] = before[3]


async def test_a_record_with_a_kind_is_an_event_at_any_log_level(sidecar_logger: logging.Logger) -> None:
    lines: list[bytes] = []
    logs.set_up("error", lines.append)
    events = Events()
    sidecar_logger.addHandler(EventHandler(events, asyncio.get_running_loop()))
    log = logging.getLogger("sidecar.runtime")
    log.info("breaker %s", "open", extra={"kind": "breaker", "fields": {"service": "venue"}})
    log.info("no event")
    log.info("nor this", extra={"kind": "gossip"})
    assert [(event.text, event.service, event.level) for event in events.since()] == [("breaker open", "venue", "info")]
    assert lines == []


async def test_records_of_other_threads_come_too(sidecar_logger: logging.Logger) -> None:
    events = Events()
    logs.set_up("info", lambda line: None)
    sidecar_logger.addHandler(EventHandler(events, asyncio.get_running_loop()))
    log = logging.getLogger("sidecar.daemon")
    await asyncio.to_thread(log.warning, "seen", extra={"kind": "reload"})
    await asyncio.sleep(0)
    assert [event.text for event in events.since()] == ["seen"]
