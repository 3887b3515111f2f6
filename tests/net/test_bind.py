"""Binding: one socket for each address, and a failure in one line."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

import pytest

from sidecar.config.schema import Address
from sidecar.net.bind import PortTaken
from tests.support.bound import LOCAL, Bound, port_of


@pytest.fixture
def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that knows no IPv6."""
    real = socket.socket

    def refuse(family: int = socket.AF_INET, *args: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **more)

    monkeypatch.setattr(socket, "socket", refuse)


def test_each_address_gets_a_listening_socket(bound: Bound) -> None:
    for one in bound(LOCAL, LOCAL):
        assert not one.getblocking()
        with socket.create_connection(("127.0.0.1", port_of(one)), timeout=5):
            pass


def test_port_that_is_taken_is_named_in_one_line(bound: Bound) -> None:
    port = port_of(bound(LOCAL)[0])
    with pytest.raises(PortTaken) as caught:
        bound(Address("127.0.0.1", port))
    assert str(caught.value) == f"listen.proxy: 127.0.0.1:{port} is already in use"


def test_other_reasons_are_named_too(bound: Bound) -> None:
    with pytest.raises(PortTaken, match=r"^listen\.proxy: 192\.0\.2\.1:1 cannot be used: .+$"):
        bound(Address("192.0.2.1", 1))


def test_nothing_stays_bound_where_one_is_taken(bound: Bound) -> None:
    port = port_of(bound(LOCAL)[0])
    other = port_of(bound(LOCAL)[0])
    free = socket.create_server(("127.0.0.1", 0))
    free_port = port_of(free)
    free.close()
    for taken in (port, other):
        with pytest.raises(PortTaken):
            bound(Address("127.0.0.1", free_port), Address("127.0.0.1", taken))
    assert port_of(bound(Address("127.0.0.1", free_port))[0]) == free_port


@pytest.mark.usefixtures("without_ipv6")
def test_ipv6_loopback_is_left_out_where_there_is_none(bound: Bound, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        (one,) = bound(LOCAL, Address("::1", 0))
    assert one.family == socket.AF_INET
    (record,) = caplog.records
    assert record.__dict__["fields"] == {"listener": "proxy", "address": "[::1]:0"}


@pytest.mark.usefixtures("without_ipv6")
def test_only_address_is_not_left_out(bound: Bound) -> None:
    with pytest.raises(PortTaken, match=r"^listen\.proxy: \[::1\]:0 cannot be used"):
        bound(Address("::1", 0))


@pytest.mark.usefixtures("without_ipv6")
def test_every_interface_is_every_ipv4_interface_then(bound: Bound) -> None:
    (one,) = bound(Address("::", 0))
    assert (one.family, one.getsockname()[0]) == (socket.AF_INET, "0.0.0.0")
