"""Read `fallback`: a list of steps that answer instead of a failure.

Owns the three kinds of steps, the rules between steps, and the rules between services: no service falls back to itself,
directly or through other services. A `file` is read here, with the configuration, so that no request waits for a disk.
Its name is relative to the directory of the configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from sidecar.config.annotations import fields_of
from sidecar.config.errors import Place, Reporter, shown_key
from sidecar.config.http_words import header_name_problem
from sidecar.config.merge import build
from sidecar.config.tree import INVALID, Leaf, Tree, is_valid
from sidecar.config.unknown import unknown_service
from sidecar.config.walk import Walker
from sidecar.config.yaml_nodes import Mapping as MappingNode
from sidecar.config.yaml_nodes import Node
from sidecar.policy.settings import (
    FALLBACK_METHODS,
    FallbackService,
    FallbackStale,
    FallbackStatic,
    FallbackStep,
    FilePath,
)

MAX_BODY = 1024 * 1024
"""The most bytes in the body of a static answer, whether it is in the configuration or in a file of its own."""

MAX_CYCLES = 8
"""How many cycles are reported at a time. Fixing one often fixes others."""

_KINDS: Mapping[str, type[Struct]] = MappingProxyType(
    {"service": FallbackService, "stale": FallbackStale, "status": FallbackStatic}
)
"""By the key that tells the kind of a step."""

_KEYS_OF: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {kind: {**fields_of(struct), **({"file": FilePath} if kind == "status" else {})} for kind, struct in _KINDS.items()}
)
_KEYS: Mapping[str, Any] = MappingProxyType({key: hint for keys in _KEYS_OF.values() for key, hint in keys.items()})

_BODILESS = (204, 205, 304)
"""RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5."""

_NOT_TO_SET = ("date", "proxy-", "x-request-id", "x-sidecar-")
"""Beginnings of header names that a static answer cannot set, in addition to the headers of a connection. The sidecar
writes these headers itself, or they are between a client and its proxy."""


class FallbackReader:
    """Reads each `fallback` of one file, and keeps the places of the steps for the checks between services."""

    def __init__(self, directory: Path, reporter: Reporter) -> None:
        self._directory = directory
        self._reporter = reporter
        self._asked: dict[Place, list[tuple[str, Place]]] = {}

    def read(self, walker: Walker, node: Node, place: Place) -> tuple[FallbackStep, ...] | Any:
        """The steps of a list, or INVALID."""
        items = walker.items(node, place)
        asked = self._asked[place] = []
        steps = [self._step(walker, item, at, asked) for item, at in items or ()]
        if items is None or INVALID in steps:
            return INVALID
        self._check_order(steps, [at for _, at in items])
        return tuple(steps)

    def asked(self, tree: Tree) -> list[tuple[str, Place]]:
        """The services that an effective policy falls back to, each with its place in the file."""
        leaf = tree.get("fallback")
        return self._asked.get(leaf.place, []) if isinstance(leaf, Leaf) else []

    def check_services(self, defaults: Tree, services: Mapping[str, Sequence[Tree]]) -> None:
        """Report unknown names and cycles. `services` has the effective policies of each service and of its routes."""
        for tree in (defaults, *(tree for trees in services.values() for tree in trees)):
            for name, place in self.asked(tree):
                if name not in services:
                    self._reporter.report(place, unknown_service(name, services))
        edges: dict[str, dict[str, Place]] = {}
        for service, trees in services.items():
            edges[service] = {}
            for tree in trees:
                self._add_edges(edges[service], service, tree)
        self._check_cycles({name: {to: at for to, at in out.items() if to in services} for name, out in edges.items()})

    def _add_edges(self, edges: dict[str, Place], service: str, tree: Tree) -> None:
        leaf = tree.get("fallback")
        for name, place in self.asked(tree):
            if name != service:
                edges.setdefault(name, place)
            elif isinstance(leaf, Leaf) and leaf.level == "defaults":
                # An error, not a skipped step: the rest of the list may be empty, or be meant for the other services.
                message = "would fall back to itself: give it its own fallback, or off"
                self._reporter.report(place, f"service {shown_key(service)} {message}")
            else:
                self._reporter.report(place, "the service would fall back to itself")

    def _check_cycles(self, edges: dict[str, dict[str, Place]]) -> None:
        for _ in range(MAX_CYCLES):
            try:
                TopologicalSorter(edges).prepare()
            except CycleError as error:
                cycle: list[str] = error.args[1][::-1]  # the sorter's own arrows point the other way
                steps = list(pairwise(cycle))
                start = max(steps, key=lambda step: (edges[step[0]][step[1]].line, edges[step[0]][step[1]].column))
                index = steps.index(start)
                around = [shown_key(step[0]) for step in (*steps[index:], *steps[:index])]
                way = " -> ".join([*around, around[0]])
                place = edges[start[0]].pop(start[1])
                self._reporter.report(place, f"services fall back to each other in a cycle: {way}")
            else:
                return

    def _step(self, walker: Walker, node: Node, place: Place, asked: list[tuple[str, Place]]) -> FallbackStep | Any:
        """A step, or INVALID. If it asks a service, that is appended to `asked`."""
        found = walker.entries(node, _KEYS, place)
        if not isinstance(node, MappingNode):
            return INVALID
        kinds = [key for key in found if key in _KINDS]
        if not kinds:
            # If a key was reported as unknown, it may be the one that seems to be missing.
            if len(found) == len(node.entries):
                self._reporter.report(place, f"expected exactly one of {', '.join(_KINDS)}")
            return INVALID
        kind = kinds[0]
        for other in kinds[1:]:
            self._reporter.report(found[other][1], f"{kind} is set as well: keep one of the two")
        strangers = [key for key in found if key not in _KEYS_OF[kind] and key not in kinds]
        if len(kinds) == 1:
            for key in strangers:
                expected = ", ".join(_KEYS_OF[kind])
                self._reporter.report(found[key][1], f"a step with {kind} cannot have this key: expected {expected}")
        own = {key: value for key, value in found.items() if key in _KEYS_OF[kind]}
        tree = walker.tree(own, _KEYS_OF[kind], "service")
        fine = self._fits(tree, node) and not strangers and len(kinds) == 1 and len(found) == len(node.entries)
        service = tree.get("service")
        if isinstance(service, Leaf) and service.value is not INVALID:
            asked.append((service.value, service.place))
        return build(_KINDS[kind], tree) if fine else INVALID

    def _fits(self, tree: Tree, node: MappingNode) -> bool:
        """Whether each value of a step is right. The content of `file` becomes the `body`."""
        values: dict[str, Any] = {key: leaf for key, leaf in tree.items() if isinstance(leaf, Leaf)}
        problems: list[tuple[Place, str]] = []
        methods = values.get("methods")
        if methods and methods.value == frozenset():
            problems.append((methods.place, "expected at least one method; the default is GET and HEAD"))
        headers = values.get("headers")
        if headers:
            mapping = node.entries["headers"].node
            entries = mapping.entries if isinstance(mapping, MappingNode) else {}
            problems += [
                (headers.place.key(name, entry.line, entry.column), "a static answer cannot set this header")
                for name, entry in entries.items()
                if name.lower().startswith(_NOT_TO_SET)
                and not header_name_problem(name)  # otherwise it is reported already
            ]
        if "body" in values and "file" in values:
            problems.append((values["file"].place, "body is set as well: keep one of the two"))
        elif "file" in values:
            tree["body"] = tree.pop("file")
            if values["file"].value is not INVALID:
                tree["body"] = self._read(values["file"])
        body = tree.get("body")
        status = values.get("status")
        if isinstance(body, Leaf) and body.value is not INVALID:
            if len(body.value) > MAX_BODY:
                problems.append((body.place, f"a body can have at most {MAX_BODY >> 20} MiB"))
            elif body.value and status and status.value in _BODILESS:
                problems.append((body.place, "an answer with this status cannot have a body"))
        for place, message in problems:
            self._reporter.report(place, message)
        return not problems and is_valid(tree)

    def _read(self, leaf: Leaf) -> Leaf:
        """The content of the file that the leaf names."""
        path = self._directory / leaf.value
        try:
            if path.exists() and not path.is_file():  # reading a pipe would wait
                self._reporter.report(leaf.place, "cannot be read: not a file")
                return Leaf(INVALID, leaf.place, leaf.level)
            with path.open("rb") as stream:
                return Leaf(stream.read(MAX_BODY + 1), leaf.place, leaf.level)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a valid file name"
            self._reporter.report(leaf.place, f"cannot be read: {reason}")
            return Leaf(INVALID, leaf.place, leaf.level)

    def _check_order(self, steps: Sequence[FallbackStep], places: Sequence[Place]) -> None:
        """Report steps that no request reaches, and stale steps with different `key_headers`."""
        answered: dict[str, Place] = {}
        keyed: tuple[frozenset[str], Place] | None = None
        for step, place in zip(steps, places, strict=True):
            methods = FALLBACK_METHODS if isinstance(step, FallbackStale) else step.methods
            if methods <= answered.keys():
                line = max(answered[method].line for method in methods)
                self._reporter.report(place, f"never reached: the answer in line {line} always comes first")
            if isinstance(step, FallbackStatic):
                answered.update({method: place for method in step.methods if method not in answered})
            elif isinstance(step, FallbackStale):
                keyed = keyed or (frozenset(step.key_headers), place)
                if frozenset(step.key_headers) != keyed[0]:
                    message = f"key_headers must be the same as those of the stale step in line {keyed[1].line}"
                    self._reporter.report(place, message)
