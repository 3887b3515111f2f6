"""What a fake does with one gRPC call: messages and a status, or something else such as a reset of the connection.

It does not import grpcio, so that tests without gRPC need none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal

import msgspec

from sidecar.testing.answers import MAX_DELAY_S, UNSET, checked_delay
from sidecar.testing.errors import FakeError

STATUSES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The names of the status codes, each at the place of its number."""

_OURS: Final = frozenset({"grpc-status", "grpc-message", "grpc-encoding", "content-type", "te"})

Metadata = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]
Pairs = tuple[tuple[str, str | bytes], ...]
How = Literal["answers", "converses", "resets", "hangs"]


class GrpcAnswer(msgspec.Struct, frozen=True):
    """One step of a gRPC fake. `grpc_answer()` and the methods of a script create it."""

    status: str = "OK"
    details: str = ""
    messages: tuple[bytes, ...] = ()
    headers: Pairs = ()
    trailers: Pairs = ()
    how: How = "answers"
    every_s: float = 0.0
    """Seconds between two messages."""
    delay_s: float = 0.0
    made_by: Callable[..., object] | None = None
    """A function that gets the call: its answer, or with "converses" its side of the conversation."""

    def __str__(self) -> str:
        """A short description for a list of calls."""
        words = self.status if self.how == "answers" else self.how
        if len(self.messages) > 1:
            words += f" after {len(self.messages)} messages"
        if self.made_by is not None and self.how == "answers":
            words = "a function's answer"
        return f"{words} after {self.delay_s:g} s" if self.delay_s else words


def grpc_answer(
    reply: object = UNSET,
    *,
    status: object = "OK",
    details: str = "",
    headers: Metadata | None = None,
    trailers: Metadata | None = None,
    every: float = 0.0,
) -> GrpcAnswer:
    """A complete answer. Raises FakeError.

    `reply` is a message, or a list of them for a stream: bytes, or an object with `SerializeToString`, as those of
    protobuf. Without it, an answer of OK has one empty message, and any other status has none. `status` is a name, a
    number or a `grpc.StatusCode`; `details` becomes `grpc-message`; `every` is the time between two messages in
    seconds.
    """
    name = status_name(status)
    given = ((b"",) if name == "OK" else ()) if reply is UNSET else _messages(reply)
    if not isinstance(details, str):
        raise FakeError(f"details must be text, not {type(details).__name__}")
    if checked_delay(every) * len(given) > MAX_DELAY_S:
        raise FakeError(f"{len(given)} messages, one every {every:g} s, take longer than {MAX_DELAY_S:g} seconds")
    return GrpcAnswer(name, details, given, _pairs(headers), _pairs(trailers), every_s=float(every))


def from_function(result: object) -> GrpcAnswer:
    """The answer for what a function of `.answers(...)` returned: a `grpc_answer(...)`, a message or a list of them."""
    if isinstance(result, GrpcAnswer):
        if result.made_by is not None:
            raise FakeError("a function must return grpc_answer(...), not another function")
        return result
    return grpc_answer(result)


def status_name(status: object) -> str:
    """The name of a status that a test wrote as a name, a number or a `grpc.StatusCode`. Raises FakeError."""
    written = getattr(status, "name", status)
    if isinstance(written, int) and not isinstance(written, bool) and 0 <= written < len(STATUSES):
        return STATUSES[written]
    if written in STATUSES:
        return str(written)
    near = get_close_matches(str(written).upper(), STATUSES, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else f": the names are {', '.join(STATUSES)}"
    raise FakeError(f"{status!r} is not a status of gRPC{hint}")


def as_message(value: object) -> bytes:
    """The bytes of a message. Raises FakeError."""
    if isinstance(value, bytes):
        return value
    serialize = getattr(value, "SerializeToString", None)
    if not callable(serialize):
        raise FakeError(
            f"a message must be bytes, or an object with SerializeToString as protobuf's have it, not {value!r}"
        )
    found: Any = serialize()
    return bytes(found)


def _messages(reply: object) -> tuple[bytes, ...]:
    if isinstance(reply, list | tuple):
        return tuple(as_message(one) for one in reply)
    return (as_message(reply),)


def _pairs(given: Metadata | None) -> Pairs:
    pairs = tuple(given.items() if isinstance(given, Mapping) else given or ())
    for name, value in pairs:
        if name != name.lower() or not name or name.startswith(":"):
            raise FakeError(f"a name of metadata is in lower case, and no pseudo field: {name!r}")
        if name in _OURS:
            raise FakeError(f"the fake itself sets {name}")
        wanted = bytes if name.endswith("-bin") else str
        if not isinstance(value, wanted):
            raise FakeError(f"the value of {name} must be {wanted.__name__}, not {value!r}: only -bin takes bytes")
    return pairs
