"""Sends a long response body in pieces, with turns of the loop in between.

Owns how fast a body is handed over, and how long a slow reader may take. A body of some megabytes in one piece would
be copied in one turn of the loop, and kept as a whole for a reader that takes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from aiohttp import web

PIECE_BYTES: Final = 64 * 1024
LONGEST_WRITE_S: Final = 10.0
"""A reader that takes longer for the whole body is disconnected."""


async def send(
    request: web.BaseRequest, body: Sequence[bytes], headers: Mapping[str, str], status: int = 200
) -> web.StreamResponse:
    """Respond with a body that is given in pieces. A short one is a single write with its head."""
    size = sum(map(len, body))
    if size <= PIECE_BYTES:
        return web.Response(status=status, body=b"".join(body), headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = size
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async with asyncio.timeout(LONGEST_WRITE_S):
            for piece in _cut(body):
                await response.write(piece)
                await asyncio.sleep(0)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


def _cut(body: Sequence[bytes]) -> Iterator[memoryview]:
    """The body in pieces of at most PIECE_BYTES."""
    for one in body:
        whole = memoryview(one)
        for start in range(0, len(whole), PIECE_BYTES):
            yield whole[start : start + PIECE_BYTES]
