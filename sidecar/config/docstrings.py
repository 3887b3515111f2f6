"""Read the docstrings of the structs' fields and of type aliases, for the descriptions in the JSON Schema.

Python does not keep these docstrings, so they are read from the source. Without the source there are none.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from msgspec import Struct

from sidecar.config import schema
from sidecar.policy import settings


@cache
def docstrings(struct: type[Struct]) -> Mapping[str, str]:
    """Key -> its docstring. The struct's own docstring is at ''."""
    for node in _source(sys.modules[struct.__module__]).body:
        if isinstance(node, ast.ClassDef) and node.name == struct.__name__:
            own = ast.get_docstring(node)
            fields = dict(_documented(node.body))
            return MappingProxyType({**({"": _flowing(own)} if own else {}), **fields})
    return MappingProxyType({})


def docstring_of(alias: Any) -> str | None:
    """The docstring of an alias such as `Duration`, which says how a value is written."""
    return next((text for hint, text in _aliases() if hint == alias), None)


@cache
def _aliases() -> tuple[tuple[Any, str], ...]:
    return tuple(
        (getattr(module, name), text)
        for module in (settings, schema)
        for name, text in _documented(_source(module).body)
        if hasattr(module, name)
    )


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """The names that are assigned or annotated, each with the string on the line below it."""
    for statement, below in pairwise(body):
        if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
            continue
        text = below.value.value
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(text, str):
                yield target.id, _flowing(text)


@cache
def _source(module: ModuleType) -> ast.Module:
    path = Path(module.__file__ or "").with_name(module.__name__.rpartition(".")[2] + ".py")
    return ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")


def _flowing(text: str) -> str:
    """The text as one line: an editor breaks it itself."""
    return " ".join(text.split())
