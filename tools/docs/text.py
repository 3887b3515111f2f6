"""Plain text of the program as Markdown: what is written in docstrings, help texts and schemas, on a page.

Owns the signs that mean something to Markdown, outside of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`+[^`]+`+)")


def prose(text: str) -> str:
    """A text on one line, with its code as it is, and no sign taken for markup elsewhere."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if place % 2 else _escaped(part) for place, part in enumerate(parts))


def sentence(text: str) -> str:
    """`prose` that ends with a full stop."""
    text = prose(text)
    return text if text.endswith((".", "!", "?", ":")) else text + "."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(text: str) -> str:
    """A word as code."""
    return f"`{text}`"


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*\[\]\\]|(?<!\w)_|_(?!\w))", r"\\\1", text)
