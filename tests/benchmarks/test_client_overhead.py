"""What the figures are made of: a short run of the real thing, and the arithmetic."""

from __future__ import annotations

import asyncio

from benchmarks.client_overhead import Cost, Costs, measure, ratio, running, table

ROUNDS = [
    Costs(Cost(100.0, 200.0), Cost(100.0, 100.0), Cost(110.0, 200.0)),
    Costs(Cost(50.0, 100.0), Cost(40.0, 100.0), Cost(60.0, 110.0)),
    Costs(Cost(80.0, 100.0), Cost(70.0, 90.0), Cost(84.0, 90.0)),
]


def test_ratio_is_the_median_of_the_rounds() -> None:
    assert (ratio(ROUNDS, "cpu_us", "bare"), ratio(ROUNDS, "wall_us", "bare")) == (1.1, 1.0)
    assert (ratio(ROUNDS, "cpu_us", "tuned"), ratio(ROUNDS, "wall_us", "tuned")) == (1.2, 1.1)
    assert table({"a call": ROUNDS}).splitlines()[2:] == [
        "| a call | CPU of the app | 80.0 | 70.0 | 84.0 | 1.100 | 1.200 |",
        "| a call | wall time | 100.0 | 100.0 | 110.0 | 1.000 | 1.100 |",
    ]


def test_a_short_run() -> None:
    """Not a judgement: on a busy machine a few calls say nothing."""
    with running() as base_url:
        found = asyncio.run(measure(base_url, 2, 20))
    assert [len(rounds) for rounds in found.values()] == [2, 2]
    costs = [cost for rounds in found.values() for each in rounds for cost in each]
    assert all(cost.cpu_us > 0 and cost.wall_us > 0 for cost in costs)
