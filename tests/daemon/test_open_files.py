"""The limit on open files, and its shares for connections from apps and to services."""

from __future__ import annotations

import resource

import pytest

from sidecar.daemon import open_files


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, (16, 8, 4)),
        (80, (16, 8, 4)),
        (160, (44, 8, 4)),
        (1024, (428, 30, 30)),
        (65536, (32424, 256, 64)),
        (1 << 30, (1 << 20, 256, 64)),
        (resource.RLIM_INFINITY, (1 << 20, 256, 64)),
    ],
)
def test_the_shares(monkeypatch: pytest.MonkeyPatch, limit: int, expected: tuple[int, int, int]) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    found = open_files.shares()
    assert (found.each_way, found.listener, found.checks) == expected


@pytest.mark.parametrize("limit", [104, 105, 160, 256, 1000, 1024, 4096, 8192, 8300, 65536, 1 << 20])
def test_all_shares_together_are_within_the_limit(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """From 104 on: with fewer, each part would have too little to work."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    found = open_files.shares()
    assert open_files.OWN + 2 * (found.each_way + found.listener + found.checks) <= limit


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
