"""Which version of HTTP a service's endpoints are called by, and what of its policy depends on that.

Owns the rules between the scheme of a URL, `protocol` and `grpc`; the times that `defaults` sets for HTTP/1.1 alone;
and which timeouts apply to calls of gRPC.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec.structs import replace

from sidecar.config.errors import Place, Reporter
from sidecar.config.merge import build
from sidecar.config.tree import Leaf, Tree
from sidecar.policy.settings import Policy

Protocol = Literal["http1", "h2"]

H2_POOL_IDLE_S: Final = 300.0
H2_CONNECTION_AGE_S: Final = 600.0
"""One connection carries all calls to its endpoint, and servers of HTTP/2 do not close it after a few seconds, as those
of HTTP/1.1 do."""

_OF_HTTP1: Final = (("timeout", "pool_idle"), ("limits", "max_connection_age"))
"""What `defaults` says about these is about HTTP/1.1. For a service of HTTP/2 only its own value counts."""

_OWN_LEVELS: Final = ("service", "route")


def protocol_of(scheme: str, written: Protocol | None, claims: bool) -> tuple[Protocol, str | None]:
    """The protocol, and what is wrong with what is written. `scheme` is empty with discovery; `claims`: the service has
    `grpc`."""
    if scheme in ("h2c", "grpc"):
        wrong = "this contradicts the URL: h2c:// and grpc:// mean HTTP/2" if written == "http1" else None
        return "h2", wrong
    if written == "h2":
        return "h2", None
    if not claims:
        return "http1", None
    if written == "http1":
        return "h2", "gRPC needs HTTP/2, and the service has the key grpc: write protocol: h2"
    if scheme == "http":
        return "h2", "gRPC needs HTTP/2, and http:// means HTTP/1.1: write h2c:// instead"
    return "h2", None


def without_http1_times(tree: Tree) -> Tree:
    """The policy of a service of HTTP/2, without what `defaults` sets for connections of HTTP/1.1."""
    found = dict(tree)
    for group, key in _OF_HTTP1:
        below = found.get(group)
        leaf = below.get(key) if isinstance(below, dict) else None
        if isinstance(below, dict) and isinstance(leaf, Leaf) and leaf.level == "defaults":
            found[group] = {name: value for name, value in below.items() if name != key}
    return found


def built_policy(tree: Tree, protocol: Protocol) -> Policy:
    """The struct, with the times of HTTP/2 where the tree has none."""
    policy = build(Policy, tree)
    if protocol == "h2":
        if not _has(tree, "timeout", "pool_idle"):
            policy = replace(policy, timeout=replace(policy.timeout, pool_idle=H2_POOL_IDLE_S))
        if not _has(tree, "limits", "max_connection_age"):
            policy = replace(policy, limits=replace(policy.limits, max_connection_age=H2_CONNECTION_AGE_S))
    return policy


def own_timeouts(tree: Tree) -> frozenset[str]:
    """The keys of `timeout` that a service or its route sets: those of `defaults` are meant for HTTP."""
    timeout = tree.get("timeout")
    if not isinstance(timeout, dict):
        return frozenset()
    return frozenset(key for key, leaf in timeout.items() if isinstance(leaf, Leaf) and leaf.level in _OWN_LEVELS)


def check_http1_health(tree: Tree, place: Place, reporter: Reporter) -> None:
    """Report a health check by gRPC of a service that speaks HTTP/1.1; `place` is the service."""
    health = tree.get("health")
    if not isinstance(health, dict) or not isinstance(health.get("grpc"), dict):
        return
    reporter.report(place, "health.grpc needs HTTP/2: write h2c:// or protocol: h2, or give it another health check")


def _has(tree: Tree, group: str, key: str) -> bool:
    below = tree.get(group)
    return isinstance(below, dict) and key in below
