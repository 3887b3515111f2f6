"""Reads CPU and memory in Kubernetes' notation: checks and compares them, but never computes with them.

This module owns the subset of `resource.Quantity` that people write: `100m`, `0.5`, `2`; `64Mi`, `1Gi`, `128M`, bytes.
Exponents and prefixes beyond `T` are refused. A sidecar never needs them, and a typing error may look like one.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from msgspec import Struct

_CPU: Final = re.compile(r"(?:[0-9]{1,3}(?:\.[0-9]{1,3})?|[0-9]{1,6}m)", re.ASCII)
_MEMORY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)(Ki|Mi|Gi|Ti|k|M|G|T)?", re.ASCII)
_BYTES: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}

LEAST_CPU: Final = Decimal("0.001")
LEAST_CPU_LIMIT: Final = Decimal("0.05")
"""With tracing, the start takes 0.45 s of a core, and `sidecar wait` beside it takes 0.1 s. With this limit that is 11
s of the 60 s that a start may take, and 44 s on a core four times slower. With 10m, hardly any start would be in time.
"""
MOST_CPU: Final = Decimal(64)
LEAST_MEMORY: Final = 32 << 20
LEAST_MEMORY_LIMIT: Final = 64 << 20
"""The process uses 53 MiB after its start, or 62 MiB with tracing. With less memory the kernel would kill it."""
MOST_MEMORY: Final = 64 << 30


class BadQuantity(ValueError):
    """Not a quantity, or one that does not suit a sidecar. `str()` says why."""


class Resources(Struct, frozen=True):
    """What a container requests, and its limit. An empty limit means no limit."""

    request: str
    limit: str = ""


def cpu(text: str) -> Decimal:
    """The number of cores. Raises BadQuantity."""
    if not _CPU.fullmatch(text):
        raise BadQuantity("expected CPU such as 100m or 0.5")
    cores = Decimal(text[:-1]) / 1000 if text.endswith("m") else Decimal(text)
    if not LEAST_CPU <= cores <= MOST_CPU:
        raise BadQuantity(f"expected CPU between 1m and {MOST_CPU}")
    return cores


def memory(text: str) -> Decimal:
    """The number of bytes. Raises BadQuantity."""
    found = _MEMORY.fullmatch(text)
    if not found:
        raise BadQuantity("expected memory such as 64Mi")
    size = Decimal(found[1]) * _BYTES[found[2] or ""]
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        raise BadQuantity("expected memory between 32Mi and 64Gi")
    return size


def cpu_resources(text: str) -> Resources:
    """Reads `REQUEST` or `REQUEST/LIMIT`. Without LIMIT there is no limit. Raises BadQuantity."""
    request, slash, limit = text.partition("/")
    least = cpu(request)
    if slash:
        most = cpu(limit)
        if most < LEAST_CPU_LIMIT:
            raise BadQuantity("expected a limit of at least 50m; with less the sidecar would not start in time")
        if most < least:
            raise BadQuantity("expected a limit that is not below the request")
    return Resources(request, limit)


def memory_resources(text: str) -> Resources:
    """Reads `REQUEST` or `REQUEST/LIMIT`. Without LIMIT, the request is the limit too. Raises BadQuantity."""
    request, slash, limit = text.partition("/")
    least = memory(request)
    most = memory(limit) if slash else least
    if most < LEAST_MEMORY_LIMIT:
        raise BadQuantity("expected a limit of at least 64Mi; with less the sidecar would not start")
    if most < least:
        raise BadQuantity("expected a limit that is not below the request")
    return Resources(request, limit or request)
