"""A middleware for servers that are built on aiohttp: calls made while a request is served belong to it.

Owns nothing but the wiring; what that means is `context`'s. Not imported with the package, for it needs aiohttp.web.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from sidecar.client.context import serving


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """`web.Application(middlewares=[middleware])`, as the first, so that the others' calls belong to the request too.

    It never ends a handler: where the caller's time is over before the answer has begun, calls raise DeadlineExceeded
    at once. A handler's own streaming is inside; a payload that aiohttp reads after the handler has returned
    (`web.Response(body=generator())`) is not.
    """
    writer = request.writer
    with serving(request.headers, lambda: writer.output_size > 0):
        return await handler(request)
