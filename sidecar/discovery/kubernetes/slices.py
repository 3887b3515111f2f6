"""EndpointSlices: which of their endpoints get requests. Pure.

Owns the meaning of a slice. The rules and their sources:

- Only the first address of an endpoint counts: the API reference defines no meaning for more. FQDN slices are ignored,
  and so are addresses of another family than the slice's.
- Conditions (API reference): without `ready` an endpoint is ready, without `serving` it is as `ready` says, without
  `terminating` it is not terminating.
- Endpoints that are ready and not terminating get the requests. When there is none, those that are terminating but
  still serve get them: a pod on its way out is better than none. kube-proxy does the same (KEP-1669), with one
  difference: a Service with `publishNotReadyAddresses` has its terminating pods marked ready, and kube-proxy goes on
  sending to them. Here they count as terminating.
- An endpoint may be in two slices while the control plane moves it. It is one endpoint, and ready if either slice says
  so.
- A port is chosen by name or by number: the pods' port in the slice, not the Service's port. A slice without ports (a
  headless Service without ports), or a port without a number, means every port; then a number is used as it is. Without
  a choice the only TCP port is used; with several ports, none.
- Both families of a dual-stack Service are endpoints, like A and AAAA in DNS.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from sidecar.discovery.kubernetes.wire import EndpointObject, PortObject, SliceObject

MOST_ENDPOINTS: Final = 5000
"""The most endpoints of one Service; more are left out, so that a wrong answer cannot cause endless work."""

_FAMILIES: Final = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


class Port(NamedTuple):
    """A TCP port of a slice. `number` None means every port."""

    name: str
    number: int | None
    scheme: str


class Place(NamedTuple):
    """Address, port and scheme of an endpoint."""

    address: str
    port: int
    scheme: str


class Slice(Struct, frozen=True):
    """The used part of an EndpointSlice: addresses of ready endpoints, and of endpoints that are terminating but still
    serve.
    """

    name: str
    ports: tuple[Port, ...]
    every_port: bool
    """Whether the slice lists no ports at all."""
    ready: tuple[str, ...]
    leaving: tuple[str, ...]


class Selection(NamedTuple):
    """The endpoints of a Service in a stable order, and a complaint for operators ("" if there is none)."""

    places: tuple[Place, ...]
    complaint: str
    usable: bool
    """False when no port could be chosen. Then the set means nothing, and the previous one stays."""


def read(found: SliceObject) -> Slice:
    """Read the used part of an EndpointSlice. A slice of FQDNs has no endpoints."""
    family = _FAMILIES.get(found.address_type)
    ready: dict[str, None] = {}
    leaving: dict[str, None] = {}
    if family is not None:
        for endpoint in found.endpoints or ():
            into = _where(endpoint, ready, leaving)
            if into is not None and endpoint.addresses and (address := _canonical(family, endpoint.addresses[0])):
                into[address] = None
    listed = found.ports or ()
    ports = tuple(_port(port) for port in listed if port.protocol in (None, "", "TCP") and _in_range(port.port))
    return Slice(found.metadata.name, ports, not listed, tuple(ready), tuple(leaving))


def _where(endpoint: EndpointObject, ready: dict[str, None], leaving: dict[str, None]) -> dict[str, None] | None:
    conditions = endpoint.conditions
    if conditions is None:
        return ready
    is_ready = conditions.ready is not False
    if not conditions.terminating:
        return ready if is_ready else None
    serves = is_ready if conditions.serving is None else conditions.serving
    return leaving if serves or is_ready else None


def _canonical(family: socket.AddressFamily, address: str) -> str | None:
    """The one normal form of an address, so that it cannot be two endpoints; None if it is no address of the family."""
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, address))
    except (OSError, ValueError):
        return None


def _in_range(number: int | None) -> bool:
    return number is None or 1 <= number <= 65535


def _port(port: PortObject) -> Port:
    scheme = "https" if (port.app_protocol or "").lower() == "https" else "http"
    return Port(port.name or "", port.port, scheme)


def select(slices: Iterable[Slice], wanted: int | str | None) -> Selection:
    """The endpoints of all slices of a Service at the wanted port: a number, a name, or None for the only one."""
    ready: dict[Place, None] = {}
    leaving: dict[Place, None] = {}
    complaint = ""
    chosen = False
    for one in sorted(slices, key=lambda one: one.name):
        if not one.ready and not one.leaving:
            continue
        port = _choose(one, wanted)
        if isinstance(port, str):
            complaint = port
            continue
        chosen = True
        number, scheme = port
        for address in one.ready:
            ready[Place(address, number, scheme)] = None
        for address in one.leaving:
            leaving[Place(address, number, scheme)] = None
    places = tuple(ready or leaving)
    if leaving and not ready:
        complaint = complaint or "no endpoint is ready; those that are terminating but still serve are used"
    if len(places) > MOST_ENDPOINTS:
        complaint = f"it has more than {MOST_ENDPOINTS} endpoints; the others are left out"
        places = places[:MOST_ENDPOINTS]
    return Selection(places, complaint, chosen or not complaint)


def _choose(one: Slice, wanted: int | str | None) -> tuple[int, str] | str:
    """Port number and scheme, or the reason why no port was chosen."""
    if isinstance(wanted, int):
        for port in one.ports:
            if port.number == wanted:
                return wanted, port.scheme
        if one.every_port or any(port.number is None for port in one.ports):
            return wanted, "http"
        return f"it has no port {wanted} ({_names(one)}); use the port of the pods, not of the Service"
    if wanted is None:
        candidates = [port for port in one.ports if port.number is not None]
        if len(candidates) > 1:
            return f"it has several ports ({_names(one)}); set `port` to one of them"
    else:
        candidates = [port for port in one.ports if port.name == wanted and port.number is not None]
    if not candidates:
        what = "TCP port" if wanted is None else f"port named {wanted!r}"
        return f"it has no {what} ({_names(one)})"
    number = candidates[0].number
    assert number is not None
    return number, candidates[0].scheme


def _names(one: Slice) -> str:
    if not one.ports:
        return "its slices list no TCP port"
    return "its pods have " + ", ".join(f"{port.name or 'unnamed'}={port.number or 'any'}" for port in one.ports)
