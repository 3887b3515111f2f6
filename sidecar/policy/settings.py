"""The options of every policy, as frozen structs; the field defaults here are the defaults of the YAML file.

Owns names, types and defaults. It does not parse (`sidecar.config`) and does not decide (the modules beside it).
Durations are seconds (float), sizes are bytes (int); the aliases below tell the configuration loader how a value is
written in the file.
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
Percentage = Annotated[float, Meta(gt=0, le=100)]
Ratio = Annotated[float, Meta(ge=0)]

StatusSet = Annotated[frozenset[int], Meta(extra={"kind": "statuses"})]
"""Statuses 100-599; written as a list of numbers and ranges: `[500-599, 429]`."""

RETRY_REASONS = frozenset({"connect_failure", "connect_timeout", "reset", "attempt_timeout", "bad_response"})
"""The reasons of an attempt's failure that `retry.on` may name, beside statuses."""

RetryConditions = Annotated[frozenset[str | int], Meta(extra={"kind": "retry_conditions"})]
"""What `retry.on` holds: names of RETRY_REASONS, and statuses (ranges are expanded)."""

Methods = Annotated[frozenset[str], Meta(extra={"kind": "methods"})]
"""HTTP methods, upper case."""


class Timeouts(Struct, frozen=True, kw_only=True):
    """`timeout`: connect covers name, TCP and TLS; attempt and request end at the final response head."""

    connect: Duration = 1.0
    attempt: Duration = 5.0
    request: Duration = 15.0
    idle: Duration = 60.0
    pool_idle: Duration = 4.0
    client_idle: Duration = 60.0


class Backoff(Struct, frozen=True, kw_only=True):
    """`retry.backoff`: full jitter, rand(0, min(max, base * 2^n))."""

    base: Duration = 0.025
    max: Duration = 0.25


class BudgetSettings(Struct, frozen=True, kw_only=True):
    """`retry.budget`: retries <= ratio of requests + min_per_second, for a whole service."""

    ratio: Ratio = 0.2
    min_per_second: Ratio = 10.0


class RetrySettings(Struct, frozen=True, kw_only=True):
    """`retry`."""

    max_retries: Count = 2
    on: RetryConditions = frozenset({"connect_failure", "connect_timeout", "reset", "attempt_timeout", 502, 503, 504})
    methods: Methods = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
    backoff: Backoff = Backoff()
    budget: BudgetSettings = BudgetSettings()
    max_body: Size = 64 * 1024


class BreakerSettings(Struct, frozen=True, kw_only=True):
    """`breaker`: Opossum's options in snake case; closed flows, open refuses."""

    mode: Literal["enforce", "observe", "off"] = "enforce"
    error_threshold_percentage: Percentage = 50.0
    volume_threshold: PositiveCount = 10
    rolling_count_timeout: Duration = 10.0
    rolling_count_buckets: PositiveCount = 10
    reset_timeout: Duration = 30.0
    max_reset_timeout: Duration = 300.0
    half_open_requests: PositiveCount = 1
    failure_status: StatusSet = frozenset(range(500, 600))


class Limits(Struct, frozen=True, kw_only=True):
    """`limits`, for a whole service: requests in flight (tunnels count), and connections to all of its endpoints."""

    max_concurrent: PositiveCount = 1024
    max_connections: PositiveCount = 1024


class Policy(Struct, frozen=True, kw_only=True):
    """What `defaults`, a service and a route may set; the effective one is merged key by key."""

    timeout: Timeouts = Timeouts()
    retry: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
    balancer: Literal["round_robin"] = "round_robin"
    limits: Limits = Limits()
    preserve_host: bool = False
    """Send the app's own Host upstream instead of the endpoint's authority."""
    half_close: bool = False
    """The app may close its sending side and still wait for the answer (else that counts as a disconnect)."""
