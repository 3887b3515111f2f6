"""From a request's target and Host to a service: by configuration alone.

Owns the three ways in (path, Host, absolute-form) and how an authority is compared. It reads no header but Host, and
decides nothing about policies: routes within a service are the service's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final

from sidecar.config.schema import Address
from sidecar.runtime.service import LiveService

_SEGMENT = re.compile(rb"/([^/?]*)")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)", re.DOTALL)
_AUTHORITY = re.compile(rb"(\[[0-9a-f:.]+\]|[^:@]*?)\.?(?::([0-9]*))?")

RESERVED: Final = b"_"
"""First segments that start with it are the sidecar's own."""


class NotRouted(Exception):
    """No service for this request: `status` (400 or 404), `reason` and `detail` for the answer."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


def is_loopback(host: str) -> bool:
    """Whether a host (no port, no brackets) always means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class RoutingTable:
    """Which service answers to which first path segment and which authority; frozen once built."""

    def __init__(self, services: Iterable[LiveService], listeners: Sequence[Address]) -> None:
        self._by_path: dict[bytes, LiveService] = {}
        self._by_authority: dict[bytes, LiveService] = {}
        derived: dict[bytes, list[LiveService]] = {}
        for service in services:
            config = service.config
            self._by_path[config.name.encode()] = service
            ports = {spec.url.port for spec in config.endpoints}
            for host in (config.name.lower(), *config.hosts):
                self._by_authority[host.encode()] = service
                for port in ports:
                    self._by_authority[f"{host}:{port}".encode()] = service
            for spec in config.endpoints:
                url = spec.url
                if is_loopback(url.host):
                    continue
                host = f"[{url.host}]" if ":" in url.host else url.host
                for authority in {host, f"{host}:{url.port}"}:
                    users = derived.setdefault(authority.encode(), [])
                    if service not in users:
                        users.append(service)
        for authority, users in derived.items():
            if len(users) == 1:  # two services behind one address are told apart by path or by `hosts`, not by guessing
                self._by_authority.setdefault(authority, users[0])
        self._own_ports = {str(address.port).encode() for address in listeners}

    def listens_on(self, ports: Iterable[int]) -> None:
        """Say which ports the proxy really listens on, where the configuration leaves them to the system."""
        self._own_ports = {str(port).encode() for port in ports}

    def find(self, method: str, target: bytes, host: bytes | None) -> tuple[LiveService, bytes, bool]:
        """The service, the target to send upstream, and whether it was found by path (whose first segment is cut off).

        Raises NotRouted.
        """
        if target[0] != 0x2F:  # not `/`
            return self._find_by_form(method, target, host)
        if host:
            service = self._by_authority.get(host) or self._by_authority.get(_canonical(host))
            if service is not None:
                return service, target, False
        return self._find_by_path(target)

    def _find_by_path(self, target: bytes) -> tuple[LiveService, bytes, bool]:
        segment = _SEGMENT.match(target)
        assert segment is not None
        service = self._by_path.get(segment[1])
        if service is None:
            raise NotRouted(404, "unknown_service", _unknown(segment[1]))
        rest = target[segment.end() :]
        if rest[:1] != b"/":
            rest = b"/" + rest
        return service, rest, True

    def _find_by_form(self, method: str, target: bytes, host: bytes | None) -> tuple[LiveService, bytes, bool]:
        if target == b"*":
            service = self._by_authority.get(_canonical(host or b""))
            if service is None:
                raise NotRouted(404, "unknown_service", "a target of * says no path, and Host names no service")
            return service, target, False
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise NotRouted(400, "bad_request", "the target is neither a path nor an absolute URL")
        scheme, authority, rest = absolute.groups()
        if b"@" in authority:
            raise NotRouted(400, "bad_request", "the target has user information")
        if scheme.lower() != b"http":
            raise NotRouted(400, "bad_request", "the target's scheme is not http; TLS to a service is the sidecar's part")
        if not authority:
            raise NotRouted(400, "bad_request", "the target has an empty authority")
        if rest[:1] != b"/":
            # RFC 9112, section 3.2.4: OPTIONS for a whole server is `*` to the server itself.
            rest = b"*" if method == "OPTIONS" and not rest else b"/" + rest
        canonical = _canonical(authority)
        service = self._by_authority.get(canonical)
        if service is not None:
            return service, rest, False
        if self._is_own(canonical) and rest != b"*":
            return self._find_by_path(rest)
        raise NotRouted(404, "unknown_service", "no service has the target's authority, and this is no open proxy")

    def _is_own(self, authority: bytes) -> bool:
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None or parts[2] not in self._own_ports:
            return False
        return is_loopback(parts[1].strip(b"[]").decode("ascii", "replace"))


def _canonical(authority: bytes) -> bytes:
    """Lower case, no trailing dot, no empty port; as it is where it is not host[:port]."""
    authority = authority.lower()
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return authority
    return parts[1] + b":" + parts[2] if parts[2] else parts[1]


def _unknown(segment: bytes) -> str:
    if not segment:
        return "the path names no service: call /<service>/..., or set Host"
    return "no service of that name is configured"
