"""The differential tool: it finds nothing between a build and itself, and finds what a changed build does otherwise."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.differential.__main__ import Comparison, compare, parse
from benchmarks.differential.episodes import make_episode
from benchmarks.differential.policies import FLAVOURS
from benchmarks.differential.rounds import configuration, with_scenes
from sidecar.config.load import load
from tests.support.daemon import ROOT

SOURCES = shlex.join(["env", "-C", str(ROOT), sys.executable, "-m", "sidecar"])

MUTANT = """
import sys
sys.path.insert(0, {root!r})
{change}
from sidecar.cli.main import main
sys.exit(main())
"""


def mutant(folder: Path, change: str) -> str:
    """The command of the sources with one change."""
    path = folder / "mutant.py"
    path.write_text(MUTANT.format(root=str(ROOT), change=change))
    return shlex.join([sys.executable, str(path)])


def played(old: str, new: str, *more: str) -> Comparison:
    return compare(parse(["--old", old, "--new", new, "--access", "all", "--no-shrink", *more]))


def test_an_episode_is_made_of_its_numbers_alone() -> None:
    assert make_episode(1, 2, 3, 9000) == make_episode(1, 2, 3, 9000)
    assert (
        len({repr(make_episode(*numbers, 9000).scenes) for numbers in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3))})
        == 4
    )


def test_every_random_policy_is_one_that_the_sidecar_takes(tmp_path: Path) -> None:
    episodes = [make_episode(7, 0, number, 9000, scenes=1) for number in range(250)]
    assert {one.flavour for one in episodes} == set(FLAVOURS)
    path = tmp_path / "sidecar.yaml"
    path.write_text(json.dumps(configuration(episodes, access="all")))
    assert len(load(path, {}).services) >= len(episodes)


def test_the_same_build_twice_differs_in_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    flavours = [
        argument
        for flavour in ("plain", "breaker", "fallback", "stale", "failover", "aggregate", "hash", "budget", "outlier")
        for argument in ("--flavour", flavour)
    ]
    comparison = played(SOURCES, SOURCES, "--requests", "1", "--episodes", "28", "--length", "12", *flavours)
    assert not comparison.found, capsys.readouterr().out
    assert comparison.requests > 250
    assert comparison.unsteady.total() < 5


CHANGES = {
    "a field of an answer": "from sidecar.proxy.problem import Problem\nProblem.allow = 'GET'\n"
    "head = Problem.head\n"
    "Problem.head = lambda self, length: head(self, length).replace(b'Cache-Control: no-store', b'Cache-Control: x')",
    "a counter": "from sidecar.telemetry.counters import ServiceCounters\n"
    "ServiceCounters.retry = lambda self, result: None",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_build_is_found(tmp_path: Path, change: str) -> None:
    """The budget's episodes have many failures, so many answers of the sidecar."""
    more = ("--requests", "1", "--episodes", "40", "--length", "8", "--flavour", "budget", "--most", "1")
    comparison = played(SOURCES, mutant(tmp_path, change), *more)
    assert comparison.found


def test_a_scene_of_an_episode_is_played_alone() -> None:
    episode = make_episode(1, 0, 0, 9000)
    assert with_scenes(episode, [2, 4]).scenes == (episode.scenes[2], episode.scenes[4])
