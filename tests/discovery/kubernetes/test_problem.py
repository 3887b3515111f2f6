"""What a problem says of itself."""

from __future__ import annotations

from sidecar.discovery.kubernetes.problem import GONE, Problem, gone


def test_its_text_is_the_words_alone() -> None:
    problem = Problem("403", "not allowed", retry_after_s=3.0)
    assert (str(problem), problem.kind, problem.retry_after_s) == ("not allowed", "403", 3.0)
    assert not problem.relist
    assert not problem.in_stream


def test_a_history_that_is_gone_wants_a_list_which_alone_is_no_cure() -> None:
    problem = gone("too old")
    assert (problem.kind, problem.relist, problem.in_stream) == (GONE, True, True)
