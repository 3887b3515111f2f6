"""Parse URLs, addresses of listeners, host and DNS names, path prefixes and service names.

A parser takes the text of a YAML scalar and returns its normal form (lower case, no trailing dot, the port filled in),
or raises BadValueError. Nothing is looked up in DNS. `urllib` is not used: it silently repairs what should be refused.
"""

from __future__ import annotations

import re
import socket

from sidecar.config.errors import BadValueError
from sidecar.config.schema import Address, Url

_DEFAULT_PORTS = {"http": 80, "https": 443, "h2c": 80, "grpc": 80}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_PORT = re.compile(r"[0-9]{1,5}")
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PATH = re.compile(r"/[!-~]*")
_GRPC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_GRPC_NAME_MOST = 253

_URL_EXPECTED = "expected a URL such as http://venue-service:3002"
_SERVER_EXPECTED = "expected a server's URL such as http://collector:4318 or https://10.0.0.1:6443"
_ADDRESS_EXPECTED = "expected an address and a port, such as 127.0.0.1:15001 or [::1]:15001"


def parse_url(text: str) -> Url:
    """Scheme, host and port. One trailing `/` is allowed. Each other part of a URL is refused with its own message."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise BadValueError(f"{_URL_EXPECTED}, beginning with http://, https://, h2c:// or grpc://")
    scheme = scheme.lower()
    if scheme in ("grpcs", "h2"):
        raise BadValueError("write https:// and, beside it, protocol: h2")
    if scheme not in _DEFAULT_PORTS:
        raise BadValueError("the scheme of this URL must be http, https, h2c (HTTP/2 without TLS) or grpc (the same)")
    if "#" in rest:
        raise BadValueError(f"this URL cannot have a fragment (#...): {_URL_EXPECTED}")
    if "?" in rest:
        raise BadValueError(f"this URL cannot have a query (?...): {_URL_EXPECTED}")
    authority, _, path = rest.partition("/")
    if path:
        raise BadValueError(f"this URL cannot have a path, because the app's own path is sent: {_URL_EXPECTED}")
    if "@" in authority:
        raise BadValueError(f"this URL cannot have a user name or password: {_URL_EXPECTED}")
    host, port = host_and_port(authority, _URL_EXPECTED)
    if port is None:
        return Url(scheme, host, _DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise BadValueError("a port must be a number from 1 to 65535")
    return Url(scheme, host, port)


def parse_address(text: str) -> Address:
    """The address of a listener. Port 0 lets the system choose a port."""
    if "://" in text:
        raise BadValueError(f"{_ADDRESS_EXPECTED}, without a scheme")
    host, port = host_and_port(text, _ADDRESS_EXPECTED)
    if port is None:
        raise BadValueError(_ADDRESS_EXPECTED)
    if port > 65535:
        raise BadValueError("a port must be a number from 0 to 65535")
    return Address(host, port)


def parse_host_name(text: str) -> str:
    """A host name by which requests find a service, alone or with a port or `*` for every port.

    Names of this machine are refused: they mean routing by path.
    """
    name, colon, port = text.partition(":")
    host = None if "[" in text else _host(name)
    is_port = port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535
    if host is None or (colon and port != "*" and not is_port):
        raise BadValueError("expected a host name such as venue-service, venue-service:3002 or venue-service:*")
    if _is_this_machine(host):
        raise BadValueError(
            "localhost and loopback addresses cannot name a service: requests to them are routed by path"
        )
    if not colon:
        return host
    return f"{host}:*" if port == "*" else f"{host}:{int(port)}"


def parse_dns_name(text: str) -> str:
    """The name of a host or of SRV records, to look up in DNS. A trailing dot is kept: it turns search domains off."""
    host = _host(text)
    if host is None:
        raise BadValueError("expected a DNS name, such as venue-headless or _http._tcp.venue.prod.svc.cluster.local")
    if _IPV4.fullmatch(host):
        raise BadValueError("an IP address cannot be looked up in DNS: write it in url or endpoints")
    return f"{host}." if text.endswith(".") else host


def parse_tls_name(text: str) -> str:
    """The name that a certificate must be for. An IPv6 address may have brackets, as in a URL."""
    host = _host(text) or _ipv6(text.removeprefix("[").removesuffix("]"))
    if host is None:
        raise BadValueError("expected a DNS name or an IP address without a port, such as venue.shop.svc or 10.0.0.7")
    return host


def parse_dns_label(text: str) -> str:
    """The name of a Kubernetes object. It is not put into lower case: no object has a name with upper case."""
    if not _DNS_LABEL.fullmatch(text):
        raise BadValueError(
            "expected a Kubernetes name: up to 63 lower-case letters, digits and '-', and no '-' at either end"
        )
    return text


def parse_service_port(text: str) -> int | str:
    """A port number, or the name of a port. Digits alone are a number."""
    if _PORT.fullmatch(text) and 1 <= int(text) <= 65535:
        return int(text)
    if not _DNS_LABEL.fullmatch(text) or text.isdigit():
        raise BadValueError("expected a port: a number from 1 to 65535, or the name that the Service gives it")
    return text


def parse_server_url(text: str) -> str:
    """The URL of an API server or a collector. Unlike that of an upstream it may have a path, such as a gateway's."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise BadValueError(f"{_SERVER_EXPECTED}, beginning with http:// or https://")
    authority, _, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise BadValueError(f"this URL cannot have a query (?...) or a fragment (#...): {_SERVER_EXPECTED}")
    if not _PATH.fullmatch(f"/{path}"):
        raise BadValueError("a path is sent as it is written here: percent-encode spaces and non-ASCII characters")
    url = parse_url(f"{scheme}://{authority}")
    return f"{url}/{path}".rstrip("/")


