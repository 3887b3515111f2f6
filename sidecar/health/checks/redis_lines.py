"""What a check reads of a Redis: answers of one line, and nothing else.

Owns the bound of what a server may say. AUTH, SELECT, PING and CLIENT SETINFO are each answered by a simple string or
an error (RESP2), so a bulk string, an array or an integer is no answer to any of them. redis-py's own parser reads as
much as a server announces: half a gigabyte, or arrays in arrays, in the event loop that carries the traffic.

Needs redis-py: import it where a check of this kind is made.
"""

from __future__ import annotations

from redis import exceptions
from redis._parsers import _AsyncRESP2Parser


class LineParser(_AsyncRESP2Parser):
    """A `parser_class` for redis-py's connections with `protocol=2`. A line is what asyncio's streams take, 64 KiB."""

    async def read_response(self, disable_decoding: bool = False) -> bytes | exceptions.ResponseError:
        """What a simple string says, or the error that a server names, as redis-py knows it.

        Raises InvalidResponse for anything else, ConnectionError where the line has no end. None has the server's
        words. An error of its connection, which redis-py wants to be raised, is raised with them.
        """
        if self._stream is None:
            raise exceptions.ConnectionError("not connected")
        try:
            line = await self._stream.readline()
        except ValueError:
            raise exceptions.InvalidResponse("a line is too long") from None
        if line[:1] not in (b"+", b"-", b""):
            raise exceptions.InvalidResponse("neither a simple string nor an error")
        if not line.endswith(b"\r\n"):
            raise exceptions.ConnectionError("the connection ended before an answer did")
        kind, words = line[:1], line[1:-2]
        if kind == b"+":
            return words
        error: exceptions.ResponseError = self.parse_error(words.decode(errors="replace"))  # type: ignore[no-untyped-call]
        if isinstance(error, exceptions.ConnectionError):
            raise error
        return error
