"""A copy of a response's body, taken while that goes to the app.

Owns the bounds: on one body, and on what is being copied at a time. What outgrows them goes on to the app, and is
copied no further.
"""

from __future__ import annotations

from sidecar.proxy.body_sink import BodySink, ByteBudget
from sidecar.proxy.http1.chunked import ChunkScanner


class BodyCopy(BodySink):
    """Stands between a service's answer and the app. `chunked`: the pieces are framed as chunks.

    `release` gives its bytes back, and has to be called once the response is over, well or not.
    """

    def __init__(self, app: BodySink, budget: ByteBudget, max_bytes: int, *, chunked: bool) -> None:
        self._app = app
        self._budget = budget
        self._max_bytes = max_bytes
        self._scanner = ChunkScanner(decode=True) if chunked else None
        self._pieces: list[bytes] = []
        self._size = 0
        self._given_up = False

    def write_body(self, pieces: list[bytes]) -> None:
        self._app.write_body(pieces)
        self.add(pieces)

    def add(self, pieces: list[bytes]) -> None:
        """The next part of the body, which has gone to the app already."""
        scanner = self._scanner
        for piece in pieces:
            if self._given_up:
                return
            # The upstream's own scanner has read these bytes: they are properly chunked.
            for part in [piece] if scanner is None else scanner.feed(piece)[0]:
                self._size += len(part)
                self._budget.left -= len(part)
                self._pieces.append(part)
            if self._size > self._max_bytes or self._budget.left < 0:
                self.release()

    def whole(self) -> bytes | None:
        """The body, if all of it fitted."""
        return None if self._given_up else b"".join(self._pieces)

    def release(self) -> None:
        self._given_up = True
        self._budget.left += self._size
        self._size = 0
        self._pieces = []