def parse_grpc_name(text: str) -> str:
    """The full name of a service in gRPC, or a package followed by `.*`. Names are case-sensitive."""
    name = text.removesuffix(".*")
    if not _GRPC_NAME.fullmatch(name) or len(text) > _GRPC_NAME_MOST:
        raise BadValueError("expected the full name of a service such as shop.v1.Venue, or a package: shop.v1.*")
    return text


def parse_grpc_service(text: str) -> str:
    """The name of a service as grpc.health.v1 knows it: any text that the server was told, or none for all of it."""
    if len(text) > _GRPC_NAME_MOST or not text.isprintable():
        raise BadValueError('expected the name of a service such as shop.v1.Venue, or "" for the whole server')
    return text


def parse_path_prefix(text: str) -> str:
    """A prefix of whole path segments. A trailing `/` would have no meaning, so it is refused."""
    if not text.startswith("/"):
        raise BadValueError("a path must begin with /")
    if "?" in text or "#" in text:
        raise BadValueError("a path cannot have a query (?...) or a fragment (#...)")
    if not _PATH.fullmatch(text):
        raise BadValueError("a path is compared byte for byte: percent-encode spaces and non-ASCII characters")
    if text != "/" and text.endswith("/"):
        raise BadValueError("a path matches whole segments: leave out the trailing /")
    return text


def service_name_problem(name: str) -> str | None:
    """Why `name` cannot be the first segment of a path, or None if it can."""
    if name.startswith("_"):
        return "names that begin with _ are reserved for the sidecar"
    if not _SERVICE_NAME.fullmatch(name):
        return "a service name begins with a letter or digit and has up to 63 letters, digits, '.', '_' and '-'"
    return None


def parse_service_name(text: str) -> str:
    """The name of a service, in another part of the file that refers to it."""
    if problem := service_name_problem(text):
        raise BadValueError(f"expected the name of a service: {problem}")
    return text


def _is_this_machine(host: str) -> bool:
    """Whether it is `localhost` or a name below it (RFC 6761), in 127.0.0.0/8, or 0.0.0.0, which connects there too."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return bool(_IPV4.fullmatch(host)) and (host.startswith("127.") or host == "0.0.0.0")


def host_and_port(authority: str, expected: str) -> tuple[str, int | None]:
    """The host (no brackets), and the port if there is one, of any size. `expected` is the message for a bad host."""
    if authority.startswith("["):
        inside, closed, tail = authority[1:].partition("]")
        host = _ipv6(inside) if closed else None
        if tail and not tail.startswith(":"):
            host = None
        port = tail[1:] if tail else None
    else:
        name, separator, digits = authority.partition(":")
        if ":" in digits:
            raise BadValueError("an IPv6 address must be in brackets, such as [::1]:3002")
        host, port = _host(name), digits if separator else None
    if host is None:
        raise BadValueError(expected)
    if port is not None and not _PORT.fullmatch(port):
        raise BadValueError(f"a port must be a number: {expected}")
    return host, None if port is None else int(port)


def _host(text: str) -> str | None:
    """The normal form of a DNS name or an IPv4 address; None for anything else."""
    # ASCII first: lower() would turn the Kelvin sign into a plain k.
    if not text.isascii():
        return None
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        return None
    # To a resolver, a last label of digits means an IPv4 address (127.1, 2130706433), so it must be a complete one.
    if labels[-1].isdigit() and not _IPV4.fullmatch(host):
        return None
    return host


def _ipv6(text: str) -> str | None:
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        return None
