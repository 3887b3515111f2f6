"""The configuration in force and the last reload, as answers."""

from __future__ import annotations

from sidecar.admin.config_view import config_steps, reload_answer
from sidecar.runtime.slices import at_once
from tests.admin.stage import START, LogState, Stage


def test_what_runs_and_where_it_came_from() -> None:
    stage = Stage()
    stage.log_state = LogState("debug", "all", START + 60)
    found = at_once(config_steps(stage, stage.clock))
    assert (found.generation, found.file, found.loaded_at) == (
        1,
        "/etc/sidecar/sidecar.yaml",
        "2025-11-23T01:00:00.000Z",
    )
    assert found.config["services"]["venue"]["timeout"]["attempt"].value == "2s"
    assert found.config["admin"]["hosts"].value == []
    assert (found.log.level, found.log.access, found.log.until) == ("debug", "all", "2025-11-23T01:01:00.000Z")


def test_without_a_file() -> None:
    stage = Stage()
    stage.path = None
    assert at_once(config_steps(stage, stage.clock)).file is None


async def test_a_rejected_reload_says_where() -> None:
    stage = Stage()
    stage.reload_as = "rejected"
    found = reload_answer(await stage.reload())
    assert (found.result, found.trigger, found.at) == ("rejected", "api", "2025-11-23T01:00:00.000Z")
    (error,) = found.errors
    assert (error.file, error.line, error.column, error.key) == ("sidecar.yaml", 3, 5, "services.venue.tiemout")


def test_warnings_are_of_what_is_in_force() -> None:
    stage = Stage("services: {venue: {url: http://a:1, timeout: {attempt: 2s, request: 1s}}}")
    (warning,) = at_once(config_steps(stage, stage.clock)).warnings
    assert warning.startswith("services.venue: timeout.attempt (2s, line 1) is longer")
    assert at_once(config_steps(Stage(), stage.clock)).warnings == []
