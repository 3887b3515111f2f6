"""Stable hashes of request keys and endpoint labels: equal in every process, so that several pods agree.

Python's `hash()` of bytes differs from process to process. BLAKE2b (RFC 7693) does not, spreads all keys evenly and
costs well under a microsecond.
"""

from __future__ import annotations

from hashlib import blake2b


def key_hash(key: bytes) -> int:
    """A 64-bit hash of the key."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def key_share(key: bytes, purpose: bytes) -> float:
    """A number in [0, 1) derived from the key; it replaces a random number where equal keys need equal decisions.

    Different `purpose` values (up to 16 bytes) make the decisions about one key independent of each other.
    """
    return (int.from_bytes(blake2b(key, digest_size=8, person=purpose).digest(), "little") >> 11) * 2.0**-53
