"""Why an installation runs from its sources: what the build wrote down about itself (setup.py)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_REASON: Final = files("sidecar.config") / "files" / "not_compiled.txt"


def why_not_compiled(file: Traversable = _REASON) -> str | None:
    """In a few words. None where the data path is compiled, and in a checkout, where nothing was built."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
