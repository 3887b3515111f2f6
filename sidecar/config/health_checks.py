"""Read the `checks` section: what `GET /health` checks in addition to the services.

Owns the rules for a check. Its URL is parsed by `check_urls`. The module `checks` is about something else: policies.
"""

from __future__ import annotations

from sidecar.config.addresses import parse_dns_label
from sidecar.config.errors import BadValueError, Place, Reporter
from sidecar.config.merge import build
from sidecar.config.schema import LONGEST_REPORT_S, HealthCheck
from sidecar.config.tls import TlsReader
from sidecar.config.tree import Leaf, is_valid
from sidecar.config.units import format_duration
from sidecar.config.walk import Walker
from sidecar.config.yaml_nodes import Mapping, Node


def read_checks(node: Node, place: Place, walker: Walker, reporter: Reporter, tls: TlsReader) -> dict[str, HealthCheck]:
    """The checks by name. A check with a mistake is reported and left out."""
    if not isinstance(node, Mapping):
        reporter.report(place, "expected a mapping of checks: {redis: {url: redis://localhost:6379/0}}")
        return {}
    checks = {}
    for name, entry in node.entries.items():
        at = place.key(name, entry.line, entry.column)
        try:
            parse_dns_label(name)
        except BadValueError:
            reporter.report(
                at, "the name of a check has up to 63 lower-case letters, digits and '-', and no '-' at either end"
            )
        check = _check(entry.node, at, walker, reporter, tls)
        if check is not None:
            checks[name] = check
    return checks


def _check(node: Node, place: Place, walker: Walker, reporter: Reporter, tls: TlsReader) -> HealthCheck | None:
    tree = walker.group(HealthCheck, node, place, "service")
    tls.resolve(tree)
    tls.check(tree)
    if isinstance(node, Mapping) and "url" not in node.entries:
        reporter.report(place, "a check needs a url: {url: redis://localhost:6379/0}")
    timeout = tree.get("timeout")
    if isinstance(timeout, Leaf) and isinstance(timeout.value, float) and timeout.value > LONGEST_REPORT_S:
        longest = format_duration(LONGEST_REPORT_S)
        reporter.report(timeout.place, f"expected at most {longest}: that is the time limit of GET /health")
        return None
    return build(HealthCheck, tree) if "url" in tree and is_valid(tree) else None
