"""Builds responses about the configuration in force and the last reload.

`sidecar.config.effective` hides secrets.
"""

from __future__ import annotations

from typing import Any, cast

from sidecar.admin import answers
from sidecar.admin.clock import WallClock, iso
from sidecar.admin.running import LogState, Running
from sidecar.config.effective import config_tree
from sidecar.config.errors import ConfigError
from sidecar.config.warnings import warnings_of
from sidecar.runtime.reload_report import ReloadReport


def config_answer(running: Running, clock: WallClock) -> answers.Config:
    """GET /config."""
    live = running.live
    return answers.Config(
        generation=live.generation,
        file=str(running.path) if running.path is not None else None,
        loaded_at=iso(running.loaded_at),
        reload=reload_answer(running.last_reload),
        warnings=warnings_of(live.config, running.origins),
        log=log_answer(running.log_state, clock),
        config=config_tree(live.config, running.origins),
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
