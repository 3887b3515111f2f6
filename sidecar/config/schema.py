"""The configuration as frozen structs, with the effective (merged) policies: what the rest of the program uses.

Owns the structs that are not a policy; those are in `sidecar.policy.settings`. `sidecar.config.load` reads and checks a
file. The docstrings of fields are the descriptions in the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from sidecar.policy.settings import (
    Count,
    DnsSettings,
    Duration,
    FilePath,
    GrpcName,
    HeaderFieldCount,
    Headers,
    HeadSize,
    KubernetesSettings,
    Methods,
    Policy,
    PositiveCount,
    ServerUrl,
    ServiceName,
    StatusSet,
    TlsSettings,
)

Delay = Annotated[float, Meta(ge=0, extra={"kind": "duration"})]
"""A duration or 0, such as `0s`, `250ms`, `5s` or `2m`."""

HostName = Annotated[str, Meta(extra={"kind": "host_name"})]
"""A DNS name or an IPv4 address, lower case, no trailing dot, no port."""

PathPrefix = Annotated[str, Meta(extra={"kind": "path_prefix"})]
"""A path as in a request line: begins with `/`, percent-encoded, without a query."""


class Address(Struct, frozen=True):
    """Where a listener binds. `host` has no brackets; written `127.0.0.1:15001`, `[::1]:15001`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Listen(Struct, frozen=True, kw_only=True):
    """`listen`."""

    proxy: tuple[Address, ...] = (Address("127.0.0.1", 15001), Address("::1", 15001))
    """Where the app sends its calls: one address or a list. `[::1]` is skipped if there is no IPv6."""
    admin: Address = Address("127.0.0.1", 15000)
    """The admin API and the dashboard. They can change things, so keep this address on loopback."""
    probe: Address = Address("::", 15021)
    """Health and metrics, read only: for the kubelet and Prometheus."""
    max_head: HeadSize = 32 * 1024
    """The head of a request: request line, header fields and empty line. A larger one is refused with 431."""
    max_header_fields: HeaderFieldCount = 128
    """Header fields of a request. More are refused with 431."""


class Admin(Struct, frozen=True, kw_only=True):
    """`admin`: who may use the admin listener."""

    token_file: FilePath | None = None
    """A file with a bearer token. Without the token only probes, metrics and the empty dashboard are served."""
    hosts: tuple[HostName, ...] = ()
    """Further host names of the listener, such as that of an ingress. Loopback and its own address always work."""


