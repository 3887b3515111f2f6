"""Read the `tracing` section: where spans are sent."""

from __future__ import annotations

from sidecar.config.errors import Place, Reporter
from sidecar.config.merge import build
from sidecar.config.schema import Tracing
from sidecar.config.tree import is_valid
from sidecar.config.walk import Walker
from sidecar.config.yaml_nodes import Mapping, Node, Scalar


def read_tracing(node: Node, place: Place, walker: Walker, reporter: Reporter) -> Tracing | None:
    """The settings; None if tracing is off, or has a mistake, which is reported."""
    if isinstance(node, Scalar):
        walker.value(node, Tracing | None, place)
        return None
    tree = walker.group(Tracing, node, place, "service")
    if not isinstance(node, Mapping):
        return None
    if "otlp" not in tree and len(tree) == len(node.entries):  # otherwise it may be the misspelt key
        reporter.report(place, "tracing needs an otlp: {otlp: http://collector:4318}")
    return build(Tracing, tree) if "otlp" in tree and is_valid(tree) else None
