"""Lines go out in order from their own thread; a reader that stalls costs lines, and never time."""

from __future__ import annotations

import os
import select
import time
from concurrent.futures import ThreadPoolExecutor

from sidecar.telemetry.line_writer import LineWriter
from tests.support.eventually import eventually


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


def test_lines_are_written_again_when_they_fit() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, max_queued=10)
    writer.write(b"a" * 20 + b"\n")
    writer.write(b"short\n")
    writer.close(5)
    os.close(writing)
    with os.fdopen(reading, "rb") as out:
        assert out.read() == b"short\n"
    assert writer.dropped == 1


def test_a_descriptor_that_does_not_block_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LineWriter(writing)
    lines = [b"%d " % number + b"x" * 999 + b"\n" for number in range(500)]  # a pipe holds some 64 of them
    for line in lines:
        writer.write(line)
    eventually(lambda: not select.select([], [writing], [], 0)[1])  # it is full
    with os.fdopen(reading, "rb") as out, ThreadPoolExecutor() as threads:
        read = threads.submit(out.read)
        writer.close(5)
        os.close(writing)
        assert read.result(5) == b"".join(lines)
    assert writer.dropped == 0


def test_lines_that_cannot_be_written_are_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(writing)
    writer.write(b"one\ntwo\n")
    writer.write(b"three\n")
    writer.close(5)
    os.close(writing)
    assert writer.dropped == 3
