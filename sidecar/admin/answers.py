"""Requests and responses of the admin API, as structs. The responses and the OpenAPI document are both made from them.

This module owns names and shapes. Times are ISO 8601 in UTC with milliseconds. Names of durations end in `_s` or `_ms`.
Shares are in percent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sidecar.telemetry.events import Event
from sidecar.telemetry.history import Rates, Series

PolicyTree = Annotated[
    dict[str, Any],
    Meta(
        description="Nested as in the file; each leaf is {value, origin, line}",
        extra_json_schema={"additionalProperties": {"$ref": "#/components/schemas/SettingOrTree"}},
    ),
]

Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]


class Breaker(Struct, frozen=True, kw_only=True):
    """A breaker in the list of services."""

    state: Literal["closed", "open", "half_open"]
    mode: Literal["enforce", "observe", "off"]
    since: Time
    forced: Literal["open", "closed"] | None
    forced_until: Time | None
    retry_after_s: float


class Window(Struct, frozen=True, kw_only=True):
    """The calls by which a closed breaker decides."""

    successes: int
    failures: int
    seconds: float


class BreakerDetail(Breaker, frozen=True, kw_only=True):
    """A breaker with everything that decides about its state."""

    window: Window
    opens: int
    rejects: int
    next_probe: Time | None


class Share(Struct, frozen=True, kw_only=True):
    """One endpoint's share of its service's attempts in the last 5 to 10 s."""

    available: bool
    share: float | None


class EndpointSummary(Struct, frozen=True, kw_only=True):
    """Counts of endpoints. An endpoint drained by an operator is only in `total`."""

    total: int
    available: int
    healthy: int
    ejected: int
    panic: bool
    shares: tuple[Share, ...]
    """In the order of the endpoints; empty if there are more than eight."""


class Budget(Struct, frozen=True, kw_only=True):
    """The retry budget: how many retries are still possible."""

    balance: float
    ratio: float
    min_per_second: float
    spent: int
    denied: int


class LastFailure(Struct, frozen=True, kw_only=True):
    """The last failed request, except those that the breaker refused."""

    at: Time
    reason: str
    detail: Annotated[str, Meta(max_length=200)]
    request_id: str


class Service(Struct, frozen=True, kw_only=True):
    """A service in the list. Counts begin at the start of the sidecar; `recent_reasons` covers the last 10 s. `grpc`:
    the file says that it is a service of gRPC. `grpc_statuses` counts calls of gRPC by the name of their status."""

    name: str
    source: Literal["static", "name", "dns", "kubernetes"]
    protocol: Literal["http1", "h2"]
    grpc: bool
    grpc_statuses: dict[str, int]
    breaker: Breaker
    endpoints: EndpointSummary
    in_flight: int
    requests: int
    failures: int
    retries: int
    fallbacks: int
    reasons: dict[str, int]
    recent_reasons: dict[str, int]
    last_failure: LastFailure | None
    rates: Rates
    budget: Budget


class Services(Struct, frozen=True, kw_only=True):
    """GET /services."""

    generation: int
    draining: bool
    reload: ReloadBrief
    services: list[Service]


class ReloadBrief(Struct, frozen=True, kw_only=True):
    """Whether the configuration in force is the file on disk."""

    result: Literal["ok", "unchanged", "rejected"]
    at: Time
    errors: int
    warnings: int


class Endpoint(Struct, frozen=True, kw_only=True):
    """One address of a service. `requests` are finished attempts; `share` covers the last 5 to 10 s."""

    address: str
    healthy: bool
    known: bool
    ejected: bool
    ejected_until: Time | None
    drained: bool
    forced_until: Time | None
    available: bool
    skipped_until: Time | None
    weight: int
    priority: int
    active: int
    idle: int
    requests: int
    failures: int
    share: float | None
    latency_ms: float | None
    ejections: int
    reasons: dict[str, int]


class RouteMatch(Struct, frozen=True, kw_only=True):
    """An empty list of methods means all methods."""

    path: str
    methods: list[str]


class Route(Struct, frozen=True, kw_only=True):
    """`breaker` is None if the route uses the service's breaker."""

    name: str
    match: RouteMatch
    breaker: BreakerDetail | None
    policy: PolicyTree


class Discovery(Struct, frozen=True, kw_only=True):
    """A source of endpoints, and its problem, if it has one."""

    kind: Literal["static", "name", "dns", "kubernetes"]
    last_success: Time | None
    problem: str | None


