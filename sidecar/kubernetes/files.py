"""Injects the sidecar into files: workloads of every kind, lists, several documents. It keeps comments and order.

This module owns where each kind of object describes its pods. YAML stays YAML; that needs `ruamel.yaml` (the extra
`injector`), the YAML library that keeps comments. JSON stays JSON, and CRLF stays CRLF. A document without an injection
is returned unchanged, byte for byte.
"""

from __future__ import annotations

import copy
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError

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
"""Where each kind has its pod."""

GROUPS: Final = frozenset({"", "apps", "extensions", "batch"})
"""API groups of Kubernetes' own workloads. A Job of another group is something else (Volcano's, for example)."""

ELSEWHERE: Final = (("template",), ("spec", "template"), ("spec", "jobTemplate", "spec", "template"))
"""Where unknown kinds may have a pod (Argo's Rollout, PodTemplate). They are only reported."""

MOST_DEPTH: Final = 64
MOST_COPIED: Final = 100_000
"""The most values that may be copied to write aliases out. A page of nested aliases can expand beyond any memory."""
WIDTH: Final = 4096
"""So wide that no line is broken that was not broken before."""

_MARKER: Final = re.compile(r"^(---(?=\s|$))", re.MULTILINE)
"""The line between documents. YAML allows it at the start of a line for nothing else, not even in a block of text."""
_MARK: Final = re.compile("^\ufeff", re.MULTILINE)
_EMPTY: Final = re.compile(r"(?:[ \t]*(?:[#%][^\n]*)?(?:\r?\n|$))*")
"""Empty lines, comments and directives."""
_BREAKS: Final = re.compile("[\x85\u2028\u2029]")
"""Line ends in YAML 1.1, which kubectl reads, but letters in YAML 1.2, which this module reads."""
_INDENTED_LISTS: Final = re.compile(r"^( *)[^\s#-][^\n]*:[ \t]*\n\1 +- ", re.MULTILINE)
_JSON_INDENT: Final = re.compile(r"\{\r?\n([ \t]+)\S")
_ODD_IN_JSON: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
"""Characters to escape in JSON: kubectl may read JSON as YAML, and a lone surrogate is not valid UTF-8."""
_TEMPLATE: Final = re.compile(r"\{\{|\{%")
LOST_SECRETS: Final = (
    "the imagePullSecrets of its service account no longer apply, because a pod's own replace them: "
    "name them with --image-pull-secret as well"
)
RENDER_FIRST: Final = "this is a template: render it first (helm template CHART | sidecar inject -f -)"
NO_KEY: Final = "a list or a mapping cannot be a key"


class BadFile(ValueError):
    """The file cannot be read, or has something that cannot be injected into. `str()` says where and why."""


class Injected(Struct, frozen=True):
    """`notes` has a line for each workload and each warning. `count` is the number of workloads that got a sidecar."""

    text: str
    notes: tuple[str, ...]
    count: int


