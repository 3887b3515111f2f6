"""The steady load: it does not slow down with what it measures, and knows what became of each request."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import steady
from benchmarks.endpoints import EndpointProcess
from benchmarks.ports import free_ports
from benchmarks.steady import SteadyLoad, percentile


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([2.0, 1.0], 50, 1.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([float(one) for one in range(1, 101)], 99, 99.0),
        ([float(one) for one in range(1, 102)], 99, 100.0),
    ],
)
def test_percentiles_are_nearest_ranks(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_requests_go_out_as_planned_whatever_becomes_of_those_before(tmp_path: Path) -> None:
    with EndpointProcess("e0", free_ports(1)[0], tmp_path / "requests.log") as one:
        one.answer(delay_s=0.4)
        with SteadyLoad(one.port, "/", 100, post_rate=10) as load:
            first = load.until(lambda sent: sent.method == "GET" and sent.ok, 10)
            assert first is not None
            assert load.until(lambda sent: sent.method == "GET" and sent.planned > first.planned + 0.4, 10)
    assert first.endpoint == "e0"
    gets = sorted((sent for sent in load.sent if sent.method == "GET"), key=lambda sent: sent.planned)
    # A closed loop on one connection would have planned two.
    assert sum(sent.planned < gets[0].planned + 0.395 for sent in gets) == 40
    assert all(sent.latency_s >= 0.4 for sent in load.sent)
    gaps = [after.planned - before.planned for before, after in pairwise(gets)]
    assert all(gap == pytest.approx(0.01) for gap in gaps)
    assert {sent.method for sent in load.sent} == {"GET", "POST"}
    ids = [line.split()[1] for line in (tmp_path / "requests.log").read_text().splitlines()]
    assert len(set(ids)) == len(ids) == len(load.sent)


def test_no_more_than_so_many_are_in_progress_and_those_that_wait_count_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steady, "MOST_AT_ONCE", 2)
    with EndpointProcess("e0", free_ports(1)[0], tmp_path / "requests.log") as one:
        one.answer(delay_s=0.2)
        with SteadyLoad(one.port, "/", 100) as load:
            assert load.until(lambda sent: sent.latency_s > 0.6, 10)
    ended = sorted(sent.ended for sent in load.sent)
    assert all(sent.ok for sent in load.sent)
    assert all(third - first >= 0.19 for first, third in zip(ended, ended[2:], strict=False))


def test_what_cannot_be_asked_is_an_error_with_its_reason() -> None:
    with SteadyLoad(free_ports(1)[0], "/", 100) as load:
        assert load.until(lambda sent: sent.ok, 0.05) is None
        assert load.until(lambda sent: not sent.ok, 5) is not None
    assert {(sent.status, sent.reason) for sent in load.sent} == {(0, "ConnectionRefusedError")}
