"""The metrics of the process: the same as those of prometheus_client, which dashboards are made for."""

from __future__ import annotations

import resource
from math import inf
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from sidecar.telemetry.metrics_runtime import runtime_families


def test_names_help_texts_and_labels_are_those_of_the_library() -> None:
    registry = CollectorRegistry(auto_describe=False)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    theirs = {
        (family.name, family.type, family.documentation, sample.name, tuple(sample.labels.items()))
        for family in registry.collect()
        for sample in family.samples
    }
    ours = {
        (family.name, family.type, family.documentation, sample.name, tuple(sample.labels.items()))
        for family in runtime_families()
        for sample in family.samples
    }
    assert ours == theirs


def test_values_are_those_of_the_library() -> None:
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    ours = {family.name: family.samples[0].value for family in runtime_families() if family.name.startswith("process")}
    for family in registry.collect():
        assert ours[family.name] == pytest.approx(family.samples[0].value, rel=0.1, abs=2), family.name


def test_a_command_may_have_brackets_and_spaces(tmp_path: Path) -> None:
    (tmp_path / "self" / "fd").mkdir(parents=True)
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1700000000\nprocesses 7\n")
    rest = ["S", *["0"] * 10, "250", "50", *["0"] * 6, "100", "4096", "3"]
    (tmp_path / "self" / "stat").write_text(f"12 (a) b (c)) {' '.join(rest)}\n")
    found = {family.name: family.samples[0].value for family in runtime_families(tmp_path)}
    assert found["process_virtual_memory_bytes"] == 4096
    assert found["process_resident_memory_bytes"] == 3 * resource.getpagesize()
    assert found["process_cpu_seconds"] == pytest.approx(3.0)
    assert found["process_start_time_seconds"] == pytest.approx(1_700_000_001.0)
    assert found["process_open_fds"] == 0


def test_without_procfs_the_rest_is_given(tmp_path: Path) -> None:
    names = {family.name for family in runtime_families(tmp_path)}
    assert "python_gc_collections" in names
    assert not any(name.startswith("process") for name in names)


def test_no_limit_on_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found = {family.name: family.samples[0].value for family in runtime_families()}
    assert found["process_max_fds"] == inf
