"""What a request's key, and an endpoint's label, hash to: the same in every process, so that several pods agree.

Python's own `hash()` of bytes differs from process to process; BLAKE2b (RFC 7693) does not, spreads any keys evenly,
and costs well under a microsecond.
"""

from __future__ import annotations

from hashlib import blake2b


def key_hash(key: bytes) -> int:
    """64 bits."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def key_share(key: bytes, purpose: bytes) -> float:
    """In [0, 1), in place of a random number where requests of one key are to be decided alike.

    `purpose` (up to 16 bytes) makes decisions about the same key independent of each other.
    """
    return (int.from_bytes(blake2b(key, digest_size=8, person=purpose).digest(), "little") >> 11) * 2.0**-53
