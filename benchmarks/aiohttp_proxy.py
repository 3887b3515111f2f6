"""A minimal proxy of aiohttp's server and client, as a peer for `python -m benchmarks --only ... aiohttp`.

It uses round robin over the two upstreams, streams bodies both ways, and leaves the hop-by-hop fields out. It has no
policy. Its cost is what the data path would cost at least if it were built on aiohttp
(docs/decisions/0007-data-path-of-our-own.md).

    python -m benchmarks.aiohttp_proxy PORT UPSTREAM_PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys
from itertools import cycle
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

LEFT_OUT: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})


async def serve(port: int, upstreams: list[int]) -> None:
    turn = cycle(upstreams)
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def pass_on(request: web.BaseRequest) -> web.StreamResponse:
            url = f"http://127.0.0.1:{next(turn)}/{request.raw_path.removeprefix('/venue/')}"
            headers = [(name, value) for name, value in request.headers.items() if name.lower() not in LEFT_OUT]
            body = request.content if request.can_read_body else None
            async with session.request(request.method, url, headers=headers, data=body) as answer:
                passed = web.StreamResponse(status=answer.status)
                passed.headers.extend(
                    [(name, value) for name, value in answer.headers.items() if name.lower() not in LEFT_OUT]
                )
                await passed.prepare(request)
                async for piece in answer.content.iter_any():
                    await passed.write(piece)
                await passed.write_eof()
                return passed

        server = web.Server(pass_on, access_log=None)
        await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, backlog=4096)
        await asyncio.Event().wait()


if __name__ == "__main__":
    port, *upstreams = map(int, sys.argv[1:])
    uvloop.run(serve(port, upstreams))
