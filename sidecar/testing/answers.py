"""What a fake does with one request: it answers, or it does something else such as resetting the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from sidecar.testing.errors import FakeError

if TYPE_CHECKING:
    from sidecar.testing.calls import Call

MAX_DELAY_S: Final = 300.0
"""The longest delay, in seconds. No delay is unbounded; a test that needs a longer one should use `.hangs()`."""

UNSET: Final[Any] = msgspec.UNSET
_NO_BODY: Final = frozenset({204, 304})

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
How = Literal["answers", "drips", "resets", "closes", "truncates", "hangs"]


class Answer(msgspec.Struct, frozen=True):
    """One step of a fake. `answer()` and the methods of a script create it."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    how: How = "answers"
    delay_s: float = 0.0
    pieces: tuple[bytes, ...] = ()
    """For a body that drips: its pieces. The first is sent at once, and each other one `every_s` seconds later."""
    every_s: float = 0.0
    made_by: Callable[[Call], object] | None = None
    """A function that gets the request and returns the answer."""

    def __str__(self) -> str:
        """A short description for a list of calls."""
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
    """A complete answer. `json` may be anything that msgspec encodes: dataclasses, Structs, dates. Raises FakeError."""
    if not _is_number(status) or not 200 <= status <= 599:
        words = "" if _is_number(status) else ": pass a body as json=... or body=..."
        raise FakeError(f"a status must be a number from 200 to 599, not {status!r}{words}")
    if json is not UNSET and body:
        raise FakeError("an answer has either json or a body, not both")
    given = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    names = {name.lower() for name, _ in given}
    if names & {"content-length", "transfer-encoding", "connection"}:
        raise FakeError("the fake itself sets Content-Length, Transfer-Encoding and Connection")
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
            raise FakeError(f"json={json!r} has no JSON form: {error}") from None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8" if body else ""
    if not isinstance(body, bytes):
        raise FakeError(f"a body must be bytes or str, not {type(body).__name__}; pass objects as json=")
    return body, ""


def from_function(result: object) -> Answer:
    """The answer for what a function of `.answers(...)` returned: an `answer(...)`, bytes, text, or an object for a
    JSON body.
    """
    if isinstance(result, Answer):
        if result.made_by is not None:
            raise FakeError("a function must return answer(...), not another function")
        return result
    if isinstance(result, bytes | str):
        return answer(body=result)
    return answer(json=result)


def dripping(status: int, pieces: Iterable[bytes | str], every: float, headers: Headers | None) -> Answer:
    """An answer whose chunked body is sent in pieces. Raises FakeError."""
    if isinstance(pieces, bytes | str):
        raise FakeError("the pieces of a body must be a list of bytes or str; for one whole body: .then(body=...)")
    found = tuple(_content(UNSET, piece)[0] for piece in pieces)
    if status in _NO_BODY:
        raise FakeError(f"an answer of {status} has no body")
    if checked_delay(every) * len(found) > MAX_DELAY_S:
        raise FakeError(f"{len(found)} pieces, one every {every:g} s, take longer than {MAX_DELAY_S:g} seconds")
    return replace(
        answer(status, headers=headers), how="drips", pieces=tuple(filter(None, found)), every_s=float(every)
    )


def _is_number(value: object) -> bool:
    """Checked because tests are rarely typed. Otherwise a TypeError would be about a comparison in this module."""
    return isinstance(value, int | float)


def checked_delay(seconds: float) -> float:
    if not _is_number(seconds) or not 0 <= seconds <= MAX_DELAY_S:
        raise FakeError(f"a delay must be 0 to {MAX_DELAY_S:g} seconds, not {seconds!r}; .hangs() never answers")
    return float(seconds)


def checked_times(times: int) -> int:
    if not _is_number(times) or times < 1:
        raise FakeError(f"times must be 1 or more, not {times!r}")
    return times
