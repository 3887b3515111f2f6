"""What the types of `sidecar.client` say: checked with mypy by test_typing.py, and never run.

Where a comment ignores an error, mypy has to find that error: an ignore that is not needed is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, assert_type
from unittest.mock import AsyncMock

import msgspec
from multidict import CIMultiDict

from sidecar.client import (
    AggregateFailed,
    Attempt,
    CircuitOpen,
    PartFailure,
    Response,
    ServiceClient,
    ServiceError,
    Services,
    SidecarError,
    deadline,
    service,
)


@dataclass
class Venue:
    id: int


class Event(msgspec.Struct):
    id: int


class Row(TypedDict):
    id: int


class VenueClient(ServiceClient):
    async def event(self, number: int) -> Event:
        return await self.get_json(f"/events/{number}", type=Event)


class Shop(Services):
    venue = service("venue", VenueClient)
    payment = service("payment", deadline=2.0, headers={"X-App": "shop"})
    broken = service("broken", deadline="2 s")  # type: ignore[call-overload]
    no_client = service("no-client", int)  # type: ignore[type-var]


async def json_is_of_the_type_that_was_asked_for(venue: ServiceClient, maybe: bool) -> None:
    assert_type(await venue.get_json("/v/1", type=Venue), Venue)
    assert_type(await venue.get_json("/v/1", type=Event, params={"a": 1}), Event)
    assert_type(await venue.get_json("/v/1", type=Row), Row)
    assert_type(await venue.get_json("/v", type=list[Venue]), list[Venue])
    assert_type(await venue.get_json("/v", type=dict[str, Venue]), dict[str, Venue])
    assert_type(await venue.get_json("/v/1", type=Venue, missing_ok=False), Venue)
    assert_type(await venue.get_json("/v/1", type=Venue, missing_ok=True), Venue | None)
    assert_type(await venue.get_json("/v/1", type=Venue, missing_ok=maybe), Venue | None)
    assert_type(await venue.get_json("/v/1", type=Venue | None), Venue | None)
    assert_type(await venue.get_json("/v/1", type=Venue | Event), Venue | Event)
    assert_type(await venue.get_json("/v", type=list[Venue | Event]), list[Venue | Event])
    assert_type(await venue.get_json("/v/1", type=Venue | Event, missing_ok=True), Venue | Event | None)
    assert_type(await venue.get_json("/v/1"), Any)
    assert_type((await venue.get_json("/v/1", type=Venue)).name, Any)  # type: ignore[attr-defined]
    assert_type((await venue.get_json("/v/1", type=Venue, missing_ok=True)).id, int | Any)  # type: ignore[union-attr]


async def responses(venue: ServiceClient) -> None:
    response = await venue.get("/v/1", params=[("a", "b")], headers={"X-A": "b"}, raise_for_status=False)
    assert_type(response, Response)
    assert_type(response.body, bytes)
    assert_type(response.decode(Venue), Venue)
    assert_type(response.decode(list[Venue]), list[Venue])
    assert_type(response.decode(Venue | None), Venue | None)
    assert_type(response.decode(), Any)
    assert_type(response.attempts, int)
    pairs: list[tuple[str, str]] = [("a", "b")]
    await venue.get("/v", params=pairs)
    await venue.get("/v", params={"a": ["x", "y"], "b": 1, "c": (1, 2.5), "d": "e"})
    await venue.get("/v", params={"a": None})  # type: ignore[dict-item]
    assert_type(await venue.post("/v", json=Venue(1), idempotency_key=True), Response)
    assert_type(await venue.health_check(), bool)
    async with venue.stream("POST", "/v", data=b"") as streamed:
        assert_type(streamed, Response)
        async for piece in streamed.content.iter_chunked(1):
            assert_type(piece, bytes)
    await venue.get("/v", json={})  # type: ignore[call-arg]
    await venue.get("/v", timeout=3)  # type: ignore[call-arg]
    await venue.post("/v", idempotency_key=7)  # type: ignore[arg-type]
    ServiceClient("venue", timeout=3)  # type: ignore[call-arg]


async def registry() -> None:
    async with Shop() as shop:
        assert_type(shop, Shop)
        assert_type(shop.venue, VenueClient)
        assert_type(shop.payment, ServiceClient)
        assert_type(await shop.venue.event(1), Event)
        assert_type(await shop.health(), dict[str, bool])
        shop.venue = ServiceClient("venue")  # type: ignore[assignment]
        shop.venue = VenueClient("venue")
        shop.venue = AsyncMock()
        assert_type(shop.venues, Any)  # type: ignore[attr-defined]
    async with VenueClient("venue") as venue:
        assert_type(venue, VenueClient)


async def errors(venue: ServiceClient) -> None:
    try:
        async with deadline(2.0) as scope:
            assert_type(scope.remaining(), float)
            await venue.get("/v")
    except CircuitOpen as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.service, str)
    except AggregateFailed as error:
        assert_type(error.errors, dict[str, PartFailure])
    except SidecarError as error:
        assert_type(error.tries, tuple[Attempt, ...])
    except ServiceError as error:
        assert_type(error.status, int | None)
        assert_type(error.headers, CIMultiDict[str])
        assert_type(error.decode(Venue), Venue)
        assert_type(error.decode(Venue | None), Venue | None)
        assert_type(error.decode(), Any)
