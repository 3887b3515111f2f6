"""A server on loopback that plays recorded HTTP answers back, byte for byte, one for each request in turn.

An answer is everything that a server once wrote: status line, fields, and body with its chunk framing. If its body is
cut off, the connection stays open, as the recorded watch did when its recording ended. `asked` has the requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Self


class Replay:
    """`piece` is the number of bytes in each write; 0 means all at once."""

    def __init__(self, answers: Iterable[bytes], piece: int = 0) -> None:
        self.asked: list[bytes] = []
        self.url = ""
        self._answers = list(answers)
        self._piece = piece
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while request := await _request(reader):
                self.asked.append(request)
                if not self._answers:
                    break
                answer = self._answers.pop(0)
                size = self._piece or len(answer)
                for start in range(0, len(answer), size):
                    writer.write(answer[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(0)  # so that each piece is a separate write
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Head and body; empty if the client has disconnected."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0]) if lengths else 0)
