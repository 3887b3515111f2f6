"""Suggests a service name when a request names an unknown service."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_LONGEST_NAME: Final = 63
"""The longest DNS label. Bounded because comparing names takes time."""


def near_name(target: str, names: Iterable[str]) -> str | None:
    """The service name closest to the first path segment of a target; None when none is close."""
    segment = target.partition("?")[0].lstrip("/").partition("/")[0][:_LONGEST_NAME]
    return next(iter(get_close_matches(segment, names, n=1, cutoff=0.6)), None)
