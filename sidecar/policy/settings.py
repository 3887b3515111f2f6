"""Policy options as frozen structs; their defaults are the defaults of the YAML file.

Owns names, types and defaults. It does not parse (`sidecar.config` does) and does not decide (the modules beside it
do). Durations are seconds (float), sizes are bytes (int). The aliases below tell the configuration loader how a value
is written in the file. None turns a group, a duration or a percentage off; the file writes `off`. A struct with a `tag`
is one of several forms of a value; the file writes it below the key of that name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Duration = Annotated[float, Meta(extra={"kind": "duration"})]
"""A duration, such as `250ms`, `5s`, `2m` or `1h`."""

Size = Annotated[int, Meta(extra={"kind": "size"})]
"""A size, such as `512` (bytes), `64KiB` or `1MiB`."""

Count = Annotated[int, Meta(ge=0)]
PositiveCount = Annotated[int, Meta(ge=1)]
HeadSize = Annotated[int, Meta(ge=1024, le=256 * 1024, extra={"kind": "size"})]
"""The size of a message's head. More than the upper bound would be held for each connection."""

HeaderFieldCount = Annotated[int, Meta(ge=16, le=1000)]
CountLimit = Annotated[int, Meta(ge=1, extra={"kind": "count"})]
"""A PositiveCount that may be None: `off` in the file."""

Percentage = Annotated[float, Meta(gt=0, le=100, extra={"kind": "percentage"})]
"""A percentage: `50` or `50%`."""

PercentageOrZero = Annotated[float, Meta(ge=0, le=100, extra={"kind": "percentage"})]
"""A percentage, or 0: `0`, `50` or `50%`."""

Ratio = Annotated[float, Meta(ge=0)]

StatusSet = Annotated[frozenset[int], Meta(extra={"kind": "statuses"})]
"""A list of statuses and ranges of statuses: `[500-599, 429]`."""

FinalStatus = Annotated[int, Meta(ge=200, le=599)]

RETRY_REASONS = frozenset({"connect_failure", "connect_timeout", "reset", "attempt_timeout", "bad_response"})
"""The failure reasons that `retry.on` may name, in addition to statuses."""

RetryConditions = Annotated[frozenset[str | int], Meta(extra={"kind": "retry_conditions"})]
"""A list of reasons, statuses, ranges of statuses, and names of gRPC's statuses: `[reset, 502-504, UNAVAILABLE]`."""

GrpcStatusSet = Annotated[frozenset[str], Meta(extra={"kind": "grpc_statuses"})]
"""A list of names of gRPC's statuses: `[UNAVAILABLE, INTERNAL]`."""

GrpcName = Annotated[str, Meta(extra={"kind": "grpc_name"})]
"""The full name of a service in gRPC, `shop.v1.Venue`, or all services of a package and below it, `shop.v1.*`."""

GrpcServiceName = Annotated[str, Meta(extra={"kind": "grpc_service"})]
"""The full name of a service in gRPC, or `""`."""

Methods = Annotated[frozenset[str], Meta(extra={"kind": "methods"})]
"""HTTP methods, upper case."""

Token = Annotated[str, Meta(extra={"kind": "token"})]
"""The name of a header or a cookie (RFC 9110, section 5.6.2), in the case in which it was written."""

LowerToken = Annotated[str, Meta(extra={"kind": "lower_token"})]
"""The name of a header, in lower case."""

QueryName = Annotated[str, Meta(extra={"kind": "query_name"})]
"""The name of a query parameter, percent-encoded."""

Target = Annotated[str, Meta(extra={"kind": "target"})]
"""A path with an optional query: begins with `/`, percent-encoded."""

Headers = Annotated[dict[str, str], Meta(extra={"kind": "headers"})]
"""A mapping of header names to values. Names are sent in the case in which they are written."""

ServiceName = Annotated[str, Meta(extra={"kind": "service_name"})]
"""Up to 63 letters, digits, `.`, `_` and `-`. The first is a letter or a digit."""

