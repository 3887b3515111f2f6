"""A request's body on its way: where it ends, and what is kept of it so that it can be sent once more.

Owns framing of what the app sends after the head, and the memory that replaying costs. Who gets the bytes, and when
reading pauses, is the exchange's business.
"""

from __future__ import annotations

from sidecar.proxy.http1.chunked import BadChunk, ChunkScanner
from sidecar.proxy.http1.head_syntax import CHUNKED, BadRequest, Trailers


class RequestBody:
    """Follows one body. `length` as in RequestHead, more than 0 or CHUNKED.

    Over HTTP/1.1 it is taken off what the app sends (`take`). With `plain` its length is not in what comes (HTTP/2):
    whoever reads says what came, and where it ends (`arrived`).

    `whole` says that everything received is still kept, so that it can be sent from its beginning.
    """

    __slots__ = (
        *("_known", "_left", "_scanner", "complete", "kept", "kept_size", "max_kept", "received"),
        *("trailers", "unframed", "whole"),
    )

    def __init__(self, length: int, max_kept: int, *, plain: bool = False) -> None:
        self._scanner = ChunkScanner() if length == CHUNKED and not plain else None
        self._left = length
        self._known = length != CHUNKED and length <= max_kept
        self.unframed = plain and length == CHUNKED
        """Its pieces do not say where it ends, nor does a length."""
        self.trailers: Trailers = ()
        """What came behind it, where they are not in its framing."""
        self.max_kept = max_kept
        self.kept: list[bytes] = []
        self.kept_size = 0
        self.received = 0
        """Bytes taken, framing included."""
        self.whole = True
        self.complete = False

    @property
    def left(self) -> int | None:
        """Bytes still to come; None where nobody knows."""
        return self._left if self._left >= 0 else None

    @property
    def chunked(self) -> bool:
        """Its pieces are framed as chunks."""
        return self._scanner is not None

    @property
    def stays_whole(self) -> bool:
        """Whether it is certain that it can be sent from its beginning again, even after all of it has been sent."""
        return self.whole and (self._known or (self.complete and self.kept_size <= self.max_kept))

    def take(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The body's part of what arrived, in the form to send on, and what stands after its end.

        Raises BadRequest where it is not a body.
        """
        if self._scanner is not None:
            try:
                pieces, rest = self._scanner.feed(data)
            except BadChunk as error:
                raise BadRequest(400, f"the body is not properly chunked: {error}") from None
            self.complete = self._scanner.done
            self.received += len(data) - len(rest)
            return pieces, rest
        left = self._left - len(data)
        if left > 0:
            self._left = left
            self.received += len(data)
            return [data], b""
        rest = b""
        if left < 0:
            data, rest = data[: self._left], data[self._left :]
        self._left = 0
        self.received += len(data)
        self.complete = True
        return [data], rest

    def arrived(self, size: int, *, end: bool) -> None:
        """So many bytes of it came, as they are to be sent on."""
        self.received += size
        if self._left > 0:
            self._left -= size
        self.complete = end

    def keep(self, pieces: list[bytes]) -> None:
        self.kept += pieces
        for piece in pieces:
            self.kept_size += len(piece)

    def sent(self) -> None:
        """What is kept has gone to an upstream: past `max_kept` it is let go, and the body is whole no longer."""
        if self.kept_size > self.max_kept:
            self.kept = []
            self.kept_size = 0
            self.whole = False
