"""A limited parser for Redis answers: simple strings and errors of one line, and nothing else.

Owns the limit on what a server may send. AUTH, SELECT, PING and CLIENT SETINFO are answered by a simple string or an
error (RESP2), so a bulk string, an array or an integer is not a valid answer. redis-py's own parser reads as much as a
server announces: half a gigabyte, or nested arrays, in the event loop that carries the traffic.

Needs redis-py; import this module only when such a check is created.
"""

from __future__ import annotations

from redis import exceptions
from redis._parsers import _AsyncRESP2Parser


class LineParser(_AsyncRESP2Parser):
    """A `parser_class` for redis-py connections with `protocol=2`. A line has at most 64 KiB, the limit of asyncio's
    streams.
    """

    async def read_response(self, disable_decoding: bool = False) -> bytes | exceptions.ResponseError:
        """The text of a simple string, or the error that the server sent, as a redis-py exception.

        Raises InvalidResponse for anything else, and ConnectionError when the line has no end; neither contains the
        server's text. An error that redis-py treats as a connection error is raised, with the server's text.
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
            raise exceptions.ConnectionError("the connection ended before the end of an answer")
        kind, words = line[:1], line[1:-2]
        if kind == b"+":
            return words
        error: exceptions.ResponseError = self.parse_error(words.decode(errors="replace"))  # type: ignore[no-untyped-call]
        if isinstance(error, exceptions.ConnectionError):
            raise error
        return error
