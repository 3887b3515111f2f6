"""tests/support/stalls.py: the witness has seen what it is there for."""

from __future__ import annotations

import os
import signal
import time

from tests.support.eventually import eventually
from tests.support.stalls import STALL_S, Witness


def test_a_witness_that_is_stopped_has_seen_a_stall() -> None:
    witness = Witness()
    try:
        threads = f"/proc/{witness._process.pid}/task"
        eventually(lambda: len(os.listdir(threads)) == 1 + len(os.sched_getaffinity(0)))
        began = time.monotonic()
        witness._process.send_signal(signal.SIGSTOP)
        time.sleep(2 * STALL_S)
        witness._process.send_signal(signal.SIGCONT)
        assert witness.longest_s(began) >= STALL_S
        assert witness.longest_s(time.monotonic() + 60) == 0.0
    finally:
        witness.close()
    assert witness._process.returncode == 0
