"""An app's services in one place."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.client import ServiceClient, Services, pool, service
from tests.support.steps import answer
from tests.support.upstream import RefusedPort, Turn, Upstream


class VenueClient(ServiceClient):
    async def event(self, number: int) -> int:
        return await self.get_json(f"/events/{number}", type=int)


class Shop(Services):
    venue = service("venue-service", VenueClient)
    payment = service("payment", deadline=2.0, headers={"X-App": "shop"}, raise_for_status=False)


class LargerShop(Shop):
    payment = service("payment-2")
    order = service("order")


def by_path(turn: Turn) -> None:
    answer(503 if "payment" in turn.read().target else 200, b"7")(turn)


async def test_attributes_are_clients() -> None:
    with Upstream(by_path) as scripted:
        async with Shop(scripted.url) as shop:
            assert type(shop.venue) is VenueClient
            assert shop.venue is shop.venue
            assert await shop.venue.event(1) == 7
            assert (await shop.payment.get("/x")).status == 503
            assert [request.target for request in scripted.requests] == ["/venue-service/events/1", "/payment/x"]
            assert scripted.last.get("x-app") == "shop"
            assert scripted.last.get("x-envoy-upstream-rq-timeout-ms")
        assert pool._by_loop == {}


async def test_health_of_all() -> None:
    with Upstream(by_path) as scripted:
        async with LargerShop(scripted.url) as shop:
            assert await shop.health() == {"venue-service": True, "payment-2": False, "order": True}
    nobody = RefusedPort()
    async with Shop(nobody.url) as shop:
        assert await shop.health() == {"venue-service": False, "payment": False}
    nobody.stop()


async def test_health_is_asked_for_all_at_once() -> None:
    def held(turn: Turn) -> None:
        turn.read()
        if len(turn.upstream.requests) == 3:
            turn.upstream.gate.set()
        turn.wait_for_gate()
        answer()(turn)

    with Upstream(held) as scripted:
        async with LargerShop(scripted.url) as shop:
            assert all((await shop.health()).values())


def test_subclasses_add_and_replace() -> None:
    shop = LargerShop("http://h:1")
    assert [client.service for client in shop.clients.values()] == ["venue-service", "payment-2", "order"]
    assert {client.base_url for client in shop.clients.values()} == {"http://h:1"}
    assert list(Shop().clients) == ["venue", "payment"]
    assert Shop().venue is not Shop().venue


def test_declared_wrongly() -> None:
    class Wrong(Services):
        venue = service("a/b")

    with pytest.raises(ValueError, match="cannot be the name"):
        Wrong()
    with pytest.raises(ValueError, match="base_url"):
        Shop("nowhere")


async def test_another_client_in_its_place() -> None:
    class Fake(VenueClient):
        async def event(self, number: int) -> int:
            return -number

    shop = Shop()
    shop.venue = Fake("venue")
    async with shop:
        assert await shop.venue.event(1) == -1


async def test_what_fails_to_open_leaves_nothing_open() -> None:
    shop = Shop()
    await shop.payment.open()
    with pytest.raises(RuntimeError, match="open already"):
        await shop.open()
    await shop.payment.close()
    assert asyncio.get_running_loop() not in pool._by_loop


def test_of_the_class_it_is_the_declaration() -> None:
    assert Shop.venue is vars(Shop)["venue"]
