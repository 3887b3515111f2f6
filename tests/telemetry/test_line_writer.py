"""Lines go out in order from their own thread; a reader that stalls costs lines, and never time."""

from __future__ import annotations

import os
import time

from sidecar.telemetry.line_writer import LineWriter


def test_lines_come_out_in_order_and_all_of_them_before_it_closes() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    for number in range(100):
        writer.write(b"%d\n" % number)
    writer.close(5)
    os.close(writing)
    with os.fdopen(reading, "rb") as out:
        assert out.read() == b"".join(b"%d\n" % number for number in range(100))
    assert writer.dropped == 0


def test_a_reader_that_stalls_costs_lines_and_not_time() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, max_queued=100_000)
    line = b"x" * 999 + b"\n"
    began = time.monotonic()
    for _ in range(1000):  # a pipe holds 64 of these, the queue 100
        writer.write(line)
    writer.close(0.01)
    assert time.monotonic() - began < 2
    assert 700 <= writer.dropped <= 936
    os.close(reading)  # the writer's thread gets EPIPE, drops what it has and ends
    writer._thread.join(5)
    assert not writer._thread.is_alive()
    os.close(writing)


def test_what_fits_again_is_written_again() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, max_queued=10)
    writer.write(b"a" * 20 + b"\n")
    writer.write(b"short\n")
    writer.close(5)
    os.close(writing)
    with os.fdopen(reading, "rb") as out:
        assert out.read() == b"short\n"
    assert writer.dropped == 1
