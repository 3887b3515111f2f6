"""Read the `aggregates` section: which services `GET /_aggregate/<name>` calls at once.

Owns the rules for aggregates and their parts. The path of a part is parsed by `path_template`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sidecar.config.annotations import fields_of, required_keys
from sidecar.config.errors import Place, Reporter
from sidecar.config.merge import build
from sidecar.config.schema import Aggregate, AggregatePart
from sidecar.config.tree import Leaf, Tree, is_valid
from sidecar.config.unknown import unknown_service
from sidecar.config.walk import Walker
from sidecar.config.yaml_nodes import Mapping, Node

MAX_PARTS: Final = 32
"""The most parts of an aggregate. The answer of each part may have a body of 1 MiB."""

OWN_MEMBERS: Final = ("errors", "fallbacks", "partial")
"""Members of the answer that are not parts. No part can have one of these names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NAME_EXPECTED = "begins with a letter or digit and has up to 63 letters, digits, '.', '_' and '-'"
_EXAMPLE = '{venue-page: {parts: {venue: {service: venue, path: "/venues/{query.id}"}}}}'
_NEEDS = {"service": "a part needs a service, such as venue", "path": "a part needs a path, such as /venues/{query.id}"}


def read_aggregates(
    node: Node, place: Place, services: Sequence[str], walker: Walker, reporter: Reporter
) -> tuple[dict[str, Aggregate], dict[str, Tree]]:
    """The aggregates by name, and what the file sets in each aggregate and part, by key path.

    An aggregate with a mistake is reported and left out. `services` are the names of the file's services.
    """
    if not isinstance(node, Mapping):
        reporter.report(place, f"expected a mapping of aggregates: {_EXAMPLE}")
        return {}, {}
    reader = _Reader(services, walker, reporter)
    aggregates = {}
    for name, entry in node.entries.items():
        at = place.key(name, entry.line, entry.column)
        if not _NAME.fullmatch(name):
            reporter.report(at, f"the name of an aggregate {_NAME_EXPECTED}")
        aggregate = reader.aggregate(entry.node, at)
        if aggregate is not None:
            aggregates[name] = aggregate
    return aggregates, reader.trees


class _Reader:
    def __init__(self, services: Sequence[str], walker: Walker, reporter: Reporter) -> None:
        self._services = services
        self._walker = walker
        self._reporter = reporter
        self.trees: dict[str, Tree] = {}

    def aggregate(self, node: Node, place: Place) -> Aggregate | None:
        keys = fields_of(Aggregate)
        found = self._walker.entries(node, keys, place)
        tree = self._walker.tree({key: one for key, one in found.items() if key != "parts"}, keys, "file")
        self.trees[place.path] = tree
        if "parts" not in found:
            if isinstance(node, Mapping):
                self._reporter.report(place, f"an aggregate needs parts: {_EXAMPLE}")
            return None
        parts = self._parts(*found["parts"])
        return build(Aggregate, tree, parts=parts) if parts and is_valid(tree) else None

    def _parts(self, node: Node, place: Place) -> dict[str, AggregatePart]:
        if not isinstance(node, Mapping):
            self._reporter.report(place, "expected a mapping of parts: {venue: {service: venue, path: /venues}}")
            return {}
        if not node.entries:
            self._reporter.report(place, "expected at least one part")
        elif len(node.entries) > MAX_PARTS:
            self._reporter.report(place, f"expected at most {MAX_PARTS} parts")
        parts = {}
        for name, entry in node.entries.items():
            at = place.key(name, entry.line, entry.column)
            if not _NAME.fullmatch(name):
                self._reporter.report(at, f"the name of a part {_NAME_EXPECTED}")
            elif name in OWN_MEMBERS:
                self._reporter.report(at, "this name is reserved: the answer has a member of its own with it")
            part = self._part(entry.node, at)
            if part is not None:
                parts[name] = part
        return parts

    def _part(self, node: Node, place: Place) -> AggregatePart | None:
        tree = self._walker.group(AggregatePart, node, place, "file")
        self.trees[place.path] = tree
        if not isinstance(node, Mapping):
            return None
        missing = [key for key in required_keys(AggregatePart) if key not in tree]
        if len(tree) == len(node.entries):  # otherwise a key that seems to be missing may be misspelt
            for key in missing:
                self._reporter.report(place, _NEEDS[key])
        service = tree.get("service")
        if isinstance(service, Leaf) and isinstance(service.value, str) and service.value not in self._services:
            self._reporter.report(service.place, unknown_service(service.value, self._services))
        self._check_passed(tree)
        return build(AggregatePart, tree) if not missing and is_valid(tree) else None

    def _check_passed(self, tree: Tree) -> None:
        passed, required = tree.get("pass_status"), tree.get("required")
        if not isinstance(passed, Leaf) or not isinstance(passed.value, frozenset):
            return
        if any(status < 400 or status > 599 for status in passed.value):
            self._reporter.report(passed.place, "expected statuses from 400 to 599: other answers are no failure")
        elif passed.value and not (isinstance(required, Leaf) and required.value):
            message = "the part needs required: true: the failure of an optional part is named in the answer"
            self._reporter.report(passed.place, message)
