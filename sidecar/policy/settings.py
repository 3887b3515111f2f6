"""The options of every policy, as frozen structs; the field defaults here are the defaults of the YAML file.

Owns names, types and defaults. It does not parse (`sidecar.config`) and does not decide (the modules beside it).
Durations are seconds (float), sizes are bytes (int); the aliases below tell the configuration loader how a value is
written in the file. A group, a duration or a percentage that may be None is off then, and `off` is how the file says
so. A struct with a `tag` is one of several shapes of a value, and written below the key of that name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Duration = Annotated[float, Meta(extra={"kind": "duration"})]
"""Seconds; written `250ms`, `5s`, `2m`, `1h`."""

Size = Annotated[int, Meta(extra={"kind": "size"})]
"""Bytes; written `512`, `64KiB`, `1MiB`."""

Count = Annotated[int, Meta(ge=0)]
PositiveCount = Annotated[int, Meta(ge=1)]
Percentage = Annotated[float, Meta(gt=0, le=100, extra={"kind": "percentage"})]
"""Written `50` or `50%`."""

PercentageOrZero = Annotated[float, Meta(ge=0, le=100, extra={"kind": "percentage"})]
"""As `Percentage`, but `0%` is a value too."""

Ratio = Annotated[float, Meta(ge=0)]

StatusSet = Annotated[frozenset[int], Meta(extra={"kind": "statuses"})]
"""Statuses 100-599; written as a list of numbers and ranges: `[500-599, 429]`."""

FinalStatus = Annotated[int, Meta(ge=200, le=599)]

RETRY_REASONS = frozenset({"connect_failure", "connect_timeout", "reset", "attempt_timeout", "bad_response"})
"""The reasons of an attempt's failure that `retry.on` may name, beside statuses."""

RetryConditions = Annotated[frozenset[str | int], Meta(extra={"kind": "retry_conditions"})]
"""What `retry.on` holds: names of RETRY_REASONS, and statuses (ranges are expanded)."""

Methods = Annotated[frozenset[str], Meta(extra={"kind": "methods"})]
"""HTTP methods, upper case."""

Token = Annotated[str, Meta(extra={"kind": "token"})]
"""The name of a header or a cookie (RFC 9110, section 5.6.2), as it was written."""

LowerToken = Annotated[str, Meta(extra={"kind": "lower_token"})]
"""As `Token`, in lower case."""

QueryName = Annotated[str, Meta(extra={"kind": "query_name"})]
"""The name of a parameter as it stands in a query, percent-encoded."""

Target = Annotated[str, Meta(extra={"kind": "target"})]
"""A path, with a query or without: begins with `/`, percent-encoded."""

Headers = Annotated[dict[str, str], Meta(extra={"kind": "headers"})]
"""Name to value, names as they were written; no two of them are the same header."""

ServiceName = Annotated[str, Meta(extra={"kind": "service_name"})]
"""The name of a service of the file."""

PortNumber = Annotated[int, Meta(ge=1, le=65535)]

DnsName = Annotated[str, Meta(extra={"kind": "dns_name"})]
"""Lower case; the trailing dot of an absolute name is kept."""

DnsLabel = Annotated[str, Meta(extra={"kind": "dns_label"})]
"""What Kubernetes names Services and namespaces with (RFC 1123): lower case, digits, inner `-`, up to 63."""

ServicePort = Annotated[int | str, Meta(extra={"kind": "service_port"})]
"""A port's number, or its name (a DnsLabel)."""

ServerUrl = Annotated[str, Meta(extra={"kind": "server_url"})]
"""http or https, host and port, and perhaps a path; no trailing `/`."""

FilePath = Annotated[str, Meta(extra={"kind": "file_path"})]
"""Where it may be None, `off` says so: a file of that name is `./off`."""

Body = Annotated[bytes, Meta(extra={"kind": "body"})]
"""Written as text, in UTF-8."""

FALLBACK_METHODS = frozenset({"GET", "HEAD"})
"""What a fallback answers unless it says otherwise: a stale one nothing else."""

BalancerWord = Literal["round_robin", "least_request", "peak_ewma", "random"]


