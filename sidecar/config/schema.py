"""The configuration as the rest of the program sees it: effective, merged, frozen.

Owns the shape of everything that is not a policy (`sidecar.policy.settings` has those). Reading and checking a file is
`sidecar.config.load`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from sidecar.policy.settings import (
    Count,
    DnsSettings,
    Duration,
    FilePath,
    Headers,
    KubernetesSettings,
    Methods,
    Policy,
    PositiveCount,
    ServerUrl,
    ServiceName,
)

Delay = Annotated[float, Meta(ge=0, extra={"kind": "duration"})]
"""Seconds; written `0s`, `250ms`, `5s`, `2m`."""

HostName = Annotated[str, Meta(extra={"kind": "host_name"})]
"""A DNS name or an IPv4 address, lower case, no trailing dot, no port."""

PathPrefix = Annotated[str, Meta(extra={"kind": "path_prefix"})]
"""A path as it stands in a request line: begins with `/`, percent-encoded, no query."""


class Address(Struct, frozen=True):
    """Where a listener binds. `host` has no brackets; written `127.0.0.1:15001`, `[::1]:15001`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Listen(Struct, frozen=True, kw_only=True):
    """`listen`."""

    proxy: tuple[Address, ...] = (Address("127.0.0.1", 15001), Address("::1", 15001))
    """Where the app sends its calls: one address or a list. `[::1]` is left out where there is no IPv6."""
    admin: Address = Address("127.0.0.1", 15000)
    """Where operators and the commands look, and steer."""
    probe: Address = Address("::", 15021)
    """Where the kubelet and Prometheus read health and metrics."""


class Admin(Struct, frozen=True, kw_only=True):
    """`admin`: who may use the admin listener."""

    token_file: FilePath | None = None
    """Holds a bearer token, without which only probes, metrics and the empty dashboard are served."""
    hosts: tuple[HostName, ...] = ()
    """Names under which the listener is called besides loopback's and its own address: an ingress's, for example."""


class Log(Struct, frozen=True, kw_only=True):
    """`log`."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level of the sidecar's own lines."""
    access: Literal["off", "errors", "all"] = "errors"
    """Which requests get a line. `errors`: those that did not go well, with a reason other than `ok`."""
    query: bool = False
    """The access log has each target's query too. Secrets stand there, so it is left out by default."""


class Drain(Struct, frozen=True, kw_only=True):
    """`drain`: how long new requests are still served after SIGTERM, and how long those in flight may take then."""

    delay: Delay = 1.0
    """How long new requests are still served after SIGTERM."""
    timeout: Duration = 20.0
    """How long requests in flight may take after that."""


class Tracing(Struct, frozen=True, kw_only=True):
    """`tracing`: spans for an OpenTelemetry collector, over OTLP/HTTP."""

    otlp: ServerUrl
    """Without `/v1/traces`, which is added."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """The part of requests that are traced, of those whose caller has not decided."""
    headers: Headers = {}
    """Sent with each batch of spans."""
    service_name: ServiceName = "sidecar"
    """`service.name` of the spans' resource."""


class Url(Struct, frozen=True):
    """An upstream's address: scheme `http` or `https`, host (lower case, no brackets), port (filled in)."""

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
    """One entry of `endpoints` (or the `url`): every address behind its name becomes an endpoint of that weight."""

    url: Url
    """http or https, host and port, no path."""
    weight: PositiveCount = 1
    """An endpoint of weight 2 gets twice as many requests as one of weight 1."""
    priority: Count = 0
    """0 is first; those of the next get requests only while too few of these are available."""


class CheckUrl(Struct, frozen=True):
    """What a check asks: scheme `redis`, `rediss` (TLS), `tcp`, `http` or `https`; host without brackets."""

    scheme: str
    host: str
    port: int
    target: str = "/"
    """http and https: path and query, percent-encoded."""
    database: int = 0
    username: str = ""
    password: str = ""
    """redis and rediss; empty: none is sent."""

    def __repr__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    __str__ = __repr__


class HealthCheck(Struct, frozen=True, kw_only=True):
    """An entry of `checks`: what `GET /health` asks beside the services."""

    url: CheckUrl
    """`redis://` or `rediss://` (TLS): a PING. `tcp://`: a connection. `http://` or `https://`: a GET."""
    required: bool = False
    """`GET /health` is unhealthy while this check fails."""
    timeout: Duration = 1.0
    """For the whole check."""


LONGEST_REPORT_S: Final = 5.0
"""`GET /health` answers after this at the latest, with a word for what did not: load balancers' checks give up then."""


class Match(Struct, frozen=True, kw_only=True):
    """`match` of a route: `path` is a prefix of whole segments of the path that goes upstream, as raw bytes."""

    path: PathPrefix = "/"
    """The first segments of the path, as the service sees it."""
    methods: Methods = frozenset()
    """The methods that match; without it every method does."""


class Route(Struct, frozen=True, kw_only=True):
    """A route with its effective policy."""

    match: Match
    policy: Policy
    own_breaker: bool = False
    """The route has a `breaker` of its own in the file, so its calls are counted apart from the service's."""


class Service(Struct, frozen=True, kw_only=True):
    """A service with its effective policy; routes in the order of the file, the first that matches wins.

    Its endpoints are listed, or found by discovery: one of the two is empty.
    """

    name: str
    endpoints: tuple[EndpointSpec, ...] = ()
    discovery: DnsSettings | KubernetesSettings | None = None
    """Where the endpoints come from: DNS records, or a Service of Kubernetes. They are called by plain http."""
    hosts: tuple[HostName, ...] = ()
    """Further names by which Host or an absolute-form target finds it; lower case, no trailing dot, no port."""
    policy: Policy
    routes: tuple[Route, ...] = ()
    required: bool = False
    """`GET /health` is unhealthy while this service is."""

    @property
    def addressed(self) -> list[tuple[str, int | None]]:
        """The names (no brackets, no trailing dot) and ports by which its endpoints are addressed, where known."""
        discovery = self.discovery
        if isinstance(discovery, DnsSettings):
            return [(discovery.name.rstrip("."), discovery.port)]
        if isinstance(discovery, KubernetesSettings):
            port = discovery.port if isinstance(discovery.port, int) else None
            return [(f"{discovery.service}.{discovery.namespace}.svc", port)] if discovery.namespace else []
        return [(spec.url.host, spec.url.port) for spec in self.endpoints]


class PathTemplate(Struct, frozen=True):
    """A path and query with values of a request's query put in: `literals[0]`, the value of `parameters[0]`, and so on.

    Written `/venues/{query.id}?lang={query.lang}`. `literals` has one more than `parameters`; they are percent-encoded.
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
    """The aggregate fails where this does."""
    timeout: Duration | None = None
    """For the whole call, its body included. `off`: as long as the aggregate has."""


class Aggregate(Struct, frozen=True, kw_only=True):
    """An entry of `aggregates`: what `GET /_aggregate/<name>` asks, side by side."""

    timeout: Duration = 2.0
    """For the whole, from the request's head until the answer's begins."""
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
