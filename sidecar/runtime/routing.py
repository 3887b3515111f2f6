"""Routing table: finds the service for a request from its target and Host, by configuration alone.

Owns the ways to name a service (path, Host, absolute-form; over HTTP/2 also metadata, and what a service claims of
gRPC) and how authorities are compared. It decides nothing about policies. The service chooses among its routes.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from typing import Final, Literal

from sidecar.config.schema import Address
from sidecar.net.addresses import is_this_machine
from sidecar.policy.grpc import UNIMPLEMENTED
from sidecar.runtime.near_name import near_name
from sidecar.runtime.service import LiveService

_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)", re.DOTALL)
_AUTHORITY = re.compile(rb"(\[[0-9a-f:.]+\](?!\.)|[^\[\]:@]*?)\.?(?::([0-9]*))?")

RoutedBy = Literal["path", "host", "absolute", "metadata", "claim"]
"""What named the service: the first path segment, Host, the authority of an absolute-form target, metadata of the
request, or the service of gRPC in its path."""

PATH: Final = "path"
HOST: Final = "host"
ABSOLUTE: Final = "absolute"
METADATA: Final = "metadata"
CLAIM: Final = "claim"

_PLAIN = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
"""An authority that a message may quote."""

_GRPC_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_.]{0,252}")
"""A name of a gRPC service that a message may quote."""

_SLASH: Final = 0x2F

RESERVED: Final = b"_"
"""Paths whose first segment starts with this belong to the sidecar itself."""

SEEN_MAX: Final = 256
"""The most Hosts in the look-up cache."""

SEEN_LENGTH_MAX: Final = 264
"""The longest Host in the cache, in bytes: a DNS name has at most 253, a port with its colon 6."""


NEAR_MOST: Final = 500
"""The most authorities that are compared with one that names no service."""


_STEP: Final = 100
"""Authorities in one step of building a table."""


class NotRouted(Exception):
    """No service for this request. `status` (400, 404 or 501), `reason` and `detail` are for the response.

    `reserved` is the path and query of a request to the sidecar itself, else empty. `grpc_status` is what a gRPC call
    comes to, where the reason alone does not say it, else -1.
    """

    def __init__(self, status: int, reason: str, detail: str, reserved: bytes = b"", grpc_status: int = -1) -> None:
        super().__init__(detail)
        self.grpc_status = grpc_status
        self.status = status
        self.reason = reason
        self.detail = detail
        self.reserved = reserved


class RoutingTable:
    """Services by first path segment and by authority. Fixed once built."""

    def __init__(self, services: Iterable[LiveService], listeners: Sequence[Address]) -> None:
        self._by_path: dict[bytes, LiveService] = {}
        self._by_authority: dict[bytes, LiveService] = {}
        self._by_host: dict[bytes, LiveService] = {}
        """Services that take every port of a host."""
        self._claims: dict[bytes, LiveService] = {}
        """Services by what they claim of gRPC: `shop.v1.Venue`, and `shop.v1.` for all of a package."""
        self._package_lengths: tuple[int, ...] = ()
        """The lengths of the claimed packages with their dots, longest first."""
        self._seen: dict[bytes, LiveService | None] = {}
        self._hints: dict[bytes, str] = {}
        self._own_hosts = {address.host for address in listeners}
        self._own_ports = _as_bytes(address.port for address in listeners)
        for _ in self._filling(tuple(services)):
            pass

    @staticmethod
    def building(
        services: Sequence[LiveService], listeners: Sequence[Address], ports: Iterable[int] | None
    ) -> Generator[None, None, RoutingTable]:
        """A table in steps of one service. `ports` are those that the proxy listens on; None for those of `listeners`.

        Give it to nobody before its end: until then services are missing.
        """
        table = RoutingTable((), listeners)
        if ports is not None:
            table._own_ports = _as_bytes(ports)
        yield from table._filling(services)
        return table

    def _filling(self, services: Sequence[LiveService]) -> Generator[None, None, None]:
        """Enter services. What is more exact, or was written for the purpose, comes first and wins."""
        for service in services:
            self._by_path[service.name.encode()] = service
            for claim in service.config.grpc:
                self._claims[claim.removesuffix("*").encode()] = service
            for host in service.config.hosts:
                name, _, port = host.partition(":")
                if is_this_machine(name):  # as a Host it always means "route by path"
                    continue
                if port == "*":
                    self._by_host[name.encode()] = service
                elif port:
                    self._by_authority[host.encode()] = service
            yield
        packages = {len(claim) for claim in self._claims if claim.endswith(b".")}
        self._package_lengths = tuple(sorted(packages, reverse=True))
        for service in services:
            config = service.config
            ports = {port for _, port in config.addressed if port is not None}
            names = [host for host in config.hosts if ":" not in host]
            for name in (config.name.lower(), *names):
                if is_this_machine(name):
                    continue
                for authority in (name, *(f"{name}:{port}" for port in ports)):
                    self._by_authority.setdefault(authority.encode(), service)
            yield
        derived: dict[bytes, list[LiveService]] = {}
        for service in services:
            for name, its_port in service.config.addressed:
                if is_this_machine(name):
                    continue
                host = f"[{name}]" if ":" in name else name
                for authority in [host] if its_port is None else [host, f"{host}:{its_port}"]:
                    users = derived.setdefault(authority.encode(), [])
                    if service not in users:
                        users.append(service)
            yield
        for at, (derived_from_url, users) in enumerate(derived.items()):
            if len(users) == 1:  # an address of two services names neither; use the path or `hosts`
                self._by_authority.setdefault(derived_from_url, users[0])
            if not at % _STEP:
                yield
        for at, authority_there in enumerate(list(self._by_authority)):
            if self._is_own(authority_there):
                del self._by_authority[authority_there]  # the listener's own address always means "route by path"
            if not at % _STEP:
                yield

    def listens_on(self, ports: Iterable[int]) -> None:
        """Set the ports that the proxy actually listens on, for when the system chooses them."""
        self._own_ports = _as_bytes(ports)
        for authority in [authority for authority in self._by_authority if self._is_own(authority)]:
            del self._by_authority[authority]
        self._seen.clear()

    def find(self, method: str, target: bytes, host: bytes | None) -> tuple[LiveService, bytes, RoutedBy]:
        """Returns the service, the target to send upstream, and what named the service. By PATH, the first segment is
        removed from the target.

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
                return service, target, HOST
        return self._find_by_path(target, host)

    def find_h2(
        self, method: str, target: bytes, host: bytes | None, asked: bytes | None, grpc: bool
    ) -> tuple[LiveService, bytes, RoutedBy]:
        """The same for a request over HTTP/2, which has two more ways to name a service: an app that can only dial the
        sidecar itself says it in metadata (`asked`), or calls what a service claims of gRPC. A gRPC call is not routed
        by its first path segment, which is its service's name in gRPC.

        Raises NotRouted.
        """
        if target[0] != _SLASH:
            return self._find_by_form(method, target, host)
        service: LiveService | None = None
        if host:
            service = self._seen[host] if host in self._seen else self._look_up(host)
        found_by: RoutedBy = HOST
        if asked is not None:
            service, found_by = self._asked(asked, service), METADATA
        elif service is None:
            if not grpc:
                return self._find_by_path(target, host)
            service, found_by = self._claimed(target, host), CLAIM
        if grpc and not service.h2:
            name = service.name
            raise NotRouted(501, "bad_request", _HTTP1.format(name), grpc_status=UNIMPLEMENTED)
        return service, target, found_by

    def _asked(self, asked: bytes, by_host: LiveService | None) -> LiveService:
        """The service that metadata names, as the file does, or by one of its hosts."""
        service = self._by_path.get(asked) or self._look_up(asked)
        if service is None:
            if _PLAIN.fullmatch(asked) is None or len(asked) > SEEN_LENGTH_MAX:
                raise NotRouted(404, "unknown_service", "no service has the name in x-sidecar-service or dapr-app-id")
            name = _text(asked)
            near = near_name(name, [_text(known) for known in islice(self._by_path, NEAR_MOST)])
            guess = f"; did you mean {near}?" if near else ""
            raise NotRouted(404, "unknown_service", f"no service is named {name}, as the metadata asks for{guess}")
        if by_host is not None and by_host is not service:
            words = f"the :authority names {by_host.name}, and the metadata names {service.name}: send one of the two"
            raise NotRouted(400, "bad_request", words)
        return service

    def _claimed(self, target: bytes, host: bytes | None) -> LiveService:
        """The service that claims the gRPC service in a path `/shop.v1.Venue/Get`. The longest claim wins."""
        end = target.find(b"/", 1)
        name = target[1:end] if end > 0 else target[1:]
        service = self._claims.get(name)
        if service is not None:
            return service
        for length in self._package_lengths:
            service = self._claims.get(name[:length])
            if service is not None:
                return service
        raise NotRouted(404, "unknown_service", self._unclaimed(name, host))

    def _unclaimed(self, name: bytes, host: bytes | None) -> str:
        """What can be done about a gRPC call that no service takes."""
        if _GRPC_NAME.fullmatch(name) is None:
            detail = "the path names no service of gRPC, /package.Service/Method"
        elif name in self._by_path:  # as HTTP is routed
            return f"a gRPC call is not routed by its path: send the metadata x-sidecar-service: {_text(name)}"
        else:
            detail = f"no service claims {_text(name)}: add it to services.NAME.grpc"
        detail += ", or send the metadata x-sidecar-service"
        if host and not self._is_own(authority := _canonical(host)) and not is_this_machine(_text(_host_of(authority))):
            detail += f"; {self._no_service_has(authority)}"
        return detail

    def not_connected(self, authority: bytes) -> str:
        """Why an app gets no connection to this authority (CONNECT); empty where it is that of a service."""
        canonical = _canonical(authority)
        if self._of_authority(canonical) is not None:
            return ""
        return "the target is the sidecar itself" if self._is_own(canonical) else "no service has that authority"

    def _look_up(self, host: bytes) -> LiveService | None:
        """Look up a Host and cache the result. An app uses few Hosts; when there are too many, the cache is cleared."""
        service = self._of_authority(_canonical(host))
        if len(host) <= SEEN_LENGTH_MAX:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen[host] = service
        return service

    def _of_authority(self, authority: bytes) -> LiveService | None:
        """The service of a canonical authority."""
        service = self._by_authority.get(authority)
        if service is None and self._by_host:
            service = self._by_host.get(_host_of(authority))
        return service

    def _find_by_path(self, target: bytes, host: bytes | None = None) -> tuple[LiveService, bytes, RoutedBy]:
        end, size = 1, len(target)
        while end < size and target[end] != 0x2F:  # compiled, far cheaper than bytes.find for a name's few bytes
            end += 1
        name = target[1:end]
        service = self._by_path.get(name)
        if service is not None:
            return service, target[end:] if end < size else b"/", PATH
        name = name.partition(b"?")[0]  # `/venue?x`, or a target with a slash only in its query
        service = self._by_path.get(name)
        if service is None:
            reserved = target if name.startswith(RESERVED) else b""
            detail = _unknown(name)
            if (
                host
                and not self._is_own(authority := _canonical(host))
                and not is_this_machine(_text(_host_of(authority)))
            ):
                detail += f", and {self._no_service_has(authority)}"
            raise NotRouted(404, "unknown_service", detail, reserved)
        rest = target[1 + len(name) :]
        return service, rest if rest[:1] == b"/" else b"/" + rest, PATH

    def _find_by_form(self, method: str, target: bytes, host: bytes | None) -> tuple[LiveService, bytes, RoutedBy]:
        if target == b"*":
            if method != "OPTIONS":  # RFC 9112, section 3.2.4
                raise NotRouted(400, "bad_request", "the target * is allowed for OPTIONS only")
            service = self._of_authority(_canonical(host or b""))
            if service is None:
                raise NotRouted(404, "unknown_service", "the target * has no path, and Host names no service")
            return service, target, HOST
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
        service = self._of_authority(canonical)
        if service is not None:
            return service, rest, ABSOLUTE
        if self._is_own(canonical) and rest != b"*":
            return self._find_by_path(rest)
        detail = f"{self._no_service_has(canonical)}; the sidecar is not an open proxy"
        raise NotRouted(404, "unknown_service", detail)

    def _no_service_has(self, authority: bytes) -> str:
        """What an operator can do about an authority that names no service. Cached: to find a near name takes time."""
        hint = self._hints.get(authority)
        if hint is None:
            if len(self._hints) >= SEEN_MAX:
                self._hints.clear()
            hint = self._hints[authority[:SEEN_LENGTH_MAX]] = self._hint(authority)
        return hint

    def _hint(self, authority: bytes) -> str:
        if _PLAIN.fullmatch(authority) is None:
            return "no service has the authority"
        written = _text(authority[:SEEN_LENGTH_MAX])
        host = _host_of(authority[:SEEN_LENGTH_MAX])
        words = f"no service has the authority {written}"
        namesake = next((one for known, one in self._by_authority.items() if _host_of(known) == host), None)
        if namesake is not None:
            name = namesake.name
            return f"{words}: {name} has that name with another port; add {written} to services.{name}.hosts"
        near = near_name(_text(host), [_text(_host_of(known)) for known in islice(self._by_authority, NEAR_MOST)])
        if near is not None:
            name = next(one.name for known, one in self._by_authority.items() if _host_of(known) == near.encode())
            return f"{words}: {near} is near, it is {name}; else add {written} to services.{name}.hosts"
        return f"{words}: add {written} to the hosts of a service"

    def _is_own(self, authority: bytes) -> bool:
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None or (parts[2] or b"80") not in self._own_ports:
            return False
        host = parts[1].strip(b"[]").decode("ascii", "replace")
        return host in self._own_hosts or is_this_machine(host)


def _as_bytes(ports: Iterable[int]) -> set[bytes]:
    return {str(port).encode() for port in ports}


def _canonical(authority: bytes) -> bytes:
    """An authority in lower case without trailing dot or empty port. Text that is not host[:port] only becomes lower
    case.
    """
    authority = authority.lower()
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return authority
    return parts[1] + b":" + parts[2] if parts[2] else parts[1]


def _host_of(authority: bytes) -> bytes:
    """A canonical authority without its port."""
    if authority.endswith(b"]"):
        return authority
    return authority.rpartition(b":")[0] or authority


def _text(authority: bytes) -> str:
    return authority.decode("ascii", "replace")


_HTTP1: Final = (
    "{0} is called by HTTP/1.1, and gRPC needs HTTP/2: write h2c:// or grpc:// in the url of services.{0}, or"
    " protocol: h2 beside https://"
)


def _unknown(segment: bytes) -> str:
    if not segment:
        return "the path names no service; call /<service>/... or set Host"
    return "no service of that name is configured"
