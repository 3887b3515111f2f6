"""Events for operators: keeps the last 1,000 events and sends new ones to followers.

Owns the ring buffer and its followers. An event is a log record with a `kind` (`extra={"kind": "breaker", ...}`), so a
module reports once and both the log and the events show it. It is an event at any log level of stdout. Single requests
are not events; the access log has them.

A follower that does not read loses its oldest events and is told how many. So memory is bounded and nobody waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from msgspec import Struct

Kind = Literal[
    "breaker",
    "endpoint",
    "ejection",
    "health",
    "panic",
    "discovery",
    "certificate",
    "reload",
    "operator",
    "drain",
    "start",
]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

KEPT: Final = 1000
MOST_FOLLOWERS: Final = 32
MOST_WAITING: Final = 256
"""The most events that wait for one follower."""


MOST_ITEMS: Final = 50
MOST_CHARACTERS: Final = 1000
"""Limits for one value of an event. A file can have any number of errors; the log has them all."""


class Event(Struct, frozen=True, kw_only=True):
    """`id` starts at 1 and grows by one. `time` is ISO 8601 in UTC. `text` is for people, `fields` for programs."""

    id: int
    time: str
    kind: Kind
    level: str
    service: str | None
    text: str
    fields: dict[str, Any]


class TooManyFollowers(Exception):
    """The number of followers has reached its limit."""


class Follower:
    """Receives every event from its creation until it is closed. For use by one task."""

    def __init__(self, waiting: deque[Event]) -> None:
        self.lost = 0
        """Events dropped since the last call of `take`, because it came too late."""
        self.closed = False
        self._waiting = waiting
        self._there = asyncio.Event()
        if waiting:
            self._there.set()

    def put(self, event: Event) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(event)
        self._there.set()

    def close(self) -> None:
        """Accept no more events."""
        self.closed = True
        self._there.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait until there are events, or it is closed, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._there.wait()
        except TimeoutError:
            pass

    def take(self) -> tuple[int, list[Event]]:
        """Returns (how many events were lost before these, all waiting events)."""
        taken, lost = list(self._waiting), self.lost
        self._waiting.clear()
        self.lost = 0
        if not self.closed:
            self._there.clear()
        return lost, taken


class Events:
    """The ring buffer and the followers; for one event loop. Only `add` may be called from other threads, once
    started.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.last_id = 0
        self._ring: deque[Event] = deque(maxlen=kept)
        self._followers: set[Follower] = set()
        self._closed = False

    def add(self, kind: Kind, level: str, created_s: float, text: str, fields: dict[str, Any]) -> None:
        """Add an event. `created_s` is Unix time. `fields["service"]` names the service that it concerns."""
        self.last_id += 1
        service = fields.get("service")
        event = Event(
            id=self.last_id,
            time=datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            kind=kind,
            level=level,
            service=service if isinstance(service, str) and service else None,
            text=_bounded(text),
            fields={key: _bounded(value) for key, value in fields.items() if key != "service"},
        )
        self._ring.append(event)
        for follower in self._followers:
            follower.put(event)

    def since(self, after: int = 0, service: str | None = None) -> Iterator[Event]:
        """Kept events with a greater id, oldest first; all of them if `after` comes from an earlier process."""
        if after > self.last_id:
            after = 0
        for event in self._ring:
            if event.id > after and (service is None or event.service == service):
                yield event

    def follow(self, after: int | None) -> Follower:
        """Add a follower. With `after`, it first gets the kept events with a greater id. Raises TooManyFollowers."""
        if len(self._followers) >= MOST_FOLLOWERS:
            raise TooManyFollowers
        missed = deque(self.since(after)) if after is not None else deque()
        follower = Follower(missed)
        if self._closed:
            follower.close()
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: Follower) -> None:
        self._followers.discard(follower)

    def close(self) -> None:
        """Close every follower."""
        self._closed = True
        for follower in self._followers:
            follower.close()


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        if not value.isascii():  # half a surrogate pair, as in a file name that is not UTF-8, cannot be sent
            value = value.encode(errors="backslashreplace").decode()
        return value if len(value) <= MOST_CHARACTERS else value[: MOST_CHARACTERS - 3] + "..."
    if isinstance(value, list | tuple):
        kept = [_bounded(one) for one in value[:MOST_ITEMS]]
        return [*kept, f"and {len(value) - MOST_ITEMS} more"] if len(value) > MOST_ITEMS else kept
    return value


class EventHandler(logging.Handler):
    """Turns log records with a `kind` into events. Create it on the event loop; records of other threads are passed to
    it.
    """

    def __init__(self, events: Events, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._events = events
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        kind = getattr(record, "kind", None)
        if kind not in KINDS:
            return
        fields = getattr(record, "fields", None) or {}
        told = (kind, record.levelname.lower(), record.created, record.getMessage(), dict(fields))
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            self._events.add(*told)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.add, *told)
