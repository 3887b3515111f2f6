"""Names that the name server does not answer for: they delay themselves, and nothing else.

Each test is a scene of tests/system/lookup_scenes.py, played in private mount and network namespaces.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import own_world

SCENES = "tests.system.lookup_scenes"


@pytest.mark.parametrize("kind", ["plain", "kubernetes"])
@pytest.mark.parametrize(
    "scene",
    ["good_name", "localhost", "checks_of_addresses", "health_chain", "new_by_reload", "pod_that_moved", "sigterm"],
)
def test_silent_names_do_not_delay(scene: str, kind: str, tmp_path: Path) -> None:
    own_world.run(SCENES, scene, str(tmp_path), kind)


def test_the_process_ends_when_it_says_so_whatever_is_under_way(tmp_path: Path) -> None:
    own_world.run(SCENES, "end_with_all_under_way", str(tmp_path), "kubernetes")


@pytest.mark.parametrize("kind", ["plain", "kubernetes"])
def test_the_injector_lives_and_ends_with_a_silent_api_server(kind: str, tmp_path: Path) -> None:
    own_world.run(SCENES, "injector", str(tmp_path), kind)


def test_late_answer_is_used(tmp_path: Path) -> None:
    own_world.run(SCENES, "late_answer", str(tmp_path), "plain")


def test_names_of_idle_services_are_looked_up_seldom(tmp_path: Path) -> None:
    own_world.run(SCENES, "idle_names", str(tmp_path), "plain")
