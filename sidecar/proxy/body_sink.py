"""Where a response's body goes (to the app, or past a copy of it), and how much of bodies may be kept."""

from __future__ import annotations


class BodySink:
    """Takes a body in pieces."""

    __slots__ = ()

    def write_body(self, pieces: list[bytes]) -> None:
        """The next part of it, as the service's framing left it."""
        raise NotImplementedError


class ByteBudget:
    """Bytes that all who share it may still keep: `left`, which is negative while they keep too much."""

    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes
