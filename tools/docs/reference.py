"""The generated pages: which there are, and writing them anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tools.docs import admin_api, commands, keys, reasons

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/reference/keys.md": keys.page,
    "docs/reference/commands.md": commands.page,
    "docs/reference/reasons.md": reasons.page,
    "docs/reference/admin-api.md": admin_api.page,
}


def write(root: Path) -> list[str]:
    """Writes those that are not what they should be; returns their names."""
    stale = [name for name, page in PAGES.items() if not (root / name).is_file() or (root / name).read_text() != page()]
    for name in stale:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(PAGES[name](), encoding="utf-8")
    return stale
