"""A file's text as an editor's YAML server reads it (YAML 1.2, core schema): what a JSON Schema is applied to."""

from __future__ import annotations

import re
from typing import Any

from sidecar.config.errors import Reporter
from sidecar.config.yaml_nodes import Mapping, Node, Scalar, Sequence, read

_CORE = (
    (re.compile(r"null|Null|NULL|~|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""YAML 1.2.2, section 10.3.2."""


def values_of(text: str) -> Any:
    """The document."""
    reporter = Reporter("a.yaml")
    node = read(text, reporter)
    assert node is not None
    assert not reporter
    return _value(node)


def scalar_value(text: str) -> Any:
    """A plain scalar."""
    for pattern, typed in _CORE:
        if pattern.fullmatch(text):
            return typed(text)
    return text


def _value(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key: _value(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [_value(item) for item in node.items]
    assert isinstance(node, Scalar)
    return scalar_value(node.text) if node.plain else node.text
