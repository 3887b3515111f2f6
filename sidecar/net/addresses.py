"""IP addresses as text: whether a host is one, and whether it is this machine. No look-ups."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6, inet_pton


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` (IPv6 without brackets) is; None for a name. An IPv4-mapped one is the IPv4 address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_ip(host: str) -> bool:
    """Whether `host` is already an address. Asked before each connection, of what is quicker than `ip_address`."""
    try:
        inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return address_of(host) is not None  # one with a scope, perhaps
    return True


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
