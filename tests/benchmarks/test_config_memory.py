"""What the memory figures are made of: both ways really read the reference file. Not a judgement of the figures."""

from __future__ import annotations

import sys

import pytest

from benchmarks import config_memory
from tests.support import wants


@pytest.fixture(autouse=True)
def _empty() -> None:
    config_memory.kept.clear()


def test_both_ways_read_the_reference_file() -> None:
    config_memory.read_by_walker()
    config_memory.read_by_pydantic()
    (ours, _), theirs = config_memory.kept
    assert set(ours.services) == set(theirs.services)
    assert theirs.defaults.retry.max_retries == str(ours.defaults.retry.max_retries)


@wants.of_the_machine("memory's figures in /proc", there=sys.platform == "linux")
def test_a_run_says_what_its_process_grew_by() -> None:
    found = config_memory.measured("pydantic, its import alone")
    assert set(found) == {"Rss", "Pss", "ms"}
    assert found["Rss"] > 1