class ServiceDetail(Struct, frozen=True, kw_only=True):
    """Response of GET /services/{name}."""

    name: str
    source: Literal["static", "name", "dns", "kubernetes"]
    protocol: Literal["http1", "h2"]
    grpc: bool
    grpc_statuses: dict[str, int]
    breaker: BreakerDetail
    endpoint_summary: EndpointSummary
    endpoints: list[Endpoint]
    routes: list[Route]
    in_flight: int
    requests: int
    failures: int
    retries: int
    fallbacks: int
    reasons: dict[str, int]
    recent_reasons: dict[str, int]
    last_failure: LastFailure | None
    rates: Rates
    budget: Budget
    policy: PolicyTree
    discovery: Discovery
    history: Series


class History(Struct, frozen=True, kw_only=True):
    """GET /history."""

    interval_s: int
    services: dict[str, Series]


class Events(Struct, frozen=True, kw_only=True):
    """GET /events."""

    events: list[Event]


class FileError(Struct, frozen=True, kw_only=True):
    """One mistake in a configuration file. Lines and columns count from 1; 0 means that the file cannot be read."""

    file: str
    line: int
    column: int
    key: str
    message: str


class Reload(Struct, frozen=True, kw_only=True):
    """The result of the last attempt to load a configuration."""

    result: Literal["ok", "unchanged", "rejected"]
    at: Time
    trigger: Literal["start", "file", "signal", "api"]
    generation: int
    errors: list[FileError]
    warnings: list[str]
    changed: list[str]


class Config(Struct, frozen=True, kw_only=True):
    """GET /config."""

    generation: int
    file: str | None
    loaded_at: Time
    reload: Reload
    warnings: list[str]
    log: Log
    config: PolicyTree


class Log(Struct, frozen=True, kw_only=True):
    """What is logged now. At the time `until`, the configured levels apply again."""

    level: Literal["debug", "info", "warning", "error"]
    access: Literal["off", "errors", "all"]
    until: Time | None


class ExplainedBreaker(BreakerDetail, frozen=True, kw_only=True):
    """`would` is what the breaker would do with this request now. `route` names the breaker's route; "" means the
    service's breaker.
    """

    route: str
    would: Literal["admit", "probe", "refuse"]


class Candidate(Struct, frozen=True, kw_only=True):
    """An endpoint, and why the balancer would or would not pick it."""

    address: str
    available: bool
    why: str


class ExplainedBalancer(Struct, frozen=True, kw_only=True):
    """`would_pick` is None if it cannot be known, because chance or the request's key decides."""

    kind: str
    would_pick: str | None
    candidates: list[Candidate]


class ExplainedRetry(Struct, frozen=True, kw_only=True):
    """How requests with this method are retried. `budget_left` is shared by all requests of the service."""

    max_retries: int
    replayable: bool
    on: list[str | int]
    budget_left: float


class NotRouted(Struct, frozen=True, kw_only=True):
    """The error that the app would get."""

    status: int
    reason: str
    detail: str


class Explanation(Struct, frozen=True, kw_only=True):
    """Response of GET /explain. If `problem` is set, there is no service and none of its details."""

    service: str | None
    route: str
    by: Literal["path", "host", "absolute", "metadata", "claim", "aggregate"] | None
    upstream_target: str | None
    problem: NotRouted | None
    policy: PolicyTree | None
    breaker: ExplainedBreaker | None
    balancer: ExplainedBalancer | None
    retry: ExplainedRetry | None
    fallback: list[str]
    deadline_s: float | None
    words: list[str]


class Draining(Struct, frozen=True, kw_only=True):
    """Response of POST /drain: how the shutdown proceeds."""

    draining: bool
    delay_s: float
    timeout_s: float


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document (RFC 9457). `reason` is a word for programs."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    errors: list[FileError] = []


# Requests. An unknown key is an error.


class Empty(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`{}`."""


class ForceBreaker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """`for` is a duration such as 5m. `route` is a route with its own breaker, named as in GET /services/{name}."""

    state: Literal["open", "closed", "auto"]
    for_: str = "5m"
    route: str = ""


class SteerEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """`for` is how long a drain or an ejection lasts."""

    action: Literal["drain", "eject", "restore"]
    for_: str = "10m"


class SetLog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """At least one of `level` and `access`. The other one stays as configured."""

    level: Literal["debug", "info", "warning", "error"] | None = None
    access: Literal["off", "errors", "all"] | None = None
    for_: str = "10m"
