"""Sockets bound as the daemon binds them, and closed at the test's end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from sidecar.config.schema import Address
from sidecar.net.bind import bind

LOCAL = Address("127.0.0.1", 0)

Bound = Callable[..., list[socket.socket]]


@pytest.fixture
def bound() -> Iterator[Bound]:
    """`bind`, and an end to what it has bound."""
    sockets: list[socket.socket] = []

    def bind_for_test(*addresses: Address) -> list[socket.socket]:
        found = bind("proxy", addresses)
        sockets.extend(found)
        return found

    yield bind_for_test
    for one in sockets:
        one.close()


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])
