"""Ports: each process has its own, and none is given twice in a row."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ports import FIRST, HOST, SLICE, SLICES, PortSlice, free_ports

ROOT = Path(__file__).resolve().parents[2]


def test_each_process_has_a_slice_of_its_own() -> None:
    random.seed(7)
    one = PortSlice()
    random.seed(7)  # as pytest-randomly does in each worker
    other = PortSlice()
    try:
        a, b = one.take(SLICE - 20), other.take(SLICE - 20)
    finally:
        one.close()
        other.close()
    assert not set(a) & set(b)
    assert len(set(a)) == len(a)
    assert min(a + b) > FIRST
    assert max(a + b) < FIRST + SLICES * SLICE <= 32_768


def test_another_process_keeps_off() -> None:
    mine = free_ports(1)[0]
    script = "from benchmarks.ports import free_ports; print(free_ports(1)[0])"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert (int(run.stdout) - FIRST) // SLICE != (mine - FIRST) // SLICE


def test_one_that_is_taken_is_left_out() -> None:
    ports = PortSlice()
    try:
        first = ports.take(1)[0]
        with socket.socket() as somebody:
            somebody.bind((HOST, first + 1))
            assert first + 1 not in ports.take(3)
        with pytest.raises(OSError, match="ports are free"):
            ports.take(SLICE)
    finally:
        ports.close()
