"""Rounds: both builds with one file, many episodes side by side, and what differs between the two."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.differential.apps import Event, Player
from benchmarks.differential.daemons import Build
from benchmarks.differential.sameness import (
    Names,
    events_differ,
    lines_differ,
    log_lines,
    runs_differ,
    series_by_service,
    series_differ,
    twice,
)
from benchmarks.differential.scripts import Episode
from benchmarks.differential.upstreams import Run, Upstreams

AT_A_TIME: Final = 32
"""Episodes. More would keep the machine so busy that timeouts pass by themselves."""


@dataclass
class Difference:
    """What an episode showed. `where` says in which scene, or in what else."""

    episode: int
    where: str
    what: str
    scene: int = -1
    grave: bool = False
    """It is wrong in itself, not only different: it counts even if it does not come again."""


@dataclass
class Outcome:
    """What a round showed."""

    requests: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, episode: int, where: str, what: str, *, scene: int = -1, grave: bool = False) -> None:
        if what:
            self.differences.append(Difference(episode, where, what, scene, grave))


@dataclass(frozen=True)
class Builds:
    """The commands of the two builds, and the ports that belong to this run."""

    old: str
    new: str
    old_port: int
    new_port: int
    upstream_port: int
    core: int | None = None
    words: bool = True
    """Whether sentences are compared too (`detail` of answers and log lines)."""


def configuration(episodes: Sequence[Episode], *, access: str) -> dict[str, Any]:
    """The file without `listen`."""
    services: dict[str, Any] = {}
    aggregates: dict[str, Any] = {}
    for episode in episodes:
        services |= episode.services
        aggregates |= episode.aggregates
    return {
        "log": {"level": "warning", "access": access, "query": True},
        "drain": {"delay": "0s", "timeout": "2s"},
        "services": services,
        "aggregates": aggregates,
    }


async def play(
    builds: Builds, upstreams: Upstreams, episodes: Sequence[Episode], *, access: str, at_a_time: int = AT_A_TIME
) -> Outcome:
    """One round. Raises RuntimeError if a build does not start."""
    outcome = Outcome()
    await upstreams.listen(address for episode in episodes for address in episode.addresses)
    upstreams.runs.clear()
    upstreams.stray.clear()
    config = configuration(episodes, access=access)
    names = {letter: {one.number: Names(one, words=builds.words) for one in episodes} for letter in "on"}
    with tempfile.TemporaryDirectory(prefix="sidecar-differential-") as made:
        folder = Path(made)
        with (
            Build(builds.old, config, builds.old_port, folder, core=builds.core) as old,
            Build(builds.new, config, builds.new_port, folder, core=builds.core) as new,
        ):
            await asyncio.to_thread(old.wait_ready)
            await asyncio.to_thread(new.wait_ready)
            places = asyncio.Semaphore(at_a_time)

            async def one(episode: Episode) -> None:
                async with places:
                    pair = names["o"][episode.number], names["n"][episode.number]
                    await _episode(builds, upstreams, episode, pair, outcome)

            async with asyncio.TaskGroup() as group:
                for episode in episodes:
                    group.create_task(one(episode))
            scrapes = [await asyncio.to_thread(build.metrics) for build in (old, new)]
            logs = [await asyncio.to_thread(build.stop) for build in (old, new)]
            if old.exit_code != new.exit_code:
                outcome.add(-1, "exit code", f"old: {old.exit_code} new: {new.exit_code}")
    _compare_figures(episodes, scrapes, logs, names, outcome, words=builds.words)
    for tag, run in upstreams.runs.items():
        other = upstreams.runs.get(b"n" + tag[1:])
        if tag.startswith(b"o") and other is not None and len(run.copies) != len(other.copies):
            number = run.script.number // 1000
            if number not in {one.episode for one in outcome.differences}:
                outcome.add(number, "late copies", f"old: {len(run.copies)} new: {len(other.copies)}")
    for endpoint, data in upstreams.stray:
        outcome.add(-1, f"bytes of no request came to {endpoint}", repr(data[:300]))
    return outcome


async def _episode(
    builds: Builds, upstreams: Upstreams, episode: Episode, names: tuple[Names, Names], outcome: Outcome
) -> None:
    """Both builds play the episode, scene by scene. It ends with the first scene that differs."""
    players = (
        Player(upstreams, builds.old_port, "o"),
        Player(upstreams, builds.new_port, "n"),
    )
    for number, scene in enumerate(episode.scenes):
        results = await asyncio.gather(*(player.play(scene) for player in players))
        outcome.requests += scene.requests
        told = _compare(results[0], results[1], names, loose=episode.loose)
        for letter, (_, runs) in zip(["old", "new"], results, strict=True):
            outcome.add(episode.number, f"{scene.kind}, {letter}", twice(runs), scene=number, grave=True)
        if told:
            outcome.add(episode.number, scene.kind, told, scene=number)
            break
        for _, runs in results:
            for run in runs:
                for copy in run.copies:
                    copy.body = b""  # compared
    for player in players:
        await player.end()


def _compare(
    old: tuple[list[Event], list[Run]], new: tuple[list[Event], list[Run]], names: tuple[Names, Names], *, loose: bool
) -> str:
    for side, (_, runs) in zip(names, (old, new), strict=True):
        for run in runs:
            side.seen(run.copies)
    return events_differ(old[0], new[0], names) or runs_differ(old[1], new[1], names, loose=loose)


def _compare_figures(
    episodes: Sequence[Episode],
    scrapes: Sequence[str],
    logs: Sequence[Sequence[str]],
    names: dict[str, dict[int, Names]],
    outcome: Outcome,
    *,
    words: bool,
) -> None:
    """Metrics and log lines, of the episodes that were alike so far."""
    owners = {name: episode.number for episode in episodes for name in (*episode.services, *episode.aggregates)}
    differing = {one.episode for one in outcome.differences}

    def find(letter: str) -> Any:
        return lambda service: names[letter].get(owners.get(service, -1))

    old, new = (series_by_service(text, find(letter)) for text, letter in zip(scrapes, "on", strict=True))
    old_lines, new_lines = (
        log_lines(lines, find(letter), words=words) for lines, letter in zip(logs, "on", strict=True)
    )
    for service in sorted(old.keys() | new.keys() | old_lines.keys() | new_lines.keys()):
        number = owners.get(service, -1)
        if number in differing or (number < 0 and differing):
            continue
        figures = series_differ(old.get(service, Counter()), new.get(service, Counter()))
        outcome.add(number, f"metrics of {service or 'no service'}", figures)
        told = lines_differ(old_lines.get(service, []), new_lines.get(service, []))
        outcome.add(number, f"log of {service or 'no service'}", told)


def with_scenes(episode: Episode, kept: Sequence[int]) -> Episode:
    """The episode with these scenes only."""
    return replace(episode, scenes=tuple(episode.scenes[at] for at in kept))
