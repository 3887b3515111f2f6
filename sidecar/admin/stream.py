"""Events as they happen: Server-Sent Events (HTML standard, section 9.2).

Owns their form and how long a slow reader is waited for. The ring and its followers are `sidecar.telemetry.events`'s.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from sidecar.admin.problem import ApiProblem
from sidecar.telemetry.events import Event, Events, TooManyFollowers

KEEP_ALIVE_S: Final = 15.0
WRITE_S: Final = 10.0
"""A reader that takes nothing for so long is left."""
RETRY_MS: Final = 2000


async def stream(request: web.Request, events: Events, service: str | None) -> web.StreamResponse:
    """Until the reader leaves, or we do. Last-Event-ID (or ?since=) says where it left off."""
    try:
        follower = events.follow(_after(request))
    except TooManyFollowers:
        raise ApiProblem(
            503, "too_many_followers", "as many follow the events as may", headers={"Retry-After": "5"}
        ) from None
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    try:
        await response.prepare(request)
        await _write(response, f"retry: {RETRY_MS}\n\n".encode())
        while not follower.closed:
            await follower.wait(KEEP_ALIVE_S)
            lost, taken = follower.take()
            found = [event for event in taken if service is None or event.service == service]
            pieces = [sse_lost(lost)] if lost else []
            pieces += [sse(event) for event in found]
            await _write(response, b"".join(pieces) or b": here\n\n")
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    finally:
        events.unfollow(follower)
    return response


def sse(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), _ENCODER.encode(event))


def sse_lost(count: int) -> bytes:
    """Told to a reader that was too slow; it has no id, for it is nobody else's."""
    return b'event: lost\ndata: {"lost": %d}\n\n' % count


_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


def _after(request: web.Request) -> int | None:
    given = request.headers.get("Last-Event-ID") or request.query.get("since")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 15):
        raise ApiProblem(400, "bad_request", "an event's id is a whole number")
    return int(given)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(data)