class Timeouts(Struct, frozen=True, kw_only=True):
    """`timeout`: connect covers name, TCP and TLS; attempt and request end at the final response head."""

    connect: Duration = 1.0
    """For the name, TCP and TLS of a new connection."""
    attempt: Duration = 5.0
    """For one try, until the head of its answer; it does not run while the app is still sending."""
    request: Duration = 15.0
    """For all tries and the waits between them, until the answer's head."""
    idle: Duration = 60.0
    """For a body or a tunnel in which nothing moves."""
    pool_idle: Duration = 4.0
    """For an idle connection to an endpoint. Node closes its side after 5 s, so stay below that."""
    client_idle: Duration = 60.0
    """For an idle connection of the app."""


class Backoff(Struct, frozen=True, kw_only=True):
    """`retry.backoff`: full jitter, rand(0, min(max, base * 2^n))."""

    base: Duration = 0.025
    """The longest first wait; it doubles with each retry."""
    max: Duration = 0.25
    """The longest wait at all."""


class BudgetSettings(Struct, frozen=True, kw_only=True):
    """`retry.budget`: retries <= ratio of requests + min_per_second, for a whole service."""

    ratio: Ratio = 0.2
    """Retries for each request of the last 10 s: 0.2 adds a fifth to the load at most."""
    min_per_second: Ratio = 10.0
    """Retries a second that are allowed whatever the load, for services with little of it."""


class RetrySettings(Struct, frozen=True, kw_only=True):
    """`retry`. A call with an x-envoy-attempt-count above 1 is not retried."""

    max_retries: Count = 2
    """Beyond the first try."""
    on: RetryConditions = frozenset({"connect_failure", "connect_timeout", "reset", "attempt_timeout", 502, 503, 504})
    methods: Methods = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
    """Those that may be sent again. One that is not idempotent is repeated only if it is named here, or if the request
    has an Idempotency-Key."""
    backoff: Backoff = Backoff()
    budget: BudgetSettings = BudgetSettings()
    max_body: Size = 64 * 1024
    """A request with a larger body streams, and is not tried again once a part of it was sent."""


class BreakerSettings(Struct, frozen=True, kw_only=True):
    """`breaker`: Opossum's options in snake case; closed flows, open refuses."""

    mode: Literal["enforce", "observe", "off"] = "enforce"
    """`observe` decides and reports, and refuses nothing."""
    error_threshold_percentage: Percentage = 50.0
    """Opens at this share of failed calls."""
    volume_threshold: PositiveCount = 10
    """Opens only if so many calls ended within the window."""
    rolling_count_timeout: Duration = 10.0
    """The window."""
    rolling_count_buckets: PositiveCount = 10
    """The parts in which the window moves on."""
    reset_timeout: Duration = 30.0
    """How long it stays open before a probe; doubled with each probe that fails."""
    max_reset_timeout: Duration = 300.0
    """The longest that the doubling makes of it."""
    half_open_requests: PositiveCount = 1
    """Probes at a time, and how many in a row must succeed to close it."""
    failure_status: StatusSet = frozenset(range(500, 600))
    """Answers that count as failures."""


class Limits(Struct, frozen=True, kw_only=True):
    """`limits`, for a whole service: requests in flight (tunnels count), and connections to all of its endpoints."""

    max_concurrent: PositiveCount = 1024
    """Requests in flight, tunnels included; more are refused at once as `overloaded`."""
    max_connections: PositiveCount = 1024
    """Connections to all endpoints together; a request waits for one at most `timeout.connect`."""


class HashSettings(Struct, frozen=True, kw_only=True, tag="hash"):
    """`balancer: {hash: ...}`: exactly one of these says what a request's key is."""

    header: Token | None = None
    cookie: Token | None = None
    query: QueryName | None = None
    source: bool = False
    """The app's address; with several apps in a pod that is a weak key."""


