"""What a fake does with one request: an answer, or what happens in place of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from sidecar.testing.errors import FakeError

if TYPE_CHECKING:
    from sidecar.testing.calls import Call

MAX_DELAY_S: Final = 300.0
"""No wait without a bound: a test that wants more than this wants `.hangs()`."""

UNSET: Final[Any] = msgspec.UNSET
_NO_BODY: Final = frozenset({204, 304})

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
How = Literal["answers", "drips", "resets", "closes", "truncates", "hangs"]


class Answer(msgspec.Struct, frozen=True):
    """Made by `answer()` and by a script's methods."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    how: How = "answers"
    delay_s: float = 0.0
    pieces: tuple[bytes, ...] = ()
    """Of the body of one that drips, the first at once and each other one `every_s` later."""
    every_s: float = 0.0
    made_by: Callable[[Call], object] | None = None
    """Asked for the answer when the request is there."""

    def __str__(self) -> str:
        """For a list of calls."""
        words = {
            "answers": str(self.status),
            "drips": f"{self.status} in {len(self.pieces)} pieces",
            "truncates": f"{self.status}, truncated",
        }.get(self.how, self.how)
        if self.made_by is not None:
            words = "a function's answer"
        return f"{words} after {self.delay_s:g} s" if self.delay_s else words


def answer(
    status: int = 200,
    *,
    json: object = UNSET,
    body: bytes | str = b"",
    headers: Headers | None = None,
) -> Answer:
    """A whole answer. `json` may be anything msgspec encodes: dataclasses, Structs, dates. Raises FakeError."""
    if not _is_number(status) or not 200 <= status <= 599:
        words = "" if _is_number(status) else ": a body is json=... or body=..."
        raise FakeError(f"a status is a number from 200 to 599, not {status!r}{words}")
    if json is not UNSET and body:
        raise FakeError("an answer has a json or a body, not both")
    given = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    names = {name.lower() for name, _ in given}
    if names & {"content-length", "transfer-encoding", "connection"}:
        raise FakeError("Content-Length, Transfer-Encoding and Connection are written by the fake itself")
    content, content_type = _content(json, body)
    if content and status in _NO_BODY:
        raise FakeError(f"an answer of {status} has no body")
    if content_type and "content-type" not in names:
        given.append(("Content-Type", content_type))
    return Answer(status, tuple(given), content)


def _content(json: object, body: bytes | str) -> tuple[bytes, str]:
    if json is not UNSET:
        try:
            return msgspec.json.encode(json), "application/json"
        except (TypeError, ValueError) as error:
            raise FakeError(f"json={json!r} is nothing that JSON can hold: {error}") from None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8" if body else ""
    if not isinstance(body, bytes):
        raise FakeError(f"a body is bytes or str, not {type(body).__name__}; objects go into json=")
    return body, ""


def from_function(result: object) -> Answer:
    """What a function of `.answers(...)` returned: an `answer(...)`, bytes, text, or an object for a JSON body."""
    if isinstance(result, Answer):
        if result.made_by is not None:
            raise FakeError("a function answers with answer(...), not with another function")
        return result
    if isinstance(result, bytes | str):
        return answer(body=result)
    return answer(json=result)


def dripping(status: int, pieces: Iterable[bytes | str], every: float, headers: Headers | None) -> Answer:
    """An answer whose body comes in pieces, chunked. Raises FakeError."""
    if isinstance(pieces, bytes | str):
        raise FakeError("the pieces of a body are a list of bytes or str; one whole body is .then(body=...)")
    found = tuple(_content(UNSET, piece)[0] for piece in pieces)
    if status in _NO_BODY:
        raise FakeError(f"an answer of {status} has no body")
    if checked_delay(every) * len(found) > MAX_DELAY_S:
        raise FakeError(f"{len(found)} pieces, one every {every:g} s, take longer than {MAX_DELAY_S:g} seconds")
    return replace(
        answer(status, headers=headers), how="drips", pieces=tuple(filter(None, found)), every_s=float(every)
    )


def _is_number(value: object) -> bool:
    """Tests are rarely typed, and a TypeError would be about a comparison in here."""
    return isinstance(value, int | float)


def checked_delay(seconds: float) -> float:
    if not _is_number(seconds) or not 0 <= seconds <= MAX_DELAY_S:
        raise FakeError(f"a delay is 0 to {MAX_DELAY_S:g} seconds, not {seconds!r}; .hangs() never answers")
    return float(seconds)


def checked_times(times: int) -> int:
    if not _is_number(times) or times < 1:
        raise FakeError(f"times is 1 or more, not {times!r}")
    return times
