"""Errors of Kubernetes discovery."""

from __future__ import annotations

from sidecar.discovery.kubernetes.problem import GONE, Problem, gone


def test_its_text_is_the_message_alone() -> None:
    problem = Problem("403", "not allowed", retry_after_s=3.0)
    assert (str(problem), problem.kind, problem.retry_after_s) == ("not allowed", "403", 3.0)
    assert not problem.relist
    assert not problem.in_stream


def test_a_lost_history_needs_a_list_and_an_accepted_watch_does_not_solve_it() -> None:
    problem = gone("too old")
    assert (problem.kind, problem.relist, problem.in_stream) == (GONE, True, True)
