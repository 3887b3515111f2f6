"""The gRPC calls that a fake received."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from multidict import MultiDictProxy

from sidecar.testing.calls import MOST_TOLD
from sidecar.testing.errors import FakeError
from sidecar.testing.grpc_answers import as_message


@dataclasses.dataclass(frozen=True, slots=True)
class GrpcCall:
    """A call as it reached the fake. Each attempt of the sidecar is one call."""

    service: str
    path: str
    """`/shop.v1.Venue/Get`."""
    metadata: MultiDictProxy[str | bytes]
    """The metadata by name, in lower case; values of names that end in `-bin` are bytes."""
    messages: Sequence[bytes]
    """The messages, without their framing. While a fake converses, it grows."""
    at: float
    """When the call had arrived, with its last message if the fake waited for it: seconds of `time.monotonic()`."""
    time_left: float | None = None
    """The seconds that were left of the deadline; None without one."""
    path_params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The values of the `{names}` in the path of the script that answered."""
    answered: str = ""
    """What the fake did, in a word or two: `UNAVAILABLE`, `resets`."""

    @property
    def message(self) -> bytes:
        """The only message. Raises FakeError if there were none, or several."""
        if len(self.messages) != 1:
            raise FakeError(f"{self}: it had {len(self.messages)} messages, not one (.messages)")
        return self.messages[0]

    def __str__(self) -> str:
        return f"gRPC {self.path}"


def has_messages(call: GrpcCall, wanted: object) -> bool:
    """Whether the call's messages are these: one message, or a list. Objects of protobuf are compared as objects,
    because the same message may be written in different bytes.
    """
    expected = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    return len(expected) == len(call.messages) and all(map(_equal, call.messages, expected))


def _equal(found: bytes, wanted: object) -> bool:
    if isinstance(wanted, bytes) or not hasattr(type(wanted), "FromString"):
        return found == as_message(wanted)
    try:
        return bool(type(wanted).FromString(found) == wanted)  # type: ignore[attr-defined]
    except Exception:  # what it raises is its library's own
        return False


def messages_told(calls: Sequence[GrpcCall]) -> str:
    """The messages of the calls that were not the expected ones."""
    lines = [f"  {call}: {[message[:200] for message in call.messages[:5]]!r}" for call in calls[:MOST_TOLD]]
    return "\n".join(["\nThe messages of the other calls:", *lines]) if lines else ""


def metadata_told(calls: Sequence[GrpcCall], names: Sequence[str]) -> str:
    """The values of these names, for the calls that were not the expected ones."""
    lines = [
        f"  {call}: " + ", ".join(f"{name}: {call.metadata.getall(name, ['(none)'])}" for name in names)
        for call in calls[:MOST_TOLD]
    ]
    return "\n".join(["\nThe metadata of the other calls:", *lines]) if lines else ""
