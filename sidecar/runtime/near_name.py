"""Which service somebody may have meant who asked for one that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_LONGEST_NAME: Final = 63
"""As DNS has it; the comparison of names is what takes time."""


def near_name(target: str, names: Iterable[str]) -> str | None:
    """The name that is nearest to the first path segment of a target; None where none is near."""
    segment = target.partition("?")[0].lstrip("/").partition("/")[0][:_LONGEST_NAME]
    return next(iter(get_close_matches(segment, names, n=1, cutoff=0.6)), None)
