"""Parse YAML 1.2: from text to a tree of nodes with line numbers.

Owns syntax, anchors and aliases, merge keys, repeated keys, and the limits that keep a hostile file cheap. Values get
no type here. PyYAML only supplies events, from its C parser if it has one. The rest of PyYAML is not used: its composer
recurses as deep as the file, and accepts repeated keys and recursive aliases; its resolver reads `on` and `017` as YAML
1.1 does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import yaml
from msgspec import Struct

from sidecar.config.errors import Place, Reporter

MAX_NODES = 100_000
"""Counted with aliases followed: enough for thousands of services. Nine levels of nine aliases would be 10^9."""

MAX_DEPTH = 32
"""The schema has 7 levels."""

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

Loader = type[yaml.SafeLoader] | type[yaml.CSafeLoader]
LOADER: Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
_RETYPED_TAGS = frozenset({_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"})
_LIBYAML_TOO_DEEP = "exceeded maximum nesting depth"
"""The C parser has a limit of its own (libyaml 0.2.6: 1,000 levels). It may raise before it reports the first level."""
_NO_TAGS = "tags (!...) are not supported: remove this one"
# YAML 1.2, section 5.1: c-printable; a byte order mark only at the start, where `read` has dropped it.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class Node(Struct):
    """`size` counts the nodes from here down and `height` the levels, both with aliases followed."""

    line: int
    column: int
    size: int = 1
    height: int = 1


class Scalar(Node, kw_only=True):
    """A string as it stands in the file; a plain (unquoted) one may mean null."""

    text: str
    plain: bool


class Sequence(Node, kw_only=True):
    """A list."""

    items: list[Node]


class Entry(Struct):
    """A key's value, and where the key stands."""

    line: int
    column: int
    node: Node


class Mapping(Node, kw_only=True):
    """Entries by key, in the order of the file; those of merge keys come last."""

    entries: dict[str, Entry]