PortNumber = Annotated[int, Meta(ge=1, le=65535)]

DnsName = Annotated[str, Meta(extra={"kind": "dns_name"})]
"""Lower case; the trailing dot of an absolute name is kept."""

DnsLabel = Annotated[str, Meta(extra={"kind": "dns_label"})]
"""A name in Kubernetes (RFC 1123): up to 63 lower-case letters, digits and `-`, and no `-` at either end."""

TlsName = Annotated[str, Meta(extra={"kind": "tls_name"})]
"""A DNS name or an IP address without a port, or `off`."""

ServicePort = Annotated[int | str, Meta(extra={"kind": "service_port"})]
"""A port number, or the name of a port."""

ServerUrl = Annotated[str, Meta(extra={"kind": "server_url"})]
"""A URL: http or https, host and port, and an optional path; no trailing `/`."""

FilePath = Annotated[str, Meta(extra={"kind": "file_path"})]
"""The path of a file, or `off` where it is optional. Write `./off` for a file with that name."""

Body = Annotated[bytes, Meta(extra={"kind": "body"})]
"""Written as text, in UTF-8."""

FALLBACK_METHODS = frozenset({"GET", "HEAD"})
"""The methods that a fallback answers by default. A stale fallback answers only these."""

BalancerWord = Literal["round_robin", "least_request", "peak_ewma", "random"]


class Timeouts(Struct, frozen=True, kw_only=True):
    """`timeout`: connect covers TCP and TLS; attempt and request end at the final response head."""

    connect: Duration = 1.0
    """To open a new connection: name lookup, TCP and TLS."""
    attempt: Duration = 5.0
    """For one attempt, until the response head. It does not run while the app is still sending."""
    request: Duration = 15.0
    """For all attempts and the waits between them, until the response head."""
    idle: Duration = 60.0
    """For a body or a tunnel in which no byte moves."""
    pool_idle: Duration = 4.0
    """How long an idle connection to an endpoint stays open. Node closes its side after 5 s, so stay below that."""
    client_idle: Duration = 60.0
    """How long an idle connection from the app stays open."""


class Backoff(Struct, frozen=True, kw_only=True):
    """`retry.backoff`: full jitter, rand(0, min(max, base * 2^n))."""

    base: Duration = 0.025
    """The longest wait before the first retry; it doubles with each retry."""
    max: Duration = 0.25
    """The longest wait before any retry."""


class BudgetSettings(Struct, frozen=True, kw_only=True):
    """`retry.budget`: retries of a whole service <= ratio * requests + min_per_second."""

    ratio: Ratio = 0.2
    """Retries per request of the last 10 s: 0.2 adds at most one fifth to the load."""
    min_per_second: Ratio = 10.0
    """Retries per second that are always allowed, for services with little traffic."""


class RetrySettings(Struct, frozen=True, kw_only=True):
    """`retry`. A call with an x-envoy-attempt-count above 1 is not retried."""

    max_retries: Count = 2
    """Attempts after the first one."""
    on: RetryConditions = frozenset(
        {"connect_failure", "connect_timeout", "reset", "attempt_timeout", 502, 503, 504, "UNAVAILABLE"}
    )
    """Failures that are retried: how an attempt failed, or the status that came back. The statuses of gRPC count only
    where calls are `idempotent`."""
    methods: Methods = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
    """Methods that may be sent again. A method that is not idempotent is retried only if it is named here, or if the
    request has an Idempotency-Key. For gRPC, whose calls are all POST, see `idempotent`.
    """
    backoff: Backoff = Backoff()
    budget: BudgetSettings = BudgetSettings()
    max_body: Size = 64 * 1024
    """A larger request body is streamed, and the request is not retried once a part of the body was sent."""


