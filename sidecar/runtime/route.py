"""Live route: the policy for some requests of a service, prepared for the data path.

Owns the options that a request needs. A route never changes: new settings make a new route, and a request keeps the one
that it began with. Only the breaker survives a new route.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from sidecar.config.schema import Match
from sidecar.policy.breaker import Breaker
from sidecar.policy.grpc import numbers_of
from sidecar.policy.settings import FALLBACK_METHODS, FallbackStale, FallbackStep, Policy
from sidecar.runtime.additions import Additions

_NOT_IDEMPOTENT: Final = frozenset({"POST", "PATCH"})
"""The methods that `idempotent` adds to `retry.methods`."""


class LiveRoute:
    """The options that a request needs, and its breaker."""

    __slots__ = (
        "_for_grpc",
        "additions",
        "additions_by_path",
        "allowed_methods",
        "attempt_s",
        "breaker",
        "client_idle_s",
        "connect_s",
        "failure_status",
        "fallback_methods",
        "forgives_impatience",
        "forgives_leaving",
        "grpc",
        "grpc_attempt_s",
        "grpc_failure",
        "grpc_idle_s",
        "grpc_request_s",
        "grpc_retry",
        "half_close",
        "idempotent",
        "idle_s",
        "keeps_stale",
        "match",
        "methods",
        "name",
        "own_timeouts",
        "path",
        "path_and_below",
        "policy",
        "prefix_aware",
        "preserve_host",
        "repeatable_methods",
        "request_s",
        "retry",
        "retry_statuses",
        "success_s",
        "via",
    )

    def __init__(
        self,
        name: str,
        match: Match | None,
        policy: Policy,
        breaker: Breaker,
        own_timeouts: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.match = match
        """None for the service's own policy, which takes the requests that no other route matches."""
        self.policy = policy
        self.breaker = breaker
        path = match.path.encode() if match else b"/"
        self.path = path
        self.path_and_below = path if path.endswith(b"/") else path + b"/"
        self.methods = match.methods if match else frozenset()
        self.allowed_methods = policy.allow_methods | self.methods
        """Of the methods that the parser does not know, those that may be sent."""
        timeout = policy.timeout
        self.client_idle_s = timeout.client_idle
        self.connect_s = timeout.connect
        self.attempt_s = timeout.attempt
        self.request_s = timeout.request
        self.idle_s = timeout.idle
        self.success_s = timeout.attempt
        """How long after its head an answer counts as a success while it goes on; and how long a probe may be sent."""
        self.retry = policy.retry
        self.idempotent = policy.idempotent
        self.repeatable_methods = policy.retry.methods | _NOT_IDEMPOTENT if policy.idempotent else policy.retry.methods
        self.retry_statuses = frozenset(one for one in policy.retry.on if isinstance(one, int))
        self.failure_status = policy.breaker.failure_status
        # What applies to calls of gRPC in place of the above. A stream may wait for long until its first message, so
        # times for all of HTTP are not for them.
        self.own_timeouts = own_timeouts
        self.grpc_attempt_s = timeout.attempt if policy.unary or "attempt" in own_timeouts else inf
        self.grpc_request_s = timeout.request if policy.unary or "request" in own_timeouts else inf
        self.grpc_idle_s = timeout.idle if policy.unary or "idle" in own_timeouts else inf
        self.grpc_failure = numbers_of(policy.breaker.failure_grpc_status)
        self.grpc_retry = numbers_of(policy.retry.on) if policy.idempotent else frozenset[int]()
        self.forgives_impatience = policy.impatience == "ignore"
        self.fallback_methods = _answered_by(policy.fallback)
        self.keeps_stale = any(isinstance(step, FallbackStale) for step in policy.fallback)
        """Whether it falls back to the last good response."""
        self.preserve_host = policy.preserve_host
        self.prefix_aware = None if policy.prefix_aware == "auto" else policy.prefix_aware == "true"
        self.via = policy.via
        self.half_close = policy.half_close
        self.grpc = False
        """It is what the policy means for a gRPC call: statuses are those of gRPC."""
        self.forgives_leaving = False
        """An app that cancels says nothing about the service: nobody knows whether it was to answer yet."""
        self._for_grpc: LiveRoute | None = None
        self.additions: Additions | None = None
        """What the proxy adds to a first attempt, once one was made."""
        self.additions_by_path: Additions | None = None
        """The same for a request that was routed by its path."""

    def for_grpc(self) -> LiveRoute:
        """The same route, for a gRPC call: with the times that apply to one, and with its statuses.

        The wire does not tell a call with one answer from a stream, so only what the file sets for gRPC ends it.
        """
        found = self._for_grpc
        if found is None:
            found = self._for_grpc = LiveRoute(self.name, self.match, self.policy, self.breaker, self.own_timeouts)
            found.grpc = True
            found.attempt_s = self.grpc_attempt_s
            found.request_s = self.grpc_request_s
            found.idle_s = self.grpc_idle_s
            found.forgives_leaving = self.grpc_attempt_s == inf
            found.failure_status = self.grpc_failure
            found.retry_statuses = self.grpc_retry
            found.repeatable_methods = frozenset({"POST"}) if self.idempotent else frozenset[str]()
            found.fallback_methods = frozenset()
            found.keeps_stale = False
        return found

    def matches(self, method: str, path: bytes) -> bool:
        """Whether the route matches. `path` has no query. A route's path is a prefix of whole segments, compared as raw
        bytes.
        """
        if self.methods and method not in self.methods:
            return False
        return path == self.path or path.startswith(self.path_and_below)


def _answered_by(fallback: Sequence[FallbackStep]) -> frozenset[str]:
    """The methods that at least one fallback step answers."""
    methods: set[str] = set()
    for step in fallback:
        methods |= FALLBACK_METHODS if isinstance(step, FallbackStale) else step.methods
    return frozenset(methods)
