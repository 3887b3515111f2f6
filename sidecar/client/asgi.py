"""A middleware for ASGI applications (Starlette, FastAPI, Quart, Django): calls made while a request is served belong
to it.

Owns nothing but the wiring; what that means is `context`'s. It imports no framework.
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
    """`app = ContextMiddleware(app)`, or `app.add_middleware(ContextMiddleware)` where a framework has that; outermost.

    For `http` and `websocket` scopes; others (`lifespan`) pass. It holds until the application returns, so a streamed
    response, and a background task that the framework runs after it, are inside. It never ends a handler: where the
    caller's time is over before the answer has begun, calls raise DeadlineExceeded at once.
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