def inject(text: str, settings: InjectorSettings) -> Injected:
    """Returns the text with a sidecar in each workload that does not refuse it. Line ends are kept. Raises BadFile."""
    if mark := _MARK.search(text):
        line = text.count("\n", 0, mark.start()) + 1
        raise BadFile(f"line {line}: it begins with a byte order mark (U+FEFF): save it as UTF-8 without one")
    if text.count("\r") == text.count("\n") == (breaks := text.count("\r\n")) and breaks:
        injected = inject(text.replace("\r\n", "\n"), settings)
        return replace(injected, text=injected.text.replace("\n", "\r\n"))
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
    """Handles one document, which begins at `line`. Returns its new text, and how many workloads got a sidecar."""
    head, end, body = text.partition("\n") if after_marker else ("", "", text)
    if not _EMPTY.fullmatch(head):  # the document begins on the line of its marker
        head, end, body = "", "\n", text
        line -= 1
    found = _json(body)
    is_json = found is not None
    yaml = _yaml(body)
    if not is_json:
        try:
            found = _loaded(yaml, body)
        except (YAMLError, ValueError, RecursionError, TypeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f"line {line + mark.line + 1 + len(end)}: " if mark is not None else ""
            # The TypeError comes from ruamel, which cannot hash a key that is a mapping.
            other = "this is not YAML" if not isinstance(error, TypeError) else NO_KEY
            problem = getattr(error, "problem", None) or other
            raise BadFile(f"{where}{RENDER_FIRST if _TEMPLATE.search(body) else problem}") from None
        if (odd_line := _no_name(found, set())) is not None:
            problem = RENDER_FIRST if _TEMPLATE.search(body) else NO_KEY
            raise BadFile(f"line {line + odd_line + 1 + len(end)}: {problem}")
    workloads = list(_workloads(found, notes))
    if workloads:
        _Unshared().unshare(found, 0)
        workloads = list(_workloads(found, []))
    count = sum(_inject(kind, workload, settings, notes) for kind, workload in workloads)
    if not count:
        return text, 0
    if is_json:
        return head + end + _dumped_json(found, body), count
    if "\r" in body:
        raise BadFile("some of its lines end in CRLF and some in LF: use one of them")
    if odd := _BREAKS.search(body):
        name = f"U+{ord(odd[0]):04X}"
        raise BadFile(f"{name} is a line end in YAML 1.1 and a letter in 1.2: write it as an escape, in double quotes")
    out = io.StringIO()
    yaml.dump(found, out)
    made = out.getvalue()
    if _plain(made) != _expected(body, settings):
        # For example, one pod's map is merged into another's. An addition to one is then hidden in the other, or in
        # both.
        why = (
            "one pod is merged into another (<<): write it out"
            if "<<" in body
            else "it cannot be written back unchanged"
        )
        raise BadFile(why)
    return head + end + made, count


def _plain(text: str) -> Any:
    """Raises BadFile."""
    try:
        return _loaded(YAML(typ="safe", pure=True), text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise BadFile(getattr(error, "problem", None) or "a workload may not have YAML tags") from None


def _expected(body: str, settings: InjectorSettings) -> Any:
    """The expected result as plain values: without aliases and merges."""
    found = _plain(body)
    _Unshared().unshare(found, 0)
    for kind, workload in list(_workloads(found, [])):
        _inject(kind, workload, settings, [])
    return found


def _loaded(yaml: YAML, text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)  # allowed in YAML: an alias means the last anchor
        return yaml.load(text)


def _yaml(body: str) -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    if _INDENTED_LISTS.search(body):
        yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _json(body: str) -> Any:
    """The value of a JSON object; None if this is not one."""
    if not body.lstrip().startswith("{"):
        return None
    try:
        return json.loads(body, object_pairs_hook=_once)
    except (json.JSONDecodeError, RecursionError):
        return None  # a flow mapping of YAML, or nothing at all


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise BadFile(f"the key {name} occurs twice")
        found[name] = value
    return found


def _dumped_json(found: Any, body: str) -> str:
    """Written on one line or on many, like `body`."""
    spaces = _JSON_INDENT.search(body)
    try:
        text = json.dumps(found, indent=spaces[1] if spaces else None, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise BadFile("the nesting is too deep") from None
    except ValueError:
        raise BadFile("it has a number that is out of range") from None
    text = _ODD_IN_JSON.sub(lambda odd: f"\\u{ord(odd[0]):04x}", text)
    return text + body[len(body.rstrip()) :]


def _no_name(found: Any, seen: set[int]) -> int | None:
    """The line, from 0, of a mapping whose key is a mapping or a list. YAML reads `{{ }}` as one."""
    if not isinstance(found, CommentedMap | CommentedSeq) or id(found) in seen:
        return None
    seen.add(id(found))
    if isinstance(found, CommentedMap) and any(
        isinstance(name, Mapping | Sequence) and not isinstance(name, str) for name in found
    ):
        return int(found.lc.line)
    inner = found.values() if isinstance(found, CommentedMap) else found
    return next((line for one in inner if (line := _no_name(one, seen)) is not None), None)


def _workloads(
    document: Any, notes: list[str], depth: int = 0, default: tuple[Any, Any] = (None, None)
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The workloads of known kinds, each with its kind. A workload of an unknown kind with pods is only noted.

    `default` is the kind and `apiVersion` for an object without its own, such as an item of a PodList.
    """
    if not isinstance(document, dict) or depth > MOST_DEPTH:
        return
    kind = document.get("kind", default[0])
    version = document.get("apiVersion", default[1])
    items = document.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        of_items = (kind.removesuffix("List") or None, version)
        for one in items:
            yield from _workloads(one, notes, depth + 1, of_items)
    elif isinstance(kind, str) and kind in TEMPLATES:
        if _group(version) in GROUPS:
            yield kind, document
        else:
            notes.append(f"{_name(kind, document)}: left as it is (of {version}, an unknown group)")
    elif any(_has_containers(_at(document, steps)) for steps in ELSEWHERE):
        name = _name(kind, document)
        notes.append(f"{name}: left as it is (an unknown kind, although it has a pod template)")


def _group(version: Any) -> str:
    """The group of an `apiVersion`. Empty for the core group, and for a missing `apiVersion`."""
    group, slash, _ = str(version or "").partition("/")
    return group if slash else ""


def _at(found: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _has_containers(pod: Any) -> bool:
    return isinstance(_at(pod, ("spec", "containers")), list)


def _name(kind: Any, workload: dict[str, Any]) -> str:
    metadata = workload.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return f"{kind or '(without a kind)'} {metadata.get('name') or metadata.get('generateName') or '(without a name)'}"


def _inject(kind: str, workload: dict[str, Any], settings: InjectorSettings, notes: list[str]) -> int:
    name, steps = _name(kind, workload), TEMPLATES[kind]
    pod = _at(workload, steps)
    if not isinstance(pod, dict):
        raise BadFile(f"{name} has no {'.'.join(steps)}")
    namespace = _at(workload, ("metadata", "namespace"))
    result = patch(pod, settings, namespace=namespace if isinstance(namespace, str) else "", claims=_claims(workload))
    notes += [f"{name}: warning: {one}" for one in result.warnings]
    if result.denied is not None:
        raise BadFile(f"{name}: {result.denied}")
    if result.skipped is not None:
        notes.append(f"{name}: left as it is ({result.skipped.replace('_', ' ')})")
        return 0
    if settings.image_pull_secrets and not _at(pod, ("spec", "imagePullSecrets")):
        notes.append(f"{name}: warning: {LOST_SECRETS}")
    apply(list(result.patch), pod)
    notes.append(f"{name}: injected")
    return 1


def _claims(workload: dict[str, Any]) -> frozenset[str]:
    """The volume claims of a StatefulSet. Each one replaces a volume of the same name in its pods."""
    templates = _at(workload, ("spec", "volumeClaimTemplates"))
    names = [_at(one, ("metadata", "name")) for one in templates] if isinstance(templates, list) else []
    return frozenset(name for name in names if isinstance(name, str))


class _Unshared:
    """Writes aliases out: a value used in two places becomes two, because an addition to one would change both."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._copied = 0

    def unshare(self, found: Any, depth: int) -> None:
        """Follows the order of the text, so that the value with the anchor stays. Raises BadFile."""
        if depth > MOST_DEPTH:
            raise BadFile("the nesting is too deep")
        places: list[Any] = list(found) if isinstance(found, dict) else list(range(len(found)))
        for place in places:
            value = found[place]
            if not isinstance(value, dict | list):
                continue
            if id(value) in self._seen:
                self._copied += 1 + len(value)
                if self._copied > MOST_COPIED:
                    raise BadFile(f"its aliases, written out, would be more than {MOST_COPIED} values")
                value = found[place] = _one_level(value)
                if hasattr(value, "yaml_set_anchor"):
                    value.yaml_set_anchor(None)
            self._seen.add(id(value))
            self.unshare(value, depth + 1)


def _one_level(value: Any) -> Any:
    """A copy of one level with its comments. Nested values are shared; they are copied later, in their turn."""
    inner = value.values() if isinstance(value, dict) else value
    return copy.deepcopy(value, {id(one): one for one in inner if one is not value})