class Log(Struct, frozen=True, kw_only=True):
    """`log`."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    access: Literal["off", "errors", "all"] = "errors"
    """Which requests are logged. `errors`: those with a reason other than `ok`."""
    query: bool = False
    """Log the query of each request too. It is off by default, because a query may hold secrets."""


class Drain(Struct, frozen=True, kw_only=True):
    """`drain`: the orderly end after SIGTERM."""

    delay: Delay = 1.0
    """How long new requests are still served after SIGTERM."""
    timeout: Duration = 20.0
    """How long requests in flight may take after that."""


class Tracing(Struct, frozen=True, kw_only=True):
    """`tracing`: spans for an OpenTelemetry collector, over OTLP/HTTP."""

    otlp: ServerUrl
    """The URL of the collector, without `/v1/traces`, which is added."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """The share of requests that are traced: 0.01 is 1%. It counts only where the caller has not decided."""
    headers: Headers = {}
    """Headers to send with each batch of spans."""
    service_name: ServiceName = "sidecar"
    """The `service.name` of the spans."""


class Url(Struct, frozen=True):
    """Where an endpoint is: scheme `http`, `https`, `h2c` or `grpc`, host (lower case, no brackets), port (filled in).

    `h2c` and `grpc` mean HTTP/2 without TLS; with `grpc` the service is known to be one of gRPC."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """What goes into Host: the default port of the scheme is left out (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class EndpointSpec(Struct, frozen=True, kw_only=True):
    """One entry of `endpoints` (or the `url`): every address behind its name becomes an endpoint."""

    url: Url
    """http, https, h2c or grpc, host and port, no path."""
    weight: PositiveCount = 1
    """An endpoint of weight 2 gets twice as many requests as one of weight 1."""
    priority: Count = 0
    """0 is first. Endpoints of the next priority get requests only while too few of these are healthy."""


class CheckUrl(Struct, frozen=True):
    """The URL of a check: scheme `redis`, `rediss` (TLS), `tcp`, `http` or `https`; host without brackets."""

    scheme: str
    host: str
    port: int
    target: str = "/"
    """For http and https: path and query, percent-encoded."""
    database: int = 0
    username: str = ""
    password: str = ""
    """For redis and rediss. Empty: none is sent."""

    def __repr__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    __str__ = __repr__


class HealthCheck(Struct, frozen=True, kw_only=True):
    """An entry of `checks`: something that `GET /health` checks in addition to the services."""

    url: CheckUrl
    """`redis://` or `rediss://` (TLS): a PING. `tcp://`: a connection. `http://` or `https://`: a GET."""
    required: bool = False
    """While it fails, `GET /health` is unhealthy if this is true, and degraded if it is false."""
    timeout: Duration = 1.0
    """For the whole check."""
    tls: TlsSettings = TlsSettings()


LONGEST_REPORT_S: Final = 5.0
"""`GET /health` answers within this time, and names what did not. Checks of load balancers often give up then."""


class Match(Struct, frozen=True, kw_only=True):
    """`match` of a route: which requests get its policy."""

    path: PathPrefix = "/"
    """The first segments of the path, as the service sees it. They are compared byte for byte."""
    methods: Methods = frozenset()
    """The methods that match; without it every method does."""


class Route(Struct, frozen=True, kw_only=True):
    """A route with its effective policy."""

    match: Match
    policy: Policy
    own_breaker: bool = False
    """The file has a `breaker` for this route, so its calls are counted apart from those of the service."""
    own_timeouts: frozenset[str] = frozenset()
    """The keys of `timeout` that the file sets for this route or its service. Only these apply to calls of gRPC."""


class Service(Struct, frozen=True, kw_only=True):
    """A service with its effective policy. Routes are in the order of the file; the first that matches wins.

    Its endpoints are listed or found by discovery. One of the two is empty.
    """

    name: str
    endpoints: tuple[EndpointSpec, ...] = ()
    discovery: DnsSettings | KubernetesSettings | None = None
    """Where the endpoints come from: DNS records, or a Service of Kubernetes. They are called without TLS, by HTTP/1.1
    unless `protocol` says h2."""
    protocol: Literal["http1", "h2"] = "http1"
    """The version of HTTP by which the endpoints are called. It is h2 by itself with h2c:// and grpc://, and with https://
    or discovery where the service has `grpc`."""
    hosts: tuple[HostName, ...] = ()
    """Further names by which a Host header or an absolute-form target finds the service. `name` means the endpoints'
    ports or no port, `name:3002` this port, `name:*` every port."""
    grpc: tuple[GrpcName, ...] = ()
    """What this service has in gRPC: `shop.v1.Venue`, or `shop.v1.*` for all of a package. Calls of these that name no
    service otherwise go to it; the longest name that fits wins."""
    policy: Policy
    own_timeouts: frozenset[str] = frozenset()
    """The keys of `timeout` that the file sets for this service. Only these apply to calls of gRPC."""
    routes: tuple[Route, ...] = ()
    required: bool = False
    """While it is unhealthy, `GET /health` is unhealthy if this is true, and degraded if it is false."""

    @property
    def h2(self) -> bool:
        """Whether its endpoints are called by HTTP/2."""
        return self.protocol == "h2"

    @property
    def is_grpc(self) -> bool:
        """Whether the file says that it is a service of gRPC."""
        return bool(self.grpc) or any(spec.url.scheme == "grpc" for spec in self.endpoints)

    @property
    def addressed(self) -> list[tuple[str, int | None]]:
        """The names (no brackets, no trailing dot) and ports by which its endpoints are addressed, if known."""
        discovery = self.discovery
        if isinstance(discovery, DnsSettings):
            return [(discovery.name.rstrip("."), discovery.port)]
        if isinstance(discovery, KubernetesSettings):
            port = discovery.port if isinstance(discovery.port, int) else None
            return [(f"{discovery.service}.{discovery.namespace}.svc", port)] if discovery.namespace else []
        return [(spec.url.host, spec.url.port) for spec in self.endpoints]


class PathTemplate(Struct, frozen=True):
    """A path and query with values from a request's query: `literals[0]`, the value of `parameters[0]`, and so on.

    Written `/venues/{query.id}?lang={query.lang}`. `literals` (percent-encoded) has one entry more than `parameters`.
    """

    literals: tuple[str, ...]
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        first, *others = self.literals
        return first + "".join([f"{{query.{one}}}{rest}" for one, rest in zip(self.parameters, others, strict=True)])


class AggregatePart(Struct, frozen=True, kw_only=True):
    """An entry of an aggregate's `parts`: one GET, whose body is put under the part's name."""

    service: ServiceName
    """The service that is asked."""
    path: PathTemplate
    """Path and query to ask for. `{query.NAME}` is that parameter of the app's request, percent-encoded."""
    required: bool = False
    """The whole aggregate fails if this part fails."""
    timeout: Duration | None = None
    """For the whole call, its body included. `off`: as long as the aggregate has."""
    pass_status: StatusSet = frozenset()
    """If the service of a required part answers with one of these (400 to 599), that answer is the aggregate's."""


class Aggregate(Struct, frozen=True, kw_only=True):
    """An entry of `aggregates`: the calls that `GET /_aggregate/<name>` makes at the same time."""

    timeout: Duration = 2.0
    """For the whole aggregate, from the head of the request until the answer begins."""
    parts: dict[str, AggregatePart]


class Config(Struct, frozen=True, kw_only=True):
    """A whole file."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    log: Log = Log()
    drain: Drain = Drain()
    tracing: Tracing | None = None
    defaults: Policy = Policy()
    services: dict[str, Service]
    checks: dict[str, HealthCheck] = {}
    aggregates: dict[str, Aggregate] = {}
