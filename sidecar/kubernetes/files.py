"""The injector's patch on YAML files: workloads of every kind, lists, several documents; comments and order are kept.

Owns where in an object its pods are described. Needs `ruamel.yaml` (the extra `injector`), the YAML library that
remembers comments. A document that nothing is injected into comes out as it went in, byte for byte.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sidecar.kubernetes.patch import patch
from sidecar.kubernetes.patch_path import apply
from sidecar.kubernetes.settings import InjectorSettings

TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where the pod is, by kind."""

MOST_DEPTH: Final = 64
WIDTH: Final = 4096
"""No line is ever broken that was not."""

_MARKER: Final = re.compile(r"^(---(?=\s|$))", re.MULTILINE)
"""Between documents. YAML allows it at the start of a line for nothing else, not even in a block of text."""
_EMPTY: Final = re.compile(r"(?:[ \t]*(?:[#%][^\n]*)?(?:\n|$))*")
"""Nothing, comments, or directives."""
_BREAKS: Final = re.compile("[\x85\u2028\u2029]")
"""Line ends to YAML 1.1, which kubectl reads, and letters to YAML 1.2, which is read here."""
_INDENTED_LISTS: Final = re.compile(r"^( *)[^\s#-][^\n]*:[ \t]*\n\1 +- ", re.MULTILINE)


class BadFile(ValueError):
    """It cannot be read, or holds what cannot be injected into; `str()` says where and why."""


class Injected(Struct, frozen=True):
    """`notes` has a line for each workload, and for each warning; `count` is of those that got a sidecar."""

    text: str
    notes: tuple[str, ...]
    count: int


def inject(text: str, settings: InjectorSettings) -> Injected:
    """The text with a sidecar in each workload that does not refuse it. Raises BadFile."""
    notes: list[str] = []
    made: list[str] = []
    count = line = 0
    after_marker = False
    for piece in _MARKER.split(text):
        is_marker = _MARKER.fullmatch(piece) is not None
        written, done = piece, 0
        if not is_marker and not _EMPTY.fullmatch(piece):
            written, done = _document(piece, line, after_marker, settings, notes)
        made.append(written)
        count += done
        line += piece.count("\n")
        after_marker = is_marker
    return Injected("".join(made), tuple(notes), count)


def _document(
    text: str, line: int, after_marker: bool, settings: InjectorSettings, notes: list[str]
) -> tuple[str, int]:
    """One document, which begins in `line`: as it is now, and how many of its workloads got a sidecar."""
    head, end, body = text.partition("\n") if after_marker else ("", "", text)
    if not _EMPTY.fullmatch(head):  # it begins in the marker's own line
        head, end, body = "", "\n", text
        line -= 1
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    if _INDENTED_LISTS.search(body):
        yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        found = yaml.load(body)
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {line + mark.line + 1 + len(end)}: " if mark is not None else ""
        raise BadFile(f"{where}{getattr(error, 'problem', None) or 'this is no YAML'}") from None
    count = sum(_inject(workload, settings, notes) for workload in _workloads(found, 0))
    if not count:
        return text, 0
    if odd := _BREAKS.search(body):
        name = f"U+{ord(odd[0]):04X}"
        raise BadFile(f"{name} is a line end to YAML 1.1 and a letter to 1.2: write it as an escape, in double quotes")
    out = io.StringIO()
    yaml.dump(found, out)
    return head + end + out.getvalue(), count


def _workloads(document: Any, depth: int) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict) or depth > MOST_DEPTH:
        return
    kind = document.get("kind")
    items = document.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for one in items:
            yield from _workloads(one, depth + 1)
    elif kind in TEMPLATES:
        yield document


def _inject(workload: dict[str, Any], settings: InjectorSettings, notes: list[str]) -> int:
    metadata = workload.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = f"{workload['kind']} {metadata.get('name') or metadata.get('generateName') or '(without a name)'}"
    pod: Any = workload
    for step in TEMPLATES[workload["kind"]]:
        pod = pod.get(step) if isinstance(pod, dict) else None
    if not isinstance(pod, dict):
        raise BadFile(f"{name} has no {'.'.join(TEMPLATES[workload['kind']])}")
    _unshare(pod, set(), 0)
    namespace = metadata.get("namespace")
    result = patch(pod, settings, namespace=namespace if isinstance(namespace, str) else "")
    notes += [f"{name}: warning: {one}" for one in result.warnings]
    if result.denied is not None:
        raise BadFile(f"{name}: {result.denied}")
    if result.skipped is not None:
        notes.append(f"{name}: left as it is ({result.skipped.replace('_', ' ')})")
        return 0
    apply(list(result.patch), pod)
    notes.append(f"{name}: injected")
    return 1


def _unshare(found: Any, seen: set[int], depth: int) -> None:
    """What an alias puts into two places becomes two things: an addition to one would be one to both."""
    if depth > MOST_DEPTH:
        raise BadFile("this is nested too deeply")
    if isinstance(found, dict):
        places: list[Any] = list(found)
    elif isinstance(found, list):
        places = list(range(len(found)))
    else:
        return
    for place in places:
        value = found[place]
        if not isinstance(value, dict | list):
            continue
        if id(value) in seen:
            value = found[place] = copy.deepcopy(value)
            if hasattr(value, "yaml_set_anchor"):
                value.yaml_set_anchor(None)
        seen.add(id(value))
        _unshare(value, seen, depth + 1)
