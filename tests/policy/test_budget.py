"""The retry budget: its two accounts and its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.budget import RetryBudget
from sidecar.policy.settings import BudgetSettings


def withdrawn(budget: RetryBudget, now: float, tries: int = 1000) -> int:
    return sum(budget.withdraw(now) for _ in range(tries))


@pytest.mark.parametrize(
    ("ratio", "requests", "retries"),
    [(0.2, 0, 0), (0.2, 4, 0), (0.2, 5, 1), (0.2, 9, 1), (0.2, 10, 2), (0.29, 100, 29), (1.0, 7, 7), (2.5, 2, 5)],
)
def test_a_share_of_the_requests_may_be_retried(ratio: float, requests: int, retries: int) -> None:
    budget = RetryBudget(BudgetSettings(ratio=ratio, min_per_second=0), 0.0)
    for _ in range(requests):
        budget.request(0.0)
    assert withdrawn(budget, 0.0) == retries
    assert (budget.spent, budget.denied) == (retries, 1000 - retries)


def test_requests_and_their_retries_are_forgotten_after_ten_seconds() -> None:
    budget = RetryBudget(BudgetSettings(ratio=0.5, min_per_second=0), 0.0)
    for _ in range(10):
        budget.request(0.5)
    table = [(0.5, 5), (9.999, 0), (10.0, 0)]
    assert [(now, withdrawn(budget, now)) for now, _ in table] == table
    for _ in range(4):
        budget.request(10.0)
    assert withdrawn(budget, 10.0) == 2, "the five of before are paid off with the requests that paid them"


@pytest.mark.parametrize(
    ("per_second", "table"),
    [
        (10, [(0.0, 10), (0.0, 0), (0.05, 0), (0.1, 1), (1.1, 10), (60.0, 10)]),
        (0.5, [(0.0, 1), (1.9, 0), (2.0, 1), (60.0, 1)]),
        (1, [(0.0, 1), (0.999, 0), (1.0, 1)]),
        (0, [(0.0, 0), (60.0, 0)]),
    ],
)
def test_the_reserve_allows_a_burst_and_then_a_rate(per_second: float, table: list[tuple[float, int]]) -> None:
    budget = RetryBudget(BudgetSettings(ratio=0, min_per_second=per_second), 0.0)
    assert [(now, withdrawn(budget, now)) for now, _ in table] == table


def test_tenths_of_a_second_add_up_to_whole_retries() -> None:
    budget = RetryBudget(BudgetSettings(ratio=0, min_per_second=10), 0.0)
    withdrawn(budget, 0.0)
    now = 0.0
    for _ in range(100):
        now += 0.1
        assert withdrawn(budget, now) == 1


def test_a_clock_that_goes_back_refills_nothing() -> None:
    budget = RetryBudget(BudgetSettings(ratio=0, min_per_second=10), 5.0)
    assert withdrawn(budget, 5.0) == 10
    assert withdrawn(budget, 4.0) == 0
    assert withdrawn(budget, 5.0) == 0


def test_the_balance_is_the_number_of_retries_left() -> None:
    budget = RetryBudget(BudgetSettings(ratio=0.2, min_per_second=10), 0.0)
    assert budget.balance(0.0) == 10.0
    for _ in range(10):
        budget.request(0.0)
    assert budget.balance(0.0) == 12.0
    assert withdrawn(budget, 0.0) == 12
    assert budget.balance(0.0) == 0.0
    assert budget.balance(0.5) == 5.0
    assert budget.balance(10.0) == 10.0
    assert "12 spent" in repr(budget)


def test_a_reload_keeps_what_was_counted() -> None:
    budget = RetryBudget(BudgetSettings(ratio=0.2, min_per_second=10), 0.0)
    for _ in range(10):
        budget.request(0.0)
    assert withdrawn(budget, 0.0, 1) == 1
    budget.reconfigure(BudgetSettings(ratio=0.5, min_per_second=2), 0.0)
    assert budget.balance(0.0) == 4.0 + 2.0
    budget.reconfigure(BudgetSettings(ratio=0, min_per_second=0), 0.0)
    assert withdrawn(budget, 0.0) == 0


@given(
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0, 10.0]),
    st.lists(st.tuples(st.sampled_from(["request", "retry"]), st.integers(1, 15), st.integers(0, 12)), max_size=60),
)
def test_over_any_ten_seconds_retries_stay_within_the_bound(
    ratio: float, per_second: float, events: list[tuple[str, int, int]]
) -> None:
    budget = RetryBudget(BudgetSettings(ratio=ratio, min_per_second=per_second), 0.0)
    now = 0.0
    requests: list[float] = []
    retries: list[float] = []
    capacity = max(per_second, 1.0) if per_second else 0.0
    for event, times, wait in events:
        now += wait / 4
        for _ in range(times):
            if event == "request":
                budget.request(now)
                requests.append(now)
            elif budget.withdraw(now):
                retries.append(now)
                # Whatever ten seconds these retries fell into, the requests that paid are at most ten seconds older.
                recent = sum(1 for at in retries if at > now - 9)
                paying = sum(1 for at in requests if at > now - 20)
                assert recent <= ratio * paying + capacity + 10 * per_second + 1e-6
    assert budget.spent == len(retries)
    assert budget.spent <= ratio * len(requests) + capacity + per_second * now + 1e-6
