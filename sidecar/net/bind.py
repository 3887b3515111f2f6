"""Listening sockets, bound before anything is served.

Owns what a failure is called, and what is done where a machine has no IPv6.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from typing import Final, Protocol

BACKLOG: Final = 4096
"""Connections that may wait to be accepted."""

log = logging.getLogger("sidecar.proxy")


class HostPort(Protocol):
    """An address to listen on. `str` of it is what an operator wrote."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class AnyIPv4:
    """Every interface of IPv4."""

    host = "0.0.0.0"

    def __init__(self, port: int) -> None:
        self.port = port

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class PortTaken(Exception):
    """A listener could not bind; the message is one line that says which and why."""


def bind(name: str, addresses: Sequence[HostPort]) -> list[socket.socket]:
    """Listening sockets for a listener, one for each address.

    IPv6 loopback is left out with a log line where the machine has no IPv6, unless it is the only address. Raises
    PortTaken.
    """
    sockets = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        one = None
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # `[::]` serves IPv4 too; `[::1]` has no IPv4 side.
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.host == "::" else 1)
            one.bind((address.host, address.port))
            one.listen(BACKLOG)
            one.setblocking(False)
        except OSError as error:
            if one is not None:
                one.close()
            no_ipv6 = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and family == socket.AF_INET6
            if no_ipv6 and address.host == "::":
                sockets += bind(name, [AnyIPv4(address.port)])
                continue
            if no_ipv6 and len(addresses) > 1:
                log.info(
                    "a listener is left out: this machine has no IPv6",
                    extra={"fields": {"listener": name, "address": str(address)}},
                )
                continue
            for bound in sockets:
                bound.close()
            why = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise PortTaken(f"listen.{name}: {address} {why}") from None
        sockets.append(one)
    return sockets
