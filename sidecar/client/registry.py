"""The services that an app calls, declared in one place: each is a typed attribute, all open and close together."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack, overload

from sidecar.client.service_client import Headers, ServiceClient

C = TypeVar("C", bound=ServiceClient)


class ClientOptions(TypedDict, total=False):
    """What `service` passes on to the client, as ServiceClient describes it."""

    deadline: float | None
    headers: Headers | None
    raise_for_status: bool


class Declared(Generic[C]):
    """`service(...)` in a Services class; from an instance of that class, the client."""

    def __init__(self, service: str, client: type[C], options: ClientOptions) -> None:
        self._service, self._client, self._options = service, client, options
        self._attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Services, owner: type) -> C: ...
    def __get__(self, instance: Services | None, owner: type) -> Self | C:
        if instance is None:
            return self
        client = instance.clients[self._attribute]
        assert isinstance(client, self._client)
        return client

    def __set__(self, instance: Services, value: C) -> None:
        """Another client in its place, such as an app's test has. The one that was there must not be open."""
        instance.clients[self._attribute] = value

    def make(self, base_url: str | None) -> C:
        return self._client(self._service, base_url=base_url, **self._options)


@overload
def service(name: str, /, **options: Unpack[ClientOptions]) -> Declared[ServiceClient]: ...
@overload
def service(name: str, client: type[C], /, **options: Unpack[ClientOptions]) -> Declared[C]: ...
def service(name: str, client: type[Any] = ServiceClient, /, **options: Unpack[ClientOptions]) -> Declared[Any]:
    """Declares a service by the name it has in the sidecar's file, with a class of its own where it has one."""
    return Declared(name, client, options)


class Services:
    """Base class of an app's services:

        class Shop(Services):
            venue = service("venue", VenueClient)
            payment = service("payment", deadline=2.0)

        async with Shop() as shop:
            await shop.venue.event(1)

    `base_url` is each client's. Raises ValueError as ServiceClient does.
    """

    def __init__(self, base_url: str | None = None) -> None:
        self.clients: dict[str, ServiceClient] = {}
        """By attribute."""
        for kind in reversed(type(self).__mro__):
            for attribute, declared in vars(kind).items():
                if isinstance(declared, Declared):
                    self.clients[attribute] = declared.make(base_url)
                else:
                    self.clients.pop(attribute, None)  # A subclass has put something else there.

    async def open(self) -> Self:
        """What `async with` does on the way in; `close` is its other half."""
        opened: list[ServiceClient] = []
        try:
            for client in self.clients.values():
                await client.open()
                opened.append(client)
        except BaseException:
            for client in opened:
                await client.close()
            raise
        return self

    async def close(self) -> None:
        for client in self.clients.values():
            await client.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def health(self) -> dict[str, bool]:
        """`health_check` of each service, all at once, by the service's name."""
        clients = list(self.clients.values())
        answers = await asyncio.gather(*(client.health_check() for client in clients))
        return {client.service: well for client, well in zip(clients, answers, strict=True)}
