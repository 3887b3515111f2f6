"""What a YAML text gets wrong, as one line for each mistake."""

from __future__ import annotations

from sidecar.config.errors import ConfigErrors
from sidecar.config.load import loads


def errors(text: str) -> list[str]:
    """`line path: message` of each."""
    try:
        loads(text, "a.yaml", {})
    except ConfigErrors as failure:
        return [f"{error.line} {error.path}: {error.message}" for error in failure.errors]
    return []
