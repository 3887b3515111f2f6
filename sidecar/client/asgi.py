"""Middleware for ASGI applications (Starlette, FastAPI, Quart, Django): the calls that an application makes inherit the
request's id, trace and deadline.

This module only connects ASGI to `context`, which defines what is inherited. It imports no framework.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sidecar.client.context import serving

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BEGINS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class ContextMiddleware:
    """Use `app = ContextMiddleware(app)`, or `app.add_middleware(ContextMiddleware)` if the framework has that. It must
    be the outermost middleware.

    It handles the scopes `http` and `websocket`; others (`lifespan`) pass unchanged. It covers everything until the
    application returns: also a streamed response, and a background task that the framework runs after the response. It
    never cancels a handler. If the caller's time runs out before the response has begun, further calls raise
    DeadlineExceeded at once.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_and_see(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] in _BEGINS
            await send(message)

        fields = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope.get("headers", ()))
        with serving(fields, lambda: begun):
            await self.app(scope, receive, send_and_see)
