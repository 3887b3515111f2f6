"""IP addresses as text: whether a host is one, and whether it is this machine. No look-ups."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` (IPv6 without brackets) is; None for a name. An IPv4-mapped one is the IPv4 address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(1024)
def is_ip(host: str) -> bool:
    """Whether `host` is already an address. This is asked before each connection, and costs 3 us to find out."""
    return address_of(host) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener at `host`."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = address_of(host)
    return address is not None and address.is_loopback


def is_this_machine(host: str) -> bool:
    """Whether a connection to `host` always reaches this machine. To the unspecified address it does too."""
    address = address_of(host)
    return is_loopback(host) or (address is not None and address.is_unspecified)