class _RefusedError(Exception):
    """Composing cannot go on: the file has no usable tree."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


def read(text: str, reporter: Reporter, *, loader: Loader = LOADER) -> Node | None:
    """The document of `text`, or None if there is no usable tree. Mistakes go to `reporter`.

    After a repeated key, and similar mistakes, composing goes on. A syntax error ends it.
    """
    text = text.removeprefix("\ufeff")
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        line, column = _position(text, forbidden.start())
        reporter.report(Place(line, column), "YAML does not allow this character")
        return None
    try:
        return _Composer(reporter).compose(yaml.parse(text, Loader=loader))
    except _RefusedError as refused:
        reporter.report(Place(refused.line, refused.column), refused.message)
    except yaml.MarkedYAMLError as error:
        reporter.report(*_syntax_error(error, text.split("\n")))
    except (yaml.YAMLError, ValueError, OverflowError):
        # The pure Python scanner passes some bad escapes and directives to chr() and int(), which raise these.
        reporter.report(Place(1, 1), "cannot be read as YAML")
    return None


def _position(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _syntax_error(error: yaml.MarkedYAMLError, lines: list[str]) -> tuple[Place, str]:
    line, column = _spot(error.problem_mark or error.context_mark)
    if line > len(lines):
        line, column = len(lines), len(lines[-1]) + 1
    if error.problem == _LIBYAML_TOO_DEEP:
        return Place(line, column), _TOO_DEEP
    message = f"not valid YAML: {error.problem or error.context}"
    if error.problem and error.context and error.context_mark and error.context_mark.line + 1 != line:
        message += f", {error.context} that begins in line {error.context_mark.line + 1}"
    if lines[line - 1][column - 1 : column] == "\t":
        message = "tab: YAML is indented with spaces only"
    elif any("${" in near for near in lines[max(line - 2, 0) : line]):
        message += "; inside { } and [ ] a ${...} must be in quotes"
    return Place(line, column), message


def _spot(mark: yaml.error.Mark | yaml._yaml.Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


class _Key(Struct):
    """The key whose value comes next."""

    text: str
    line: int
    column: int
    role: Literal["entry", "merge", "dropped"]


class _Frame(Struct):
    """A list or mapping that is being filled."""

    node: Sequence | Mapping
    place: Place
    anchor: str | None
    key: _Key | None = None
    merge: tuple[Node, Place] | None = None


class _Composer:
    """Makes nodes from events. It has its own stack, instead of recursion."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}  # None: still open, so an alias to it would be recursive
        self._total = 0
        self._root: Node | None = None

    def compose(self, events: Iterable[yaml.Event]) -> Node | None:
        documents = 0
        for event in events:
            line, column = _spot(event.start_mark)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _RefusedError(line, column, "a second document begins here: a file can have only one")
            elif isinstance(event, yaml.AliasEvent) and event.anchor is not None:
                self._attach(self._aliased(event.anchor, line, column), line, column)
            elif isinstance(event, yaml.ScalarEvent):
                self._attach(self._scalar(event, line, column), line, column)
            elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                self._open(event, line, column)
            elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                self._close()
        return self._root

    def _aliased(self, anchor: str, line: int, column: int) -> Node:
        if anchor not in self._anchors:
            raise _RefusedError(line, column, f"the alias *{anchor} has no anchor &{anchor} before it")
        node = self._anchors[anchor]
        if node is None:
            raise _RefusedError(line, column, f"the alias *{anchor} is inside its own anchor")
        self._count(node, line, column)
        return node

    def _scalar(self, event: yaml.ScalarEvent, line: int, column: int) -> Scalar:
        plain = event.implicit[0] if event.tag is None else event.tag in _RETYPED_TAGS
        if event.tag not in (None, "!", _TAG + "str") and event.tag not in _RETYPED_TAGS:
            self._reporter.report(self._here(line, column), _NO_TAGS)
        node = Scalar(line, column, text=event.value, plain=plain)
        self._count(node, line, column)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _open(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent, line: int, column: int) -> None:
        place = self._here(line, column)
        node: Sequence | Mapping
        if isinstance(event, yaml.SequenceStartEvent):
            node, tag = Sequence(line, column, items=[]), _TAG + "seq"
        else:
            node, tag = Mapping(line, column, entries={}), _TAG + "map"
        if event.tag not in (None, "!", tag):
            self._reporter.report(place, _NO_TAGS)
        self._count(node, line, column)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(node, place, event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.merge is not None and isinstance(frame.node, Mapping):
            self._merge(frame.node, *frame.merge)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = frame.node
        self._attach(frame.node, frame.node.line, frame.node.column)

    def _attach(self, node: Node, line: int, column: int) -> None:
        """Put a finished node into its parent. `line` and `column` are where it is used: for an alias, its own."""
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        parent = frame.node
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif frame.key is None:
            frame.key = self._key(node, frame, line, column)
        else:
            key, frame.key = frame.key, None
            if key.role == "entry":
                parent.entries[key.text] = Entry(key.line, key.column, node)
            elif key.role == "merge":
                frame.merge = node, Place(key.line, key.column, frame.place.path)

    def _key(self, node: Node, frame: _Frame, line: int, column: int) -> _Key:
        if not isinstance(node, Scalar):
            place = Place(line, column, frame.place.path)
            self._reporter.report(place, "a key must be a string, not a list or a mapping")
            return _Key("?", line, column, "dropped")
        key = _Key(node.text, line, column, "merge" if node.plain and node.text == "<<" else "entry")
        assert isinstance(frame.node, Mapping)
        earlier = frame.node.entries.get(node.text)
        if key.role == "merge" and frame.merge is not None:
            first = frame.merge[1].line
        elif key.role == "entry" and earlier is not None:
            first = earlier.line
        else:
            return key
        self._reporter.report(frame.place.key(node.text, line, column), f"repeated key: already in line {first}")
        key.role = "dropped"
        return key

    def _merge(self, mapping: Mapping, source: Node, place: Place) -> None:
        """The merge key of YAML 1.1: keys of the mapping itself win, then keys of earlier sources."""
        sources = source.items if isinstance(source, Sequence) else [source]
        for merged in sources:
            if not isinstance(merged, Mapping):
                self._reporter.report(place, "<< needs an alias of a mapping, or a list of such aliases")
                return
            for name, entry in merged.entries.items():
                mapping.entries.setdefault(name, entry)

    def _here(self, line: int, column: int) -> Place:
        """The place of the node that starts now."""
        if not self._stack:
            return Place(line, column)
        frame = self._stack[-1]
        if isinstance(frame.node, Sequence):
            return frame.place.item(len(frame.node.items), line, column)
        return frame.place.key(frame.key.text, line, column) if frame.key else Place(line, column, frame.place.path)

    def _count(self, node: Node, line: int, column: int) -> None:
        self._total += node.size
        if self._total > MAX_NODES:
            raise _RefusedError(line, column, f"more than {MAX_NODES} values, with aliases followed")
        if len(self._stack) + node.height > MAX_DEPTH:
            raise _RefusedError(line, column, _TOO_DEEP)
