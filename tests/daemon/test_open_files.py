"""The limit on open files, and its shares for connections from apps and to services."""

from __future__ import annotations

import resource

import pytest

from sidecar.daemon import open_files


@pytest.mark.parametrize(
    ("limit", "share"),
    [
        (0, 16),
        (80, 16),
        (1024, 480),
        (65536, 32736),
        (1 << 30, 1 << 20),
        (resource.RLIM_INFINITY, 1 << 20),
    ],
)
def test_each_way_gets_half_of_the_descriptors(monkeypatch: pytest.MonkeyPatch, limit: int, share: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert open_files.connections_each_way() == share


@pytest.mark.parametrize(("soft", "hard", "asked"), [(1024, 4096, [(4096, 4096)]), (4096, 4096, [])])
def test_the_soft_limit_is_raised(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked: list[tuple[int, int]]
) -> None:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: found.append(limits))
    open_files.raise_limit()
    assert found == asked


def test_a_process_that_may_not_raise_the_limit_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refused)
    open_files.raise_limit()
