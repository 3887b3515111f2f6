"""The requests that a fake received: one call, and lists of calls as text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from multidict import CIMultiDictProxy, MultiDictProxy

from sidecar.testing.errors import FakeError

MOST_TOLD: Final = 20
"""How many calls a message lists. The rest is only counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A request as it reached the fake. Each attempt of the sidecar is one call."""

    service: str
    method: str
    path: str
    """The path as received: percent-encoded, without the query."""
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str]
    """The headers, by name in any case."""
    kept_body: bytes
    """The part of the body that was kept; `body` is the whole body."""
    at: float
    """When the request had arrived completely, in seconds of `time.monotonic()`."""
    body_size: int = -1
    """The size of the body in bytes. It is larger than `kept_body` if `body_cut`."""
    path_params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The values of the `{names}` in the path of the script that answered."""
    answered: str = ""
    """What the fake did, in a word or two: `503`, `resets`."""

    @property
    def body_cut(self) -> bool:
        """Whether the body was not kept completely: it was too long, or earlier bodies had used up the room."""
        return len(self.kept_body) < self.body_size

    @property
    def body(self) -> bytes:
        """The whole body. Raises FakeError if it was cut."""
        if self.body_cut:
            raise FakeError(
                f"{self}: only {len(self.kept_body)} of {self.body_size} bytes of the body were kept (.kept_body)"
            )
        return self.kept_body

    def json(self) -> Any:
        """The decoded body. Raises FakeError if it is not JSON, or was cut."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise FakeError(f"{self}: the body is not JSON: {error}: {self.body[:200]!r}") from None

    def is_json(self, value: object) -> bool:
        """Whether the body equals `value`, as `json()` returns it."""
        try:
            return bool(self.json() == value)
        except FakeError:
            return False

    def text(self) -> str:
        """The body as text. Raises FakeError if it was cut."""
        return self.body.decode(errors="replace")

    @property
    def target(self) -> str:
        """Path and query, in readable form."""
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return f"{self.path}?{query}" if query else self.path

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


class Told(Protocol):
    """What a list of calls tells of each one: HTTP's and gRPC's."""

    @property
    def at(self) -> float: ...
    @property
    def answered(self) -> str: ...


def told(calls: Sequence[Told], marked: Iterable[Told] = ()) -> str:
    """One line for each call: the request, the answer, and the seconds since the first call. `marked` calls get an
    arrow.
    """
    if not calls:
        return "  there was no call"
    arrows = {id(call) for call in marked}
    lines = [
        f"{'->' if id(call) in arrows else '  '} {number}. {call}: {call.answered} (+{call.at - calls[0].at:.3f} s)"
        for number, call in enumerate(calls[:MOST_TOLD], 1)
    ]
    if len(calls) > MOST_TOLD:
        lines.append(f"   and {len(calls) - MOST_TOLD} more")
    return "\n".join(lines)


def bodies(calls: Sequence[Call]) -> str:
    """The bodies of the calls that were not the expected ones."""
    lines = [f"  {call}: {call.kept_body[:200]!r}" for call in calls[:MOST_TOLD]]
    return "\n".join(["\nThe bodies of the other calls:", *lines]) if lines else ""


def fields(calls: Sequence[Call], names: Sequence[str]) -> str:
    """The values of these headers, for the calls that were not the expected ones."""
    lines = [
        f"  {call}: " + ", ".join(f"{name}: {', '.join(call.headers.getall(name, ['(none)']))}" for name in names)
        for call in calls[:MOST_TOLD]
    ]
    return "\n".join(["\nThe headers of the other calls:", *lines]) if lines else ""


def as_json(value: object) -> Any:
    """`value` as `json()` would read it from a body: dataclasses, Structs and dates take their JSON form. Raises
    FakeError.
    """
    try:
        return json.loads(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise FakeError(f"json={value!r} has no JSON form: {error}") from None


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