class BreakerSettings(Struct, frozen=True, kw_only=True):
    """`breaker`: when closed, calls pass; when open, they are refused. The options are Opossum's, in snake case."""

    mode: Literal["enforce", "observe", "off"] = "enforce"
    """`enforce`: an open breaker refuses calls. `observe`: it decides and reports, and refuses none. `off`: there is no
    breaker."""
    error_threshold_percentage: Percentage = 50.0
    """The breaker opens at this share of failed calls."""
    volume_threshold: PositiveCount = 10
    """The breaker opens only after this many calls within the window."""
    rolling_count_timeout: Duration = 10.0
    """The length of the rolling window."""
    rolling_count_buckets: PositiveCount = 10
    """The number of parts of the window. Old calls leave it one part at a time."""
    reset_timeout: Duration = 30.0
    """How long the breaker stays open before a probe; it doubles with each failed probe."""
    max_reset_timeout: Duration = 300.0
    """The upper limit of the doubled `reset_timeout`."""
    half_open_requests: PositiveCount = 1
    """How many probes may run at a time, and how many must succeed in a row to close the breaker."""
    failure_status: StatusSet = frozenset(range(500, 600))
    """Statuses that count as failures."""
    failure_grpc_status: GrpcStatusSet = frozenset(
        {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS"}
    )
    """The same for calls of gRPC, whose outcome is their grpc-status."""


class Limits(Struct, frozen=True, kw_only=True):
    """`limits`, for a whole service: requests in flight (tunnels count), connections to all of its endpoints, and the
    heads of its answers."""

    max_concurrent: PositiveCount = 1024
    """Requests in flight, including tunnels. More requests are refused at once as `overloaded`."""
    max_connections: PositiveCount = 1024
    """Connections to all endpoints together. A request waits for a free one at most `timeout.connect`."""
    max_connection_age: Duration | None = 60.0
    """A connection that is older (less up to a fifth, at random) closes as soon as it is idle, so that a load balancer
    behind one address, such as a ClusterIP, can spread the connections anew."""
    max_connection_requests: CountLimit | None = None
    """A connection that has carried this many requests closes as soon as it is idle."""
    keepalive: Duration | None = None
    """HTTP/2: when calls are on a connection and nothing has been heard for this long, the endpoint gets a PING. One
    that leaves it unanswered for 20 s is gone. At least 10s, and servers of gRPC end a connection with too_many_pings
    below 5m unless they were told otherwise."""
    max_head: HeadSize = 32 * 1024
    """The head of an answer: status line, header fields and empty line. A larger one is `bad_response`."""
    max_header_fields: HeaderFieldCount = 128
    """Header fields of an answer. More are `bad_response`."""


class TlsSettings(Struct, frozen=True, kw_only=True):
    """`tls`: what connections to https endpoints trust, and what they show. Files are read again when they change, and
    are relative to the directory of this file."""

    ca_file: FilePath | None = None
    """CA certificates in PEM that are trusted, instead of the system's (or those of SSL_CERT_FILE)."""
    server_name: TlsName | None = None
    """The name in SNI and that the certificate must be for. `off`: the host of the endpoint's URL."""
    cert_file: FilePath | None = None
    """The client certificate in PEM, followed by intermediate ones, for services that demand one (mTLS)."""
    key_file: FilePath | None = None
    """The private key of `cert_file`, in PEM and without a passphrase."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The lowest version of TLS."""
    verify: Literal["on", "off"] = "on"
    """`off`: any certificate is taken, so anybody on the way can read and alter everything. Only for tests: every start
    warns of it."""


DEFAULT_TLS = TlsSettings()


class HashSettings(Struct, frozen=True, kw_only=True, tag="hash"):
    """`balancer: {hash: ...}`: exactly one of these options names the key of a request."""

    header: Token | None = None
    """The value of this request header is the key."""
    cookie: Token | None = None
    """The value of this cookie is the key."""
    query: QueryName | None = None
    """The value of this query parameter is the key."""
    source: bool = False
    """The app's address. It is a weak key: apps in one pod often share it."""


class GrpcHealthSettings(Struct, frozen=True, kw_only=True):
    """`health: {grpc: ...}`: asks by the protocol that gRPC defines for it, `grpc.health.v1.Health/Check`."""

    service: GrpcServiceName = ""
    """Whose health is asked. `""` is that of the whole server."""


class HealthSettings(Struct, frozen=True, kw_only=True):
    """`health`: active checks of each endpoint, on connections of their own. Set exactly one of `path`, `tcp` and
    `grpc`."""

    path: Target | None = None
    """What a check asks for, with GET."""
    tcp: bool = False
    """A check passes when a TCP connection opens; nothing is sent."""
    grpc: GrpcHealthSettings | None = None
    """A check passes with the answer SERVING. For services that speak HTTP/2."""
    interval: Duration = 5.0
    """The time between two checks of an endpoint."""
    idle_interval: Duration = 60.0
    """Used instead of `interval` while the service gets no requests (Envoy: no_traffic_interval)."""
    timeout: Duration = 1.0
    """For a whole check."""
    healthy_threshold: PositiveCount = 1
    """Checks in a row that must pass before an unhealthy endpoint gets requests again."""
    unhealthy_threshold: PositiveCount = 2
    """Checks in a row that must fail before an endpoint gets no more requests."""
    expect: StatusSet = frozenset(range(200, 400))
    """Statuses with which a check passes."""
    headers: Headers = {}
    """Headers to send. A Host header here replaces the endpoint's own."""


class OutlierSettings(Struct, frozen=True, kw_only=True):
    """`outlier`: endpoints that fail requests are ejected for a while (Envoy: outlier_detection)."""

    consecutive_failures: PositiveCount = 5
    """Failures in a row that eject an endpoint."""
    error_rate: Percentage | None = None
    """Ejects at this share of failed attempts in an interval with at least `minimum_requests`. Off unless set."""
    minimum_requests: PositiveCount = 20
    """Attempts that an interval needs before `error_rate` counts."""
    interval: Duration = 10.0
    """The length of the intervals of `error_rate`."""
    base_ejection_time: Duration = 30.0
    """How long the first ejection lasts. Each further one lasts that much longer."""
    max_ejection_time: Duration = 300.0
    """The longest ejection."""
    max_ejection_percent: Percentage = 50.0
    """At most this share of the endpoints is ejected at a time. One may always be, but never the last available one."""
    panic_threshold: PercentageOrZero = 50.0
    """When fewer than this share of the endpoints are healthy, health and ejection are ignored. `0%`: never."""


class FallbackService(Struct, frozen=True, kw_only=True):
    """`fallback: [{service: ...}]`: send the request to another service, or another version, instead."""

    service: ServiceName
    """The service that is asked instead."""
    path: Target | None = None
    """Replaces the whole path and query that would have gone upstream."""
    methods: Methods = FALLBACK_METHODS
    """The methods for which this step answers."""


class FallbackStale(Struct, frozen=True, kw_only=True):
    """`fallback: [{stale: ...}]`: the last good response to a GET, for GET and HEAD."""

    stale: Duration
    """The greatest age of a kept response."""
    key_headers: tuple[LowerToken, ...] = ()
    """Request headers that separate responses, lower case. With `authorization`, each caller gets only its own."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """`key_headers` as bytes, as they stand in a request head."""
        return tuple([name.encode() for name in self.key_headers])


class FallbackStatic(Struct, frozen=True, kw_only=True):
    """`fallback: [{status: ...}]`: a fixed response from this file, or with its body from another one (`file`)."""

    status: FinalStatus
    """The status of the answer."""
    headers: Headers = {}
    """The headers of the answer."""
    body: Body = b""
    """The body of the answer."""
    methods: Methods = FALLBACK_METHODS
    """The methods for which this step answers."""


FallbackStep = FallbackService | FallbackStale | FallbackStatic

FallbackSteps = Annotated[tuple[FallbackStep, ...], Meta(extra={"kind": "fallback"})]
"""Fallbacks, tried in this order."""


class Policy(Struct, frozen=True, kw_only=True):
    """The options that `defaults`, a service and a route may set. The effective policy is merged key by key."""

    timeout: Timeouts = Timeouts()
    retry: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
    balancer: BalancerWord | HashSettings = "round_robin"
    """Which endpoint gets a request; weights count with each. `round_robin`: in turn. `least_request`: of two drawn at
    random, the one with fewer requests in flight. `peak_ewma`: of two drawn at random, the one that answers sooner.
    `random`: drawn at random. `hash`: requests with the same key go to the same endpoint while it is healthy."""
    slow_start: Duration | None = None
    """An endpoint that joins, or becomes healthy again, gets its full share of requests only after this time."""
    health: HealthSettings | None = None
    outlier: OutlierSettings | None = OutlierSettings()
    fallback: FallbackSteps = ()
    """What answers instead of a failure: the first of these steps that has an answer."""
    limits: Limits = Limits()
    tls: TlsSettings = DEFAULT_TLS
    allow_methods: Methods = frozenset()
    """Methods that may be sent beside those that the HTTP parser (llhttp) knows. Those in the `match` of a route are
    allowed there without this."""
    preserve_host: bool = False
    """Send the app's Host upstream instead of the endpoint's authority."""
    prefix_aware: Literal["auto", "true", "false"] = "auto"
    """Whether the service itself puts the prefix that X-Forwarded-Prefix names (`/venue`) into its Location headers.
    `true`: they pass as they are. `false`: the sidecar adds the prefix. `auto`: it does unless it is there."""
    via: bool = False
    """Add a Via header to requests. nginx does not compress answers to requests that have one."""
    impatience: Literal["count", "ignore"] = "count"
    """`count`: a call that the app gives up (by its own deadline, or by hanging up) is a failure of the service if the
    app had waited twice as long as the service usually takes. `ignore`: never. For routes that answer late on purpose,
    such as long polls."""
    idempotent: bool = False
    """Calls may be sent twice, whatever their method: they are retried as `retry.on` says. Calls of gRPC that the
    service may have seen are not retried without this."""
    unary: bool = False
    """Calls of gRPC have one request and one answer, so `timeout.attempt`, `request` and `idle` apply to them as to
    HTTP. Without this they apply to gRPC only where the service or route itself sets them, because a stream may wait
    long for its first message."""
    half_close: bool = False
    """Allow the app to close its sending side and still wait for the response. Off, that counts as a disconnect."""


class DnsSettings(Struct, frozen=True, kw_only=True, tag="dns"):
    """`discovery: {dns: ...}`: A and AAAA records of a name with a port, or SRV records. Set exactly one of `port` and
    `srv`.
    """

    name: DnsName
    """The name that is looked up."""
    port: PortNumber | None = None
    """The port of every address (A, AAAA) of the name."""
    srv: bool = False
    """Look up SRV records instead. They say hosts, ports, weights and priorities."""
    refresh: Duration = 30.0
    """The longest time between two lookups. A shorter TTL makes it shorter (never under 1 s)."""


class KubernetesSettings(Struct, frozen=True, kw_only=True, tag="kubernetes"):
    """`discovery: {kubernetes: ...}`: the EndpointSlices of a Service. `port` is a number or the name of a port."""

    service: DnsLabel
    """The Service whose endpoints get the requests."""
    namespace: DnsLabel | None = None
    """The namespace of the Service. Default: the pod's own."""
    port: ServicePort | None = None
    """The port of the Service that is called. Default: its only one."""
    server: ServerUrl | None = None
    """The API server that is asked. Default: that of the pod's cluster."""
    token_file: FilePath | None = None
    """A file with a bearer token. Default: the token of the pod's service account; with `server`, none."""
    ca_file: FilePath | None = None
    """A file with CA certificates. Default: those of the pod's service account; with `server`, the system's."""
