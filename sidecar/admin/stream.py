"""Streams events as they happen, as Server-Sent Events (HTML standard, section 9.2).

This module owns their format, and how long it waits for a slow reader. `sidecar.telemetry.events` keeps the events.
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
"""A reader that takes nothing for so many seconds is disconnected."""
RETRY_MS: Final = 2000


async def stream(request: web.Request, events: Events, service: str | None) -> web.StreamResponse:
    """Streams until the reader or the sidecar ends it. Last-Event-ID (or ?since=) is the last event that the reader
    has.
    """
    try:
        follower = events.follow(_after(request))
    except TooManyFollowers:
        raise ApiProblem(
            503,
            "too_many_followers",
            "too many readers follow the events already",
            headers={"Retry-After": "5"},
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
    """Tells a reader how many events it missed because it was too slow. It has no id: only this reader gets it."""
    return b'event: lost\ndata: {"lost": %d}\n\n' % count


_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


def _after(request: web.Request) -> int | None:
    given = request.headers.get("Last-Event-ID") or request.query.get("since")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 15):
        raise ApiProblem(400, "bad_request", "an event's id must be a whole number")
    return int(given)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(data)
