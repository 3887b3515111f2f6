"""Builds responses about the configuration in force and the last reload.

`sidecar.config.effective` hides secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, cast

from msgspec.structs import replace

from sidecar.admin import answers
from sidecar.admin.clock import WallClock, iso
from sidecar.admin.running import LogState, Running
from sidecar.config.effective import config_tree, service_tree
from sidecar.config.errors import ConfigError
from sidecar.config.warnings import found_warnings
from sidecar.runtime.reload_report import ReloadReport
from sidecar.runtime.slices import as_it_is


def config_steps(
    running: Running, clock: WallClock, pack: Callable[[Any], Any] = as_it_is
) -> Generator[None, None, answers.Config]:
    """GET /config in steps of one service. `pack` is applied to the settings of each service."""
    live = running.live
    config, origins = live.config, running.origins
    tree = config_tree(replace(config, services={}), origins)
    for name, service in config.services.items():
        tree["services"][name] = pack(service_tree(service, origins))
        yield
    warnings: list[str] = []
    for warning in found_warnings(config, origins):
        if warning is None:
            yield
        else:
            warnings.append(warning)
    return answers.Config(
        generation=live.generation,
        file=str(running.path) if running.path is not None else None,
        loaded_at=iso(running.loaded_at),
        reload=reload_answer(running.last_reload),
        warnings=list(dict.fromkeys(warnings)),
        log=log_answer(running.log_state, clock),
        config=tree,
    )


def reload_answer(report: ReloadReport) -> answers.Reload:
    return answers.Reload(
        result=report.result,
        at=iso(report.at),
        trigger=report.trigger,
        generation=report.generation,
        errors=file_errors(report.errors),
        warnings=list(report.warnings),
        changed=list(report.changed),
    )


def file_errors(errors: tuple[ConfigError, ...]) -> list[answers.FileError]:
    return [
        answers.FileError(file=one.file, line=one.line, column=one.column, key=one.path, message=one.message)
        for one in errors
    ]


def log_answer(state: LogState, clock: WallClock) -> answers.Log:
    return answers.Log(
        level=cast(Any, state.level), access=cast(Any, state.access), until=clock.words_or_none(state.until)
    )
