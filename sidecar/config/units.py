"""Parse and format durations, sizes, numbers, percentages, booleans, statuses, methods and file names.

A parser takes the text of a YAML scalar, and raises BadValueError. Bounds are in the structs (`Meta`); addresses are
`sidecar.config.addresses`.
"""

from __future__ import annotations

import math
import re

from sidecar.config.errors import BadValueError
from sidecar.policy.grpc import NUMBERS, STATUSES
from sidecar.policy.settings import RETRY_REASONS

# The number of digits is limited everywhere: nothing becomes infinite, or meets Python's limit on long integers.
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")
_MEASURE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,12})?)([A-Za-z]*)")

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DECIMAL_SIZES = frozenset({"K", "M", "G", "KB", "MB", "GB", "kB", "k", "Ki", "Mi", "Gi"})

_UPPER_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_UNFIT_FOR_A_FILE = re.compile("[\x00-\x1f\x7f-\x9f]")
_STATUSES = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `1.5s`, `2m`, `1h`."""
    found = _MEASURE.fullmatch(text)
    if found and not found[2]:
        raise BadValueError("a duration needs a unit: 250ms, 5s, 2m or 1h")
    if not found or found[2] not in _MILLISECONDS:
        raise BadValueError("expected a duration such as 250ms, 5s, 2m or 1h")
    # Milliseconds first: 25ms is then exactly the float 0.025, as it is in the defaults of the structs.
    return float(found[1]) * _MILLISECONDS[found[2]] / 1000


def format_duration(seconds: float) -> str:
    """The shortest form in whole units. A value that is not a whole number of milliseconds gets a fraction of them."""
    milliseconds = seconds * 1000
    if not math.isclose(milliseconds, round(milliseconds), rel_tol=1e-12):
        return f"{milliseconds:.12f}".rstrip("0").rstrip(".") + "ms"
    whole = round(milliseconds)
    unit = next(unit for unit in ("h", "m", "s", "ms") if whole % _MILLISECONDS[unit] == 0) if whole else "s"
    return f"{whole // _MILLISECONDS[unit]}{unit}"


def parse_size(text: str) -> int:
    """Bytes of `512`, `512B`, `64KiB`, `1.5MiB`."""
    found = _MEASURE.fullmatch(text)
    if found and found[2] in _DECIMAL_SIZES:
        raise BadValueError("expected a size in B, KiB, MiB or GiB (1KiB is 1024 bytes)")
    if not found or (found[2] and found[2] not in _BYTES):
        raise BadValueError("expected a size such as 512B, 64KiB or 1MiB")
    size = float(found[1]) * _BYTES[found[2] or "B"]
    if size != int(size):
        raise BadValueError("expected a size that is a whole number of bytes, such as 64KiB")
    return int(size)


def format_size(size: int) -> str:
    """The shortest form in whole units."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if size % _BYTES[unit] == 0) if size else "B"
    return f"{size // _BYTES[unit]}{unit}"


def parse_whole(text: str) -> int:
    """Decimal digits only: YAML readers do not agree on `017`, `0o17`, `1_000` and `1:30`."""
    if not _WHOLE.fullmatch(text):
        raise BadValueError("expected a whole number")
    return int(text)


def parse_number(text: str) -> float:
    """A number with or without a fraction; no exponent, no infinity."""
    if not _NUMBER.fullmatch(text):
        raise BadValueError("expected a number")
    return float(text)


def parse_percentage(text: str) -> float:
    """`50` or `50%`."""
    number = text.removesuffix("%")
    if not _NUMBER.fullmatch(number):
        raise BadValueError("expected a percentage such as 50 or 50%")
    return float(number)


def parse_boolean(text: str) -> bool:
    """`true` or `false`, as in YAML 1.2. No other word."""
    if text not in ("true", "false"):
        raise BadValueError("expected true or false")
    return text == "true"


def parse_statuses(text: str) -> range:
    """`503`, or the range `500-599` with both ends."""
    found = _STATUSES.fullmatch(text)
    if not found:
        raise BadValueError("expected a status from 100 to 599, or a range such as 500-599")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise BadValueError("expected a range with the lower status first, such as 500-599")
    return range(first, last + 1)


def parse_retry_conditions(text: str) -> tuple[str] | range:
    """One of RETRY_REASONS, a status, a range of statuses, or the name of a status of gRPC."""
    if text in RETRY_REASONS:
        return (text,)
    if text.upper() in NUMBERS:
        return parse_grpc_statuses(text)
    try:
        return parse_statuses(text)
    except BadValueError:
        reasons = ", ".join(sorted(RETRY_REASONS))
        raise BadValueError(
            f"expected one of {reasons}, a status, a range such as 502-504, or a status of gRPC such as UNAVAILABLE"
        ) from None


def parse_grpc_statuses(text: str) -> tuple[str]:
    """The name of a status of gRPC that a failed call may have, as a tuple of one."""
    if text == "OK":
        raise BadValueError("OK is the status of calls that succeed: expected another one, such as UNAVAILABLE")
    if text in NUMBERS:
        return (text,)
    if text.upper() in NUMBERS:
        raise BadValueError(f"the statuses of gRPC are written in upper case: {text.upper()}")
    if text.isascii() and text.isdigit() and int(text[:3]) < len(STATUSES):
        raise BadValueError(f"the statuses of gRPC are written by name: {STATUSES[int(text[:3])]}")
    raise BadValueError(f"expected a status of gRPC: one of {', '.join(STATUSES[1:])}")


def parse_methods(text: str) -> tuple[str]:
    """One method, as a tuple of one. Methods are case sensitive (RFC 9110, section 9.1), so `get` is a mistake."""
    if _UPPER_METHOD.fullmatch(text):
        return (text,)
    if text.isascii() and _UPPER_METHOD.fullmatch(text.upper()):
        raise BadValueError("methods are case-sensitive: write them in upper case, such as GET")
    raise BadValueError("expected an HTTP method such as GET")


def parse_file_path(text: str) -> str:
    """The path of a file. A name that a log line cannot show is refused."""
    if not text or _UNFIT_FOR_A_FILE.search(text):
        raise BadValueError("expected the path of a file, without control characters")
    return text
