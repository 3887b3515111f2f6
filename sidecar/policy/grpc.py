"""gRPC's own words: statuses, timeouts, messages and pushback, and which status stands for which other end of a call.

Owns the mappings, each with its source. Which statuses fail a call or are retried says the policy of its route; where
these words stand in a message is `sidecar.proxy.h2`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

STATUSES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""The names, each at the place of its number."""

NUMBERS: Final[Mapping[str, int]] = MappingProxyType({name: number for number, name in enumerate(STATUSES)})

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

REASON_STATUS: Final[dict[str, int]] = {
    "connect_failure": UNAVAILABLE,
    "connect_timeout": UNAVAILABLE,
    "reset": UNAVAILABLE,
    "no_endpoint": UNAVAILABLE,
    "circuit_open": UNAVAILABLE,
    "stale_connection": UNAVAILABLE,
    "overloaded": RESOURCE_EXHAUSTED,
    "rate_limited": RESOURCE_EXHAUSTED,
    "attempt_timeout": DEADLINE_EXCEEDED,
    "request_timeout": DEADLINE_EXCEEDED,
    "unknown_service": UNIMPLEMENTED,
    "bad_request": INVALID_ARGUMENT,
    "bad_response": INTERNAL,
    "truncated": INTERNAL,
    "loop": INTERNAL,
    "internal": INTERNAL,
    "aggregate_failed": INTERNAL,
    "client_disconnect": CANCELLED,
}
"""The status of an answer that the sidecar gives itself."""

_HTTP_STATUS: Final[Mapping[int, int]] = MappingProxyType(
    {
        400: INTERNAL,
        401: UNAUTHENTICATED,
        403: PERMISSION_DENIED,
        404: UNIMPLEMENTED,
        429: UNAVAILABLE,
        502: UNAVAILABLE,
        503: UNAVAILABLE,
        504: UNAVAILABLE,
    }
)

_RESET_STATUS: Final[Mapping[int, int]] = MappingProxyType({7: UNAVAILABLE, 8: CANCELLED, 11: RESOURCE_EXHAUSTED})
"""REFUSED_STREAM, CANCEL and ENHANCE_YOUR_CALM."""

LONGEST_MESSAGE: Final = 1024
"""Bytes of a grpc-message of ours. Clients and proxies allow 8 KiB and more for all trailers together."""

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_NS: Final[Mapping[bytes, int]] = MappingProxyType(
    {
        b"n": 1,
        b"u": 1_000,
        b"m": 1_000_000,
        b"S": 1_000_000_000,
        b"M": 60_000_000_000,
        b"H": 3_600_000_000_000,
    }
)
_MOST: Final = 99_999_999
"""The largest number of a grpc-timeout: eight digits."""

_PUSHBACK: Final = re.compile(rb"[0-9]{1,10}")
_MOST_PUSHBACK: Final = (1 << 31) - 1

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_ESCAPED: Final = tuple(
    bytes([byte]) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in range(256)
)


def name_of(status: int) -> str:
    """The name of a status; UNKNOWN for a number that gRPC does not have, as its libraries read one."""
    return STATUSES[status] if 0 <= status < len(STATUSES) else "UNKNOWN"


def numbers_of(names: Iterable[object]) -> frozenset[int]:
    """The numbers of those that are names of statuses."""
    return frozenset(NUMBERS[name] for name in names if isinstance(name, str) and name in NUMBERS)


def status_of_http(status: int) -> int:
    """What a call has come to whose answer is HTTP, but not gRPC (gRPC's doc/http-grpc-status-mapping.md)."""
    return _HTTP_STATUS.get(status, UNKNOWN)


def status_of_reset(code: int) -> int:
    """What a call has come to whose stream the service reset (gRPC's doc/PROTOCOL-HTTP2.md, *Errors*). A code below 0
    means that the connection ended."""
    return UNAVAILABLE if code < 0 else _RESET_STATUS.get(code, INTERNAL)


def parse_timeout(raw: bytes) -> float | None:
    """Seconds of a grpc-timeout; None for anything else than up to eight digits and a unit."""
    found = _TIMEOUT.fullmatch(raw)
    return int(found[1]) * _UNIT_NS[found[2]] / 1e9 if found else None


def format_timeout(seconds: float) -> bytes:
    """A grpc-timeout in the smallest unit that eight digits hold, rounded up, as grpc-go writes it."""
    left_ns = round(min(seconds, 1e12) * 1e9)
    if left_ns <= 0:
        return b"0n"
    for unit, size_ns in _UNIT_NS.items():
        count = -(-left_ns // size_ns)
        if count <= _MOST:
            return b"%d%b" % (count, unit)
    return b"%dH" % _MOST


def parse_pushback(raw: bytes) -> float | None:
    """Seconds of a grpc-retry-pushback-ms; None where it forbids to try again. One that is negative does, and so does
    one that cannot be read (gRPC's proposal A6)."""
    found = _PUSHBACK.fullmatch(raw)
    milliseconds = int(raw) if found else -1
    return milliseconds / 1000 if 0 <= milliseconds <= _MOST_PUSHBACK else None


def encode_message(text: str, most: int = LONGEST_MESSAGE) -> bytes:
    """A grpc-message: UTF-8, percent-encoded, of at most `most` bytes. A longer text is cut between two characters.

    A space at either end is encoded too: the value of an HTTP/2 field has none there (RFC 9113, section 8.2.1).
    """
    pieces: list[bytes] = []
    size = 0
    last = len(text) - 1
    for at, character in enumerate(text):
        if character == " " and at in (0, last):
            piece = b"%20"
        else:
            piece = b"".join([_ESCAPED[byte] for byte in character.encode("utf-8", "replace")])
        size += len(piece)
        if size > most:
            break
        pieces.append(piece)
    while pieces and pieces[-1] == b" ":  # where the text was cut
        pieces.pop()
    return b"".join(pieces)


def decode_message(raw: bytes) -> str:
    """The text of a grpc-message. What is no escape or no UTF-8 is kept or replaced: a message is never refused."""
    if b"%" in raw:
        raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw)
    return raw.decode("utf-8", "replace")


def in_words(status: int, message: bytes) -> str:
    """For logs and people: `14 UNAVAILABLE: words`."""
    words = "".join(one if one.isprintable() else " " for one in decode_message(message)).strip()
    return f"{status} {name_of(status)}: {words}" if words else f"{status} {name_of(status)}"
