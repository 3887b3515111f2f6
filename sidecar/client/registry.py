"""Declares all services that an app calls in one class: each is a typed attribute, and all open and close together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack, cast, overload

from sidecar.client.outgoing import Headers
from sidecar.client.service_client import ServiceClient

C = TypeVar("C", bound=ServiceClient)


class ClientOptions(TypedDict, total=False):
    """The options that `service` passes on to the client. ServiceClient describes them."""

    deadline: float | None
    headers: Headers | None
    raise_for_status: bool


class Declared(Generic[C]):
    """The descriptor behind `service(...)` in a Services class. On an instance of that class, it gives the client."""

    def __init__(self, service: str, client: type[C], options: ClientOptions) -> None:
        self._service, self._client, self._options = service, client, options
        self._attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Services, owner: type) -> C: ...
    def __get__(self, instance: Services | None, owner: type) -> Any:
        return self if instance is None else instance.clients[self._attribute]

    def __set__(self, instance: Services, value: C) -> None:
        """Puts another client in its place; see Services."""
        instance._put(self._attribute, value)

    def make(self, base_url: str | None) -> C:
        return self._client(self._service, base_url=base_url, **self._options)


@overload
def service(name: str, /, **options: Unpack[ClientOptions]) -> Declared[ServiceClient]: ...
@overload
def service(name: str, client: type[C], /, **options: Unpack[ClientOptions]) -> Declared[C]: ...
def service(name: str, client: type[Any] = ServiceClient, /, **options: Unpack[ClientOptions]) -> Declared[Any]:
    """Declares a service by its name in the sidecar's file. `client` is an optional class of its own; it is called with
    the same arguments as ServiceClient: the name, `base_url` and the options.
    """
    return Declared(name, client, options)


class Services:
    """Base class for an app's set of services:

        class Shop(Services):
            venue = service("venue", VenueClient)
            payment = service("payment", deadline=2.0)

        async with Shop() as shop:
            await shop.venue.event(1)

    `base_url` is passed to each client. Raises ValueError as ServiceClient does.

    In tests, any object can replace a client: `shop.venue = fake`. A client that is not open yet opens and closes with
    the others. Whoever made the object is responsible for anything else: for a client that is already open, and for an
    object that is not a ServiceClient (a Mock, or a class with the methods that the app calls).
    """

    _clients: dict[str, ServiceClient]
    _opened: AsyncExitStack | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    """In which they were opened. Its end has closed them."""

    def __init__(self, base_url: str | None = None) -> None:
        self._clients = {}
        for kind in reversed(type(self).__mro__):
            for attribute, declared in vars(kind).items():
                if isinstance(declared, Declared):
                    self._clients[attribute] = declared.make(base_url)
                else:
                    self._clients.pop(attribute, None)  # A subclass replaced the declaration.

    @property
    def clients(self) -> Mapping[str, ServiceClient]:
        """The clients by attribute name."""
        try:
            return self._clients
        except AttributeError:
            raise RuntimeError(f"{type(self).__name__}.__init__ does not call super().__init__()") from None

    async def open(self) -> Self:
        """Opens all clients, as `async with` does; `close` is the counterpart. Raises RuntimeError if already open. The
        end of the event loop in which they were opened has closed them.
        """
        clients = self.clients
        if self._is_open():
            raise RuntimeError(f"{type(self).__name__} is open already")
        await self.close()
        async with AsyncExitStack() as opening:
            for client in clients.values():
                if _is_closed(client):
                    await client.open()
                    opening.push_async_callback(client.close)
            self._opened, self._loop = opening.pop_all(), asyncio.get_running_loop()
        return self

    async def close(self) -> None:
        """Closes the clients that `open` opened, including those replaced since. Closing twice does nothing."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def health(self) -> dict[str, bool]:
        """Runs `health_check` of all services at once. Returns the results by attribute name."""
        clients = self.clients
        checks = [client.health_check for client in clients.values()]
        answers = await asyncio.gather(*(check() for check in checks))
        return dict(zip(clients, map(bool, answers), strict=True))

    def _is_open(self) -> bool:
        return self._opened is not None and self._loop is not None and not self._loop.is_closed()

    def _put(self, attribute: str, client: ServiceClient) -> None:
        clients = self.clients
        if self._is_open() and _is_closed(client):
            raise RuntimeError(
                f"{type(self).__name__} is open: assign {client!r} before opening it, or open the client first"
            )
        self._clients = {**clients, attribute: client}


def _is_closed(client: object) -> bool:
    """Whether `client` is a ServiceClient that needs to be opened. This looks at the real type, because a Mock with a
    `spec` hides it. A fake whose `__init__` does not call ServiceClient's cannot be opened.
    """
    if not issubclass(type(client), ServiceClient) or not hasattr(client, "_shared"):
        return False
    return not cast(ServiceClient, client).is_open
