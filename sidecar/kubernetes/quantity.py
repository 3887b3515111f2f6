"""CPU and memory in Kubernetes' notation: checked, compared, never computed with.

Owns the subset of `resource.Quantity` that people write: `100m`, `0.5`, `2`; `64Mi`, `1Gi`, `128M`, bytes. Exponents
and the prefixes beyond `T` are refused: nobody gives them to a sidecar, and a typing error looks like them.
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
"""Starting takes 0.45 s of a core, with tracing, and `sidecar wait` beside it 0.1: 11 s of the 60 that a start may
take, and 44 on a core four times slower. With 10m hardly any would be in time."""
MOST_CPU: Final = Decimal(64)
LEAST_MEMORY: Final = 32 << 20
LEAST_MEMORY_LIMIT: Final = 64 << 20
"""The process has 53 MiB after its start, 62 with tracing: with less the kernel would end it."""
MOST_MEMORY: Final = 64 << 30


class BadQuantity(ValueError):
    """It is no quantity, or none that a sidecar could have; `str()` says why."""


class Resources(Struct, frozen=True):
    """What a container asks for and what it may have; no limit where that is empty."""

    request: str
    limit: str = ""


def cpu(text: str) -> Decimal:
    """Cores. Raises BadQuantity."""
    if not _CPU.fullmatch(text):
        raise BadQuantity("expected CPU such as 100m or 0.5")
    cores = Decimal(text[:-1]) / 1000 if text.endswith("m") else Decimal(text)
    if not LEAST_CPU <= cores <= MOST_CPU:
        raise BadQuantity(f"expected CPU between 1m and {MOST_CPU}")
    return cores


def memory(text: str) -> Decimal:
    """Bytes. Raises BadQuantity."""
    found = _MEMORY.fullmatch(text)
    if not found:
        raise BadQuantity("expected memory such as 64Mi")
    size = Decimal(found[1]) * _BYTES[found[2] or ""]
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        raise BadQuantity("expected memory between 32Mi and 64Gi")
    return size


def cpu_resources(text: str) -> Resources:
    """`REQUEST` or `REQUEST/LIMIT`; without a limit there is none. Raises BadQuantity."""
    request, slash, limit = text.partition("/")
    least = cpu(request)
    if slash:
        most = cpu(limit)
        if most < LEAST_CPU_LIMIT:
            raise BadQuantity("expected a limit of 50m at least, for it would not start in time")
        if most < least:
            raise BadQuantity("expected a limit that is not below the request")
    return Resources(request, limit)


def memory_resources(text: str) -> Resources:
    """`REQUEST` or `REQUEST/LIMIT`; without a limit it is the request. Raises BadQuantity."""
    request, slash, limit = text.partition("/")
    least = memory(request)
    most = memory(limit) if slash else least
    if most < LEAST_MEMORY_LIMIT:
        raise BadQuantity("expected a limit of 64Mi at least, for it would not start with less")
    if most < least:
        raise BadQuantity("expected a limit that is not below the request")
    return Resources(request, limit or request)
