"""The configuration in force and what became of the last reload, as answers.

Owns the words of warnings that a start would give again. Secrets are hidden by `sidecar.config.effective`.
"""

from __future__ import annotations

from typing import Any, Final, cast

from sidecar.admin import answers
from sidecar.admin.clock import WallClock, iso
from sidecar.admin.running import LogState, Running
from sidecar.config.effective import config_tree
from sidecar.config.errors import ConfigError
from sidecar.config.schema import Config
from sidecar.runtime.reload_report import ReloadReport
from sidecar.runtime.routing import is_loopback

UNSPECIFIED: Final = ("0.0.0.0", "::")
"""A listener that is bound to one of these is reached by every address of the machine."""


def config_answer(running: Running, clock: WallClock) -> answers.Config:
    """GET /config."""
    live = running.live
    return answers.Config(
        generation=live.generation,
        file=str(running.path) if running.path is not None else None,
        loaded_at=iso(running.loaded_at),
        reload=reload_answer(running.last_reload),
        warnings=warnings(live.config),
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


def warnings(config: Config) -> list[str]:
    """What an operator should know of a configuration that is valid."""
    host = config.listen.admin.host
    if config.admin.token_file is not None or (is_loopback(host) and host not in UNSPECIFIED):
        return []
    open_to_all = (
        f"listen.admin is {config.listen.admin}, not loopback, and admin.token_file is not set:"
        " whoever reaches that port can open breakers and end the sidecar"
    )
    return [open_to_all]
