"""What the figures are made of: a short run of the real thing, and the arithmetic."""

from __future__ import annotations

import asyncio

from benchmarks.client_overhead import Cost, measure, ratio, running, table

ROUNDS = [
    (Cost(100.0, 200.0), Cost(110.0, 200.0)),
    (Cost(50.0, 100.0), Cost(60.0, 110.0)),
    (Cost(80.0, 100.0), Cost(84.0, 90.0)),
]


def test_ratio_is_the_median_of_the_rounds() -> None:
    assert (ratio(ROUNDS, "cpu_us"), ratio(ROUNDS, "wall_us")) == (1.1, 1.0)
    assert table(ROUNDS).splitlines()[2:] == [
        "| CPU of the app | 80.0 | 84.0 | 1.100 |",
        "| wall time | 100.0 | 110.0 | 1.000 |",
    ]


def test_a_short_run() -> None:
    """Not a judgement: on a busy machine a few calls say nothing."""
    with running() as base_url:
        rounds = asyncio.run(measure(base_url, 2, 20))
    assert len(rounds) == 2
    assert all(cost.cpu_us > 0 and cost.wall_us > 0 for pair in rounds for cost in pair)
