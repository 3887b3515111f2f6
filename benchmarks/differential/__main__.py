"""`python -m benchmarks.differential`: plays random scripts against two builds, and reports what differs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.differential.episodes import SCENES, make_episode
from benchmarks.differential.rounds import Builds, Difference, Outcome, play, with_scenes
from benchmarks.differential.scripts import Episode
from benchmarks.differential.upstreams import Upstreams
from benchmarks.ports import free_ports

TRIES: Final = 5


class Comparison:
    """One run of the tool."""

    def __init__(self, options: argparse.Namespace, builds: Builds) -> None:
        self._options = options
        self._builds = builds
        self._upstreams = Upstreams(builds.upstream_port)
        self.requests = 0
        self.found: list[Difference] = []
        self.unsteady: Counter[str] = Counter()

    async def run(self) -> None:
        """Rounds until enough requests were made."""
        options = self._options
        began = time.monotonic()
        number = options.round
        try:
            while self.requests < options.requests:
                episodes = self._episodes(number)
                access = ("errors", "all", "off")[number % 3] if options.access is None else options.access
                outcome = await play(self._builds, self._upstreams, episodes, access=access)
                self.requests += outcome.requests
                await self._again(number, episodes, outcome, access)
                took = time.monotonic() - began
                print(
                    f"round {number}: {self.requests} requests, {self.requests / took:.0f} a second,"
                    f" {len(self.found)} differences, {self.unsteady.total()} unsteady",
                    flush=True,
                )
                number += 1
                if options.episode is not None or len(self.found) >= options.most:
                    break
        finally:
            await self._upstreams.close()

    def _episodes(self, number: int) -> list[Episode]:
        options = self._options
        numbers = range(options.episodes) if options.episode is None else [options.episode]
        made = [make_episode(options.seed, number, one, self._builds.upstream_port, options.length) for one in numbers]
        if options.flavour:
            made = [one for one in made if one.flavour in options.flavour]
        if options.scenes is not None:
            made = [with_scenes(one, options.scenes) for one in made]
        return made

    async def _again(self, number: int, episodes: Sequence[Episode], outcome: Outcome, access: str) -> None:
        """Plays what differed again, each episode alone. Reports what differs each time."""
        for one in outcome.differences:
            if one.grave or one.episode < 0:
                self._report(number, one, episodes, access)
        wanted = {one.episode for one in outcome.differences} - {-1}
        first = {one.episode: one for one in reversed(outcome.differences)}
        left = [one for one in episodes if one.number in wanted]
        last: dict[int, Difference] = {}
        for at_a_time in (4, *(1,) * (TRIES - 1)):
            if not left:
                break
            again = await play(self._builds, self._upstreams, left, access=access, at_a_time=at_a_time)
            last = {one.episode: one for one in reversed(again.differences)}
            for episode in left:
                if episode.number not in last:
                    self._unsteady(number, episode, first[episode.number])
            left = [episode for episode in left if episode.number in last]
        for episode in left:
            kept = await self._needed(episode, last[episode.number], access) if self._options.shrink else None
            self._report(number, last[episode.number], episodes, access, kept)

    def _unsteady(self, number: int, episode: Episode, one: Difference) -> None:
        self.unsteady[one.where] += 1
        if self._options.verbose:
            print(f"unsteady: round {number} episode {episode.number} ({episode.flavour}): {one.where}\n{one.what}")

    async def _needed(self, episode: Episode, last: Difference, access: str) -> list[int]:
        """The fewest scenes found that show a difference."""
        kept = list(range(last.scene + 1 if last.scene >= 0 else len(episode.scenes)))
        size = len(kept) // 2
        tries = 24
        while size and tries:
            at = 0
            while at < len(kept) and tries and len(kept) > 1:
                fewer = kept[:at] + kept[at + size :]
                tries -= 1
                again = await play(self._builds, self._upstreams, [with_scenes(episode, fewer)], access=access)
                if again.differences:
                    kept = fewer
                else:
                    at += size
            size //= 2
        return kept

    def _report(
        self, number: int, one: Difference, episodes: Sequence[Episode], access: str, kept: Sequence[int] | None = None
    ) -> None:
        self.found.append(one)
        options = self._options
        lines = [f"\n## difference {len(self.found)}: round {number}, episode {one.episode}, {one.where}"]
        for episode in episodes:
            if episode.number == one.episode:
                lines.append(f"flavour {episode.flavour}; services: {json.dumps(episode.services)}")
                if episode.aggregates:
                    lines.append(f"aggregates: {json.dumps(episode.aggregates)}")
                shown: list[Any] = [episode.scenes[one.scene]] if one.scene >= 0 and kept is None else []
                if kept is not None:
                    shown = [episode.scenes[at] for at in kept][-4:]
                for scene in shown:
                    lines += [f"scene {scene.kind}:", *(f"  {_cut(step)}" for step in scene.steps)]
                    lines += [f"  answers of {script.number}: {_cut(script.answers)}" for script in scene.scripts]
        lines.append(one.what if len(one.what) < 6000 else one.what[:6000] + " ...")
        again = f"--seed {options.seed} --round {number} --episode {one.episode}"
        again += f" --length {options.length} --access {access}"
        if kept is not None and one.episode >= 0:
            again += f" --scenes {','.join(map(str, kept))}"
        again += f" --port {self._builds.upstream_port}"
        lines.append(f"again: python -m benchmarks.differential --old ... --new ... {again}")
        print("\n".join(lines), flush=True)
        if options.report is not None:
            with options.report.open("a") as file:
                file.write("\n".join(lines) + "\n")


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) < 1500 else text[:1500] + " ..."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.differential", description=__doc__)
    parser.add_argument("--old", required=True, help="the command of the old build")
    parser.add_argument("--new", required=True, help="the command of the new build")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20_000, help="at least so many (default: %(default)s)")
    parser.add_argument("--round", type=int, default=0, help="the first round (default: 0)")
    parser.add_argument("--episodes", type=int, default=400, help="of a round (default: %(default)s)")
    parser.add_argument("--length", type=int, default=SCENES, help="scenes of an episode (default: %(default)s)")
    parser.add_argument("--episode", type=int, help="only this one, one time")
    parser.add_argument(
        "--scenes", type=lambda text: [int(part) for part in text.split(",")], help="only these, as 0,3"
    )
    parser.add_argument("--flavour", action="append", help="only episodes with this kind of policy")
    parser.add_argument("--access", choices=["off", "errors", "all"], help="log.access (default: in turn)")
    parser.add_argument("--most", type=int, default=50, help="stop after so many differences (default: %(default)s)")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="report whole episodes")
    parser.add_argument("--report", type=Path, help="append each difference to this file")
    parser.add_argument("--port", type=int, help="of the upstreams (hashing depends on it)")
    parser.add_argument("--core", type=int, help="pin both builds to this core")
    parser.add_argument("--ignore-words", action="store_true", help="do not compare the sentences of details")
    parser.add_argument("--verbose", action="store_true", help="show what was unsteady")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> Comparison:
    """Runs the whole comparison."""
    ports = free_ports(12)
    old_port, new_port = _three(ports)
    builds = Builds(
        options.old, options.new, old_port, new_port, options.port or ports[-1], options.core, not options.ignore_words
    )
    comparison = Comparison(options, builds)
    uvloop.run(comparison.run())
    return comparison


def _three(ports: list[int]) -> tuple[int, int]:
    """The first ports of two rows of three."""
    rows = [port for port in ports if port + 1 in ports and port + 2 in ports]
    old = rows[0]
    new = next(port for port in rows if port >= old + 3)
    return old, new


def main() -> int:
    """Returns 1 if the builds differ."""
    options = parse(None)
    began = time.monotonic()
    comparison = compare(options)
    took = time.monotonic() - began
    print(
        f"{comparison.requests} requests against each build in {took:.0f} s, seed {options.seed}:"
        f" {len(comparison.found)} differences"
    )
    if comparison.unsteady:
        print(
            "unsteady (alike when played alone): " + ", ".join(f"{w} {n}" for w, n in comparison.unsteady.most_common())
        )
    return 1 if comparison.found else 0


if __name__ == "__main__":
    sys.exit(main())
