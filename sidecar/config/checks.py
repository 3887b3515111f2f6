"""Check the rules between values of one effective policy, and between listeners.

A rule is checked on the merged values. Its error is reported at a key that the user wrote. If the user wrote both, it
is the key of the more specific level; on the same level it is the later one.
"""

from __future__ import annotations

from functools import reduce
from itertools import combinations
from typing import Any

from sidecar.config.annotations import fields_of
from sidecar.config.choices import choice_problems
from sidecar.config.errors import Reporter
from sidecar.config.merge import leaves
from sidecar.config.schema import Address, Listen
from sidecar.config.tree import INVALID, Leaf, Tree
from sidecar.config.units import format_duration
from sidecar.config.walk import Entries
from sidecar.config.yaml_nodes import Mapping as MappingNode
from sidecar.policy.settings import HealthSettings, Policy

_AT_MOST = (
    ("retry.backoff.base", "retry.backoff.max", True),
    ("breaker.reset_timeout", "breaker.max_reset_timeout", False),
    ("outlier.base_ejection_time", "outlier.max_ejection_time", False),
)
"""The first must not be longer than the second. With False this is checked only if one level sets both: the maximum
limits what grows (a breaker's doubling, repeated ejections), and a longer first time on a more specific level is taken
as it is written."""

_WINDOW, _BUCKETS = "breaker.rolling_count_timeout", "breaker.rolling_count_buckets"

LEAST_KEEPALIVE_S = 10.0
"""As gRPC's own clients have it."""

_LEVELS = ("file", "defaults", "service", "route")


def check_policy(tree: Tree, reporter: Reporter) -> None:
    """Report contradictions in an effective policy. `tree` holds what the file sets of it."""
    written = dict(leaves(tree))
    for smaller, larger, strict in _AT_MOST:
        if not strict and not _same_level(written, smaller, larger):
            continue
        if _both_valid(written, smaller, larger) and _value(written, smaller) > _value(written, larger):
            blamed, other = _blamed(written, smaller, larger)
            word = "longer" if blamed == smaller else "shorter"
            reporter.report(written[blamed].place, f"must not be {word} than {other}, {_where(written, other)}")
    if _both_valid(written, _WINDOW, _BUCKETS) and _value(written, _WINDOW) < _value(written, _BUCKETS) / 1000:
        blamed, other = _blamed(written, _WINDOW, _BUCKETS)
        message = f"a bucket of the rolling window would be shorter than 1ms; see {other}, {_where(written, other)}"
        reporter.report(written[blamed].place, message)
    _check_keepalive(written, reporter)


def _check_keepalive(written: dict[str, Leaf], reporter: Reporter) -> None:
    keepalive = written.get("limits.keepalive")
    if keepalive is None or keepalive.value in (INVALID, None):
        return
    if keepalive.value < LEAST_KEEPALIVE_S:
        reporter.report(keepalive.place, "must be at least 10s: servers take more frequent pings for an attack")


def check_health(tree: Tree, found: Entries, reporter: Reporter) -> None:
    """Report health checks that ask for nothing, or never pass. `found` has the keys of the level that is read now."""
    health = tree.get("health")
    if "health" not in found or not isinstance(health, dict):
        return
    node, at = found["health"]
    # If a key was reported as unknown, it may be the one that seems to be missing.
    all_known = isinstance(node, MappingNode) and node.entries.keys() <= fields_of(HealthSettings).keys()
    for place, message in choice_problems(HealthSettings, health, at if all_known else None):
        reporter.report(place, message)
    expect = health.get("expect")
    if isinstance(expect, Leaf) and expect.value == frozenset():
        reporter.report(expect.place, "expected at least one status")


def check_listeners(tree: Tree, reporter: Reporter) -> None:
    """Report listeners that use the same address and port. `tree` holds what the file sets of `listen`."""
    written = dict(leaves(tree))
    if "proxy" in written and written["proxy"].value == ():
        reporter.report(written["proxy"].place, "expected at least one address")
    names = ("proxy", "admin", "probe")
    bound = [(name, address) for name in names for address in _addresses(written, name)]
    for (first, address), (second, other) in combinations(bound, 2):
        if _collide(address, other):
            blamed, kept = _blamed(written, first, second)
            where = f"set in line {written[kept].place.line}" if kept in written else "its default"
            reporter.report(written[blamed].place, f"uses the same address and port as listen.{kept} ({where})")


def _addresses(written: dict[str, Leaf], name: str) -> tuple[Address, ...]:
    value = written[name].value if name in written else getattr(Listen(), name)
    if value is INVALID:
        return ()
    return (value,) if isinstance(value, Address) else value


def _collide(one: Address, other: Address) -> bool:
    """Whether port and host are the same, or a wildcard includes the other host (`::` includes IPv4)."""
    if one.port != other.port or one.port == 0:
        return False
    hosts = {one.host, other.host}
    return len(hosts) == 1 or "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))


def _value(written: dict[str, Leaf], key: str) -> Any:
    return written[key].value if key in written else reduce(getattr, key.split("."), Policy())


def _both_valid(written: dict[str, Leaf], *keys: str) -> bool:
    found = [written[key] for key in keys if key in written]
    return bool(found) and all(leaf.value is not INVALID for leaf in found)


def _same_level(written: dict[str, Leaf], *keys: str) -> bool:
    return len({written[key].level if key in written else None for key in keys}) == 1


def _blamed(written: dict[str, Leaf], *keys: str) -> tuple[str, str]:
    """Of two keys, the one to report and the other."""
    first, second = sorted(keys, key=lambda key: _rank(written.get(key)), reverse=True)
    return first, second


def _rank(leaf: Leaf | None) -> tuple[int, int, int]:
    return (_LEVELS.index(leaf.level), leaf.place.line, leaf.place.column) if leaf else (-1, 0, 0)


def _where(written: dict[str, Leaf], key: str) -> str:
    """Where a value was set. Only a default is shown itself: any other value may come from the environment."""
    if key in written:
        return f"set in line {written[key].place.line}"
    value = _value(written, key)
    return f"which is {format_duration(value) if isinstance(value, float) else value} by default"
