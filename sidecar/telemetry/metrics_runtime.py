"""Prometheus metrics that every process has: memory, CPU, descriptors, Python's version and its garbage collector.

Owns `process_*`, `python_info` and `python_gc_*`. Names, help texts and meanings are those of Prometheus' client
libraries, so that dashboards made for any process show this one too.
"""

from __future__ import annotations

import gc
import os
import platform
import resource
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

from sidecar.telemetry.families import CounterFamily, Family, GaugeFamily

PROC: Final = Path("/proc")


def runtime_families(proc: Path = PROC) -> Iterator[Family]:
    """`proc` is the mount of procfs. Without one there is nothing about memory, CPU and descriptors."""
    with suppress(OSError):
        yield from _process(proc)
    with suppress(OSError):
        yield from _descriptors(proc)
    yield _python()
    yield from _garbage_collector()


def _process(proc: Path) -> Iterator[Family]:
    started_at = _boot_time(proc)
    # The fields after the command, which may contain spaces and brackets (proc_pid_stat(5), from field 3 on).
    fields = (proc / "self" / "stat").read_bytes().rpartition(b")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    memory, resident = float(fields[20]), float(fields[21]) * resource.getpagesize()
    yield GaugeFamily("process_virtual_memory_bytes", "Virtual memory size in bytes.", memory)
    yield GaugeFamily("process_resident_memory_bytes", "Resident memory size in bytes.", resident)
    yield GaugeFamily(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        float(fields[19]) / ticks + started_at,
    )
    yield CounterFamily(
        "process_cpu_seconds",
        "Total user and system CPU time spent in seconds.",
        float(fields[11]) / ticks + float(fields[12]) / ticks,
    )


def _boot_time(proc: Path) -> float:
    """Unix time at which the machine started."""
    for line in (proc / "stat").read_bytes().splitlines():
        if line.startswith(b"btime "):
            return float(line.split()[1])
    raise OSError("no btime in /proc/stat")


def _descriptors(proc: Path) -> Iterator[Family]:
    opened = len(os.listdir(proc / "self" / "fd"))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = inf if limit == resource.RLIM_INFINITY else float(limit)
    yield GaugeFamily("process_open_fds", "Number of open file descriptors.", opened)
    yield GaugeFamily("process_max_fds", "Maximum number of open file descriptors.", most)


def _python() -> Family:
    major, minor, patch = platform.python_version_tuple()
    labels = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "major": major,
        "minor": minor,
        "patchlevel": patch,
    }
    info = GaugeFamily("python_info", "Python platform information", labels=tuple(labels))
    info.add_metric(list(labels.values()), 1)
    return info


def _garbage_collector() -> Iterator[Family]:
    labels = ("generation",)
    collected = CounterFamily("python_gc_objects_collected", "Objects collected during gc", labels=labels)
    uncollectable = CounterFamily(
        "python_gc_objects_uncollectable", "Uncollectable objects found during GC", labels=labels
    )
    collections = CounterFamily("python_gc_collections", "Number of times this generation was collected", labels=labels)
    for generation, found in enumerate(gc.get_stats()):
        collected.add_metric([str(generation)], found["collected"])
        uncollectable.add_metric([str(generation)], found["uncollectable"])
        collections.add_metric([str(generation)], found["collections"])
    yield from (collected, uncollectable, collections)
