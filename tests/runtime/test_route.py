"""A route's policy, laid out for the way."""

from __future__ import annotations

from sidecar.policy.breaker import make_breaker
from sidecar.policy.settings import FallbackStale, FallbackStatic, Policy
from sidecar.runtime.route import LiveRoute


def test_methods_of_the_fallbacks() -> None:
    steps = (FallbackStale(stale=5.0), FallbackStatic(status=202, methods=frozenset({"POST"})))
    policy = Policy(fallback=steps)
    route = LiveRoute("", None, policy, make_breaker(policy.breaker, 0.0))
    assert route.fallback_methods == {"GET", "HEAD", "POST"}
    assert route.keeps_stale
