"""Routing table: finds the service for a request from its target and Host, by configuration alone.

Owns the three ways to name a service (path, Host, absolute-form) and how authorities are compared. It reads no other
header than Host and decides nothing about policies. The service chooses among its routes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

from sidecar.config.schema import Address
from sidecar.runtime.service import LiveService

_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)", re.DOTALL)
_AUTHORITY = re.compile(rb"(\[[0-9a-f:.]+\](?!\.)|[^\[\]:@]*?)\.?(?::([0-9]*))?")

RESERVED: Final = b"_"
"""Paths whose first segment starts with this belong to the sidecar itself."""

SEEN_MAX: Final = 256
"""The most Hosts in the look-up cache."""

SEEN_LENGTH_MAX: Final = 264
"""The longest Host in the cache, in bytes: a DNS name has at most 253, a port with its colon 6."""


class NotRouted(Exception):
    """No service for this request. `status` (400 or 404), `reason` and `detail` are for the response.

    `reserved` is the path and query of a request to the sidecar itself, else empty.
    """

    def __init__(self, status: int, reason: str, detail: str, reserved: bytes = b"") -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.reserved = reserved


def is_loopback(host: str) -> bool:
    """Whether a host (without port or brackets) always means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return (
        address.is_loopback or address.is_unspecified
    )  # a connection to the unspecified address reaches this machine too


class RoutingTable:
    """Services by first path segment and by authority. Fixed once built."""

    def __init__(self, services: Iterable[LiveService], listeners: Sequence[Address]) -> None:
        self._by_path: dict[bytes, LiveService] = {}
        self._by_authority: dict[bytes, LiveService] = {}
        derived: dict[bytes, list[LiveService]] = {}
        for service in services:
            config = service.config
            self._by_path[config.name.encode()] = service
            addressed = config.addressed
            ports = {port for _, port in addressed if port is not None}
            for host in (config.name.lower(), *config.hosts):
                if is_loopback(host):  # a service may have such a name, but as a Host it always means "route by path"
                    continue
                self._by_authority[host.encode()] = service
                for port in ports:
                    self._by_authority[f"{host}:{port}".encode()] = service
            for name, its_port in addressed:
                if is_loopback(name):
                    continue
                host = f"[{name}]" if ":" in name else name
                authorities = [host] if its_port is None else [host, f"{host}:{its_port}"]
                for authority in [one.encode() for one in authorities]:
                    users = derived.setdefault(authority, [])
                    if service not in users:
                        users.append(service)
        for derived_from_url, users in derived.items():
            if len(users) == 1:  # an address of two services names neither; use the path or `hosts`
                self._by_authority.setdefault(derived_from_url, users[0])
        self._seen: dict[bytes, LiveService | None] = {}
        self._own_hosts = {address.host for address in listeners}
        self.listens_on(address.port for address in listeners)

    def listens_on(self, ports: Iterable[int]) -> None:
        """Set the ports that the proxy actually listens on, for when the system chooses them."""
        self._own_ports = {str(port).encode() for port in ports}
        for authority in [authority for authority in self._by_authority if self._is_own(authority)]:
            del self._by_authority[authority]  # the listener's own address always means "route by path"
        self._seen.clear()

    def find(self, method: str, target: bytes, host: bytes | None) -> tuple[LiveService, bytes, bool]:
        """Returns the service, the target to send upstream, and whether it was found by path (then the first segment is
        removed).

        `target` is the target of the request line, at least one byte. Raises NotRouted.
        """
        if target[0] != 0x2F:  # not `/`
            return self._find_by_form(method, target, host)
        if host:
            try:
                service = self._seen[host]
            except KeyError:
                service = self._look_up(host)
            if service is not None:
                return service, target, False
        return self._find_by_path(target)

    def _look_up(self, host: bytes) -> LiveService | None:
        """Look up a Host and cache the result. An app uses few Hosts; when there are too many, the cache is cleared."""
        service = self._by_authority.get(_canonical(host))
        if len(host) <= SEEN_LENGTH_MAX:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen[host] = service
        return service

    def _find_by_path(self, target: bytes) -> tuple[LiveService, bytes, bool]:
        end = target.find(b"/", 1)
        name = target[1:] if end < 0 else target[1:end]
        service = self._by_path.get(name)
        if service is not None:
            return service, target[end:] if end > 0 else b"/", True
        name = name.partition(b"?")[0]  # `/venue?x`, or a target with a slash only in its query
        service = self._by_path.get(name)
        if service is None:
            reserved = target if name.startswith(RESERVED) else b""
            raise NotRouted(404, "unknown_service", _unknown(name), reserved)
        rest = target[1 + len(name) :]
        return service, rest if rest[:1] == b"/" else b"/" + rest, True

    def _find_by_form(self, method: str, target: bytes, host: bytes | None) -> tuple[LiveService, bytes, bool]:
        if target == b"*":
            if method != "OPTIONS":  # RFC 9112, section 3.2.4
                raise NotRouted(400, "bad_request", "the target * is allowed for OPTIONS only")
            service = self._by_authority.get(_canonical(host or b""))
            if service is None:
                raise NotRouted(404, "unknown_service", "the target * has no path, and Host names no service")
            return service, target, False
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise NotRouted(400, "bad_request", "the target is neither a path nor an absolute URL")
        scheme, authority, rest = absolute.groups()
        if b"@" in authority:
            raise NotRouted(400, "bad_request", "the target contains user information")
        if scheme.lower() != b"http":
            raise NotRouted(400, "bad_request", "the target's scheme is not http; the sidecar adds TLS itself")
        if authority[:1] in (b"", b":"):  # RFC 9110, section 4.2.1
            raise NotRouted(400, "bad_request", "the target names no host")
        if rest[:1] != b"/":
            # RFC 9112, section 3.2.4: OPTIONS for a whole server is `*` to the server itself.
            rest = b"*" if method == "OPTIONS" and not rest else b"/" + rest
        canonical = _canonical(authority)
        service = self._by_authority.get(canonical)
        if service is not None:
            return service, rest, False
        if self._is_own(canonical) and rest != b"*":
            return self._find_by_path(rest)
        raise NotRouted(
            404, "unknown_service", "no service has the target's authority; the sidecar is not an open proxy"
        )

    def _is_own(self, authority: bytes) -> bool:
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None or (parts[2] or b"80") not in self._own_ports:
            return False
        host = parts[1].strip(b"[]").decode("ascii", "replace")
        return host in self._own_hosts or is_loopback(host)


def _canonical(authority: bytes) -> bytes:
    """An authority in lower case without trailing dot or empty port. Text that is not host[:port] only becomes lower
    case.
    """
    authority = authority.lower()
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return authority
    return parts[1] + b":" + parts[2] if parts[2] else parts[1]


def _unknown(segment: bytes) -> str:
    if not segment:
        return "the path names no service; call /<service>/... or set Host"
    return "no service of that name is configured"
