"""Keys hash the same everywhere, and evenly."""

from __future__ import annotations

import subprocess
import sys

from sidecar.policy.balancers.hashing import key_hash, key_share
from tests.policy.balancers.support import assert_shares

KEYS = [b"user-%d" % number for number in range(20_000)]


def test_the_values_never_change() -> None:
    """Pods of different versions of the sidecar have to agree too."""
    assert key_hash(b"user-1") == 9863422088627006618
    assert key_share(b"user-1", b"priority") == 0.9155171088379205


def test_another_process_with_another_hash_seed_agrees() -> None:
    code = "from sidecar.policy.balancers.hashing import key_hash; print(key_hash(b'user-42'))"
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert int(run.stdout) == key_hash(b"user-42")


def test_keys_that_differ_little_are_spread_evenly() -> None:
    assert_shares((key_hash(key) % 97 for key in KEYS), [1] * 97)
    assert_shares((key_hash(key) >> 58 for key in KEYS), [1] * 64)
    assert_shares((int(key_share(key, b"a") * 50) for key in KEYS), [1] * 50)


def test_decisions_of_different_purpose_are_independent() -> None:
    def cell(key: bytes) -> int:
        return int(key_share(key, b"a") * 5) * 25 + int(key_share(key, b"b") * 5) * 5 + (key_hash(key) >> 32) % 5

    assert_shares((cell(key) for key in KEYS), [1] * 125)
