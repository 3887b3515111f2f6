"""An app's services in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self
from unittest.mock import AsyncMock

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
            assert await shop.health() == {"venue": True, "payment": False, "order": True}
    with RefusedPort() as nobody:
        async with Shop(nobody.url) as shop:
            assert await shop.health() == {"venue": False, "payment": False}


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


class Fake(VenueClient):
    async def event(self, number: int) -> int:
        return -number


class Bare(VenueClient):
    """Does without what it has no use for."""

    def __init__(self) -> None:
        pass

    async def event(self, number: int) -> int:
        return -number


class Duck:
    async def event(self, number: int) -> int:
        return -number


def mocked(**options: Any) -> Any:
    mock = AsyncMock(**options)
    mock.event.side_effect = lambda number: -number
    return mock


@pytest.mark.parametrize(
    "make",
    [lambda: Fake("venue"), Bare, Duck, mocked, lambda: mocked(spec=VenueClient)],
    ids=["client", "not-initialised", "duck", "mock", "mock-of-the-class"],
)
async def test_anything_in_a_clients_place(make: Callable[[], Any]) -> None:
    shop, fake = Shop(), make()
    shop.venue = fake
    assert shop.venue is fake
    async with shop:
        assert await shop.venue.event(1) == -1
    assert asyncio.get_running_loop() not in pool._by_loop


async def test_health_of_what_was_put_there() -> None:
    shop = Shop()
    shop.venue = mocked()
    shop.payment = mocked(**{"health_check.return_value": False})
    assert await shop.health() == {"venue": True, "payment": False}


async def test_two_attributes_of_one_service() -> None:
    class Two(Services):
        quick = service("venue", deadline=0.5)
        patient = service("venue")

    with Upstream(answer()) as scripted:
        async with Two(scripted.url) as two:
            assert await two.health() == {"quick": True, "patient": True}


async def test_replaced_while_open() -> None:
    async with Shop("http://127.0.0.1:1") as shop:
        replaced = shop.venue
        with pytest.raises(RuntimeError, match=r"Shop is open: assign <Fake venue at .*> before opening it"):
            shop.venue = Fake("venue")
        assert shop.venue is replaced
        async with Fake("venue") as fake:
            shop.venue = fake
            assert await shop.venue.event(2) == -2
        shop.venue = mocked()
        assert replaced._shared is not None
    assert replaced._shared is None
    assert asyncio.get_running_loop() not in pool._by_loop


async def test_what_is_open_already_stays_open() -> None:
    shop = Shop()
    async with Fake("venue") as fake:
        shop.venue = fake
        async with shop:
            assert shop.payment._shared is not None
        assert (shop.payment._shared, fake._shared is None) == (None, False)
    assert asyncio.get_running_loop() not in pool._by_loop


async def test_what_fails_to_open_leaves_nothing_open() -> None:
    class Broken(ServiceClient):
        async def open(self) -> Self:
            raise OSError("not today")

    shop = Shop()
    shop.payment = Broken("payment")
    with pytest.raises(OSError, match="not today"):
        await shop.open()
    assert shop.venue._shared is None
    assert asyncio.get_running_loop() not in pool._by_loop
    await shop.close()


async def test_opened_once_and_again_after_it_closed() -> None:
    shop = Shop()
    for _ in range(2):
        async with shop:
            with pytest.raises(RuntimeError, match="Shop is open already"):
                await shop.open()
        await shop.close()
    assert asyncio.get_running_loop() not in pool._by_loop


async def test_without_the_init_of_its_base() -> None:
    class Own(Services):
        venue = service("venue")

        def __init__(self) -> None:
            pass

    own = Own()
    with pytest.raises(RuntimeError, match=r"Own\.__init__ does not call super\(\)\.__init__\(\)"):
        _ = own.venue
    with pytest.raises(RuntimeError, match="Own"):
        own.venue = ServiceClient("venue")
    with pytest.raises(RuntimeError, match="Own"):
        async with own:
            pass


def test_of_the_class_it_is_the_declaration() -> None:
    assert Shop.venue is vars(Shop)["venue"]


def test_loop_that_ended_has_closed_the_services() -> None:
    class Shop(Services):
        venue = service("venue")

    shop = Shop("http://127.0.0.1:1")

    async def left_open() -> None:
        await shop.open()
        await pool._by_loop[asyncio.get_running_loop()].session.close()  # Else aiohttp warns of it, which is right.

    async def again() -> None:
        shop.venue = ServiceClient("venue", base_url="http://127.0.0.1:2")
        async with shop:
            with pytest.raises(RuntimeError, match="is open already"):
                await shop.open()
        await shop.close()

    asyncio.run(left_open())
    asyncio.run(again())
    asyncio.run(again())
    assert pool._by_loop == {}
