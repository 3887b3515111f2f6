"""Middleware for aiohttp servers: the calls that a handler makes inherit the request's id, trace and deadline.

This module only connects aiohttp to `context`, which defines what is inherited. The package does not import it, because
it needs aiohttp.web.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from sidecar.client.context import serving


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Use `web.Application(middlewares=[middleware])`. Put it first, so that it covers calls of other middlewares too.

    It never cancels a handler. If the caller's time runs out before the response has begun, further calls raise
    DeadlineExceeded at once. A response that the handler streams itself is covered. A payload that aiohttp reads after
    the handler has returned (`web.Response(body=generator())`) is not.
    """
    writer = request.writer
    with serving(request.headers, lambda: writer.output_size > 0):
        return await handler(request)