class HealthSettings(Struct, frozen=True, kw_only=True):
    """`health`: active checks of each endpoint, on connections of their own. Exactly one of `path` and `tcp`."""

    path: Target | None = None
    tcp: bool = False
    interval: Duration = 5.0
    idle_interval: Duration = 60.0
    """In place of `interval` while the service gets no requests (Envoy: no_traffic_interval)."""
    timeout: Duration = 1.0
    healthy_threshold: PositiveCount = 1
    unhealthy_threshold: PositiveCount = 2
    expect: StatusSet = frozenset(range(200, 400))
    headers: Headers = {}
    """Host among them replaces the endpoint's own."""


class OutlierSettings(Struct, frozen=True, kw_only=True):
    """`outlier`: endpoints that fail requests are ejected for a while (Envoy: outlier_detection)."""

    consecutive_failures: PositiveCount = 5
    error_rate: Percentage | None = None
    """Percent of an interval's attempts, of at least `minimum_requests`; off unless set."""
    minimum_requests: PositiveCount = 20
    interval: Duration = 10.0
    base_ejection_time: Duration = 30.0
    max_ejection_time: Duration = 300.0
    max_ejection_percent: Percentage = 50.0
    panic_threshold: PercentageOrZero = 50.0
    """With fewer percent of the endpoints available than this, health and ejection are ignored."""


class FallbackService(Struct, frozen=True, kw_only=True):
    """`fallback: [{service: ...}]`: another service, or another version, is asked instead."""

    service: ServiceName
    path: Target | None = None
    """In place of the whole path and query that would have gone upstream."""
    methods: Methods = FALLBACK_METHODS


class FallbackStale(Struct, frozen=True, kw_only=True):
    """`fallback: [{stale: ...}]`: the last good response to a GET, for GET and HEAD."""

    stale: Duration
    """At most so long ago it was kept."""
    key_headers: tuple[LowerToken, ...] = ()
    """Request headers that make a response another one, lower case: with `authorization` each caller has its own."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """`key_headers` as heads hold them."""
        return tuple([name.encode() for name in self.key_headers])


class FallbackStatic(Struct, frozen=True, kw_only=True):
    """`fallback: [{status: ...}]`: an answer out of the file, or (`file`, read with it) out of another one."""

    status: FinalStatus
    headers: Headers = {}
    body: Body = b""
    methods: Methods = FALLBACK_METHODS


FallbackStep = FallbackService | FallbackStale | FallbackStatic

FallbackSteps = Annotated[tuple[FallbackStep, ...], Meta(extra={"kind": "fallback"})]
"""In the order in which they are tried."""


class Policy(Struct, frozen=True, kw_only=True):
    """What `defaults`, a service and a route may set; the effective one is merged key by key."""

    timeout: Timeouts = Timeouts()
    retry: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
    balancer: BalancerWord | HashSettings = "round_robin"
    slow_start: Duration | None = None
    """An endpoint that joins, or is well again, gets its full share of requests only after this long."""
    health: HealthSettings | None = None
    outlier: OutlierSettings | None = None
    fallback: FallbackSteps = ()
    """What answers in place of a failure (`sidecar.config.fallbacks` reads it)."""
    limits: Limits = Limits()
    preserve_host: bool = False
    """Send the app's own Host upstream instead of the endpoint's authority."""
    half_close: bool = False
    """The app may close its sending side and still wait for the answer (else that counts as a disconnect)."""


class DnsSettings(Struct, frozen=True, kw_only=True, tag="dns"):
    """`discovery: {dns: ...}`: A and AAAA of a name, with a port, or its SRV records. Exactly one of both."""

    name: DnsName
    port: PortNumber | None = None
    srv: bool = False
    refresh: Duration = 30.0
    """At the latest after this; sooner where the records' TTL is shorter (never under 1 s)."""


class KubernetesSettings(Struct, frozen=True, kw_only=True, tag="kubernetes"):
    """`discovery: {kubernetes: ...}`: the EndpointSlices of a Service. `port` is a number or a port's name."""

    service: DnsLabel
    namespace: DnsLabel | None = None
    """The pod's own by default."""
    port: ServicePort | None = None
    """The only port of the Service by default."""
    server: ServerUrl | None = None
    """The pod's own API server by default."""
    token_file: FilePath | None = None
    ca_file: FilePath | None = None
