"""What a script is made of: the steps of an app, and the answers of an upstream. Shapes only.

Each request bears a tag of eleven characters, `x-r: o000001234`, somewhere in its head. An upstream finds its answer by
the number in it, and the build under test by the letter: `o` is the old one, `n` the new one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

TAG: Final = re.compile(rb"x-r[:=] ?([on])(\d{9})", re.IGNORECASE)

Op = tuple[str, Any]
"""One thing that an upstream does: (what, with what).

`write` bytes; `wait` seconds; `linger` closes after so many seconds, unless the next request comes before; `gate` waits
until the app's side opens it; `body` waits for the whole request; `close`, `reset`, `finish` (half-close); `hang` waits
until the sidecar closes; `tunnel` sends back whatever comes."""

Step = tuple[Any, ...]
"""One thing that an app does.

- `("open", c)` connects, unless connection c is open; `("new", c)` connects in any case
- `("send", c, bytes)`; `("finish", c)` half-closes; `("close", c)`; `("reset", c)`
- `("nudge", c)` half-closes if what is awaited next does not come soon
- `("answer", c, method)` awaits a final response; a fourth member is the script whose gate its head opens
- `("interim", c)` awaits any byte; `("bytes", c, n)` awaits n bytes; `("ended", c)` awaits the connection's end
- `("switched", c)` ends the scene unless the last answer was a 101
- `("seen", script, n)` awaits that an upstream has the request's head and n bytes of its body
- `("gate", script)` opens the gate; `("sleep", seconds)`"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream does with one copy of a request. Unless `at_head`, it begins when the whole request is there."""

    ops: tuple[Op, ...]
    at_head: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """The answers to one request, by copy; the last one is for all further copies."""

    number: int
    answers: tuple[Answer, ...]
    once: bool = False
    """It has an effect: no upstream may get a second copy."""
    parts: dict[bytes, tuple[Answer, ...]] = field(default_factory=dict)
    """The answers by the first segment of the path, for the calls of an aggregate."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`requests` is how many requests the app makes in it."""

    kind: str
    steps: tuple[Step, ...]
    scripts: tuple[Script, ...]
    requests: int = 1


@dataclass(frozen=True, slots=True)
class Episode:
    """A service with its policy, and scenes that are played one after the other."""

    number: int
    flavour: str
    services: dict[str, Any]
    """What stands in the file below `services`, by name."""
    aggregates: dict[str, Any]
    addresses: frozenset[str]
    """Where its upstreams listen."""
    scenes: tuple[Scene, ...]
    alike: bool = False
    """Which of its endpoints comes first is left to chance: they are named in the order of their first use."""
    loose: bool = False
    """Which endpoint gets a request is left to chance, so nothing is compared that depends on it."""

    @property
    def requests(self) -> int:
        return sum(scene.requests for scene in self.scenes)


def tagged(number: int) -> bytes:
    """The line of the tag, for the old build; `for_new` turns it into the new one's."""
    return b"x-r: o%09d" % number


def for_new(data: bytes) -> bytes:
    """The same bytes with the new build's letter in each tag."""
    return data.replace(b"x-r: o", b"x-r: n").replace(b"x-r=o", b"x-r=n")
