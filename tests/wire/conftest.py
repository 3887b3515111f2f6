"""Every test here may have a daemon: its log goes with a failure, and what may not be repeated never was.

The rig below serves those modules that want nothing special of a configuration; the others have their own.
"""

from collections.abc import Iterator

import pytest

from tests.support.rig import Rig, never_twice, pytest_runtest_makereport, start
from tests.support.steps import answer
from tests.support.upstream import Upstream

__all__ = ["never_twice", "pytest_runtest_makereport", "start"]

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 4s, request: 8s}
  retry: {backoff: {base: 1ms, max: 2ms}, budget: {min_per_second: 1000}}
  breaker: {volume_threshold: 10000}
services:
  venue: {endpoints: ["$venue"], hosts: [venue-service, venues.example.org]}
  slow: {endpoints: ["$slow"]}
  named: {url: "http://localhost:$port_named"}
  keeping: {endpoints: ["$keeping"], hosts: [keeping-service], preserve_host: true}
  loop: {endpoints: ["http://127.0.0.1:$proxy"]}
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "slow", "named", "keeping") as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    """The upstream of `venue`, which answers every request until the test has it play something else."""
    return rig["venue"].play(answer())
