"""What a fake was asked: one call, and lists of them in words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from multidict import CIMultiDictProxy, MultiDictProxy

from sidecar.testing.errors import FakeError

MOST_TOLD: Final = 20
"""Of a list of calls in a message; the rest is counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A request as it came to the fake: each attempt of the sidecar is one."""

    service: str
    method: str
    path: str
    """As it came, percent-encoded, without the query."""
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str]
    """Names in any case."""
    kept_body: bytes
    """As much of the body as was kept; `body` is the whole one."""
    at: float
    """When it was there as a whole: `time.monotonic()` seconds."""
    body_size: int = -1
    """Bytes that came: more than were kept where `body_cut`."""
    path_params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The values of the `{names}` in the path of the script that answers."""
    answered: str = ""
    """What the fake did, in a word or two: `503`, `resets`."""

    @property
    def body_cut(self) -> bool:
        """Whether the body was too long to be kept as a whole, or came when those before it had used up the room."""
        return len(self.kept_body) < self.body_size

    @property
    def body(self) -> bytes:
        """Raises FakeError where it was cut."""
        if self.body_cut:
            raise FakeError(
                f"{self}: of the body only {len(self.kept_body)} of {self.body_size} bytes were kept (.kept_body)"
            )
        return self.kept_body

    def json(self) -> Any:
        """The body. Raises FakeError where it is none, or was cut."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise FakeError(f"{self}: the body is not JSON: {error}: {self.body[:200]!r}") from None

    def is_json(self, value: object) -> bool:
        """Whether the body is just this, as `json()` gives it."""
        try:
            return bool(self.json() == value)
        except FakeError:
            return False

    def text(self) -> str:
        """The body. Raises FakeError where it was cut."""
        return self.body.decode(errors="replace")

    @property
    def target(self) -> str:
        """Path and query, for reading."""
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return f"{self.path}?{query}" if query else self.path

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


def told(calls: Sequence[Call], marked: Iterable[Call] = ()) -> str:
    """A line for each, with what was answered and how long after the first; `marked` ones have an arrow."""
    if not calls:
        return "  nothing was asked"
    arrows = {id(call) for call in marked}
    lines = [
        f"{'->' if id(call) in arrows else '  '} {number}. {call}: {call.answered} (+{call.at - calls[0].at:.3f} s)"
        for number, call in enumerate(calls[:MOST_TOLD], 1)
    ]
    if len(calls) > MOST_TOLD:
        lines.append(f"   and {len(calls) - MOST_TOLD} more")
    return "\n".join(lines)


def bodies(calls: Sequence[Call]) -> str:
    """Those of calls that were not the expected ones."""
    lines = [f"  {call}: {call.kept_body[:200]!r}" for call in calls[:MOST_TOLD]]
    return "\n".join(["\nThe bodies of the others:", *lines]) if lines else ""


def fields(calls: Sequence[Call], names: Sequence[str]) -> str:
    """What calls had that were not the expected ones, of the headers that were asked for."""
    lines = [
        f"  {call}: " + ", ".join(f"{name}: {', '.join(call.headers.getall(name, ['(none)']))}" for name in names)
        for call in calls[:MOST_TOLD]
    ]
    return "\n".join(["\nThese headers of the others:", *lines]) if lines else ""


def as_json(value: object) -> Any:
    """As a body of it would be read: dataclasses, Structs, dates are what they are in JSON. Raises FakeError."""
    try:
        return json.loads(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise FakeError(f"json={value!r} is nothing that JSON can hold: {error}") from None


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
