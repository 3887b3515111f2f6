"""Reload: reads the configuration file again and applies it while requests are in flight.

Owns the reading, and the rule that an invalid file changes nothing. The file is read and checked in a thread. It is
then applied in one step of the event loop, so no request sees half of it. If that step fails, which is a bug, the last
configuration is applied again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from time import time
from typing import Final, Literal, NamedTuple, cast

from msgspec.structs import replace

from sidecar.config.annotations import fields_of
from sidecar.config.effective import changed_keys
from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.load import Origins, load_with_origins
from sidecar.config.schema import Config, Listen
from sidecar.config.units import format_size
from sidecar.config.warnings import warnings_of
from sidecar.net.tasks import Tasks
from sidecar.net.threads import in_thread
from sidecar.runtime.reload_report import ReloadReport, Trigger

_ENDING: Final = "the sidecar is stopping"

log = logging.getLogger("sidecar.daemon")

MOST_LOGGED: Final = 30
"""Warnings, and keys that changed. Each line takes some 50 us of the loop."""


class _Loaded(NamedTuple):
    """The content of a valid file, and what is to be said about it."""

    config: Config
    origins: Origins
    changed: tuple[str, ...]
    """The keys that differ from the last valid file."""
    warnings: tuple[str, ...]


def _load(path: Path, before: Config, listen: Listen) -> _Loaded:
    """Runs in a thread. `listen` is in force whatever the file says. Raises ConfigErrors."""
    config, origins = load_with_origins(path, os.environ)
    warnings = warnings_of(replace(config, listen=listen), origins)
    return _Loaded(config, origins, tuple(changed_keys(before, config)), tuple(warnings))


class Reloader:
    """Reads and applies configurations.

    `adopt` applies one, `generation` gives the number of the one in force, `unfit` says why one cannot be applied.
    `ahead` is entered before a configuration is applied and left afterwards; it prepares what must be known by then,
    and gives warnings for the report. The first value of `last` describes the start, with the warnings about the first
    configuration.
    """

    def __init__(
        self,
        path: Path | None,
        config: Config,
        origins: Origins,
        *,
        adopt: Callable[[Config], Awaitable[None]],
        generation: Callable[[], int],
        unfit: Callable[[Config], str | None],
        ahead: Callable[[Config], AbstractAsyncContextManager[Sequence[str]]] = lambda _: nullcontext(()),
    ) -> None:
        self.path = path
        self.config = config
        """The configuration in force. Options that need a restart keep their values from the start."""
        self.origins = origins
        self.results: Counter[str] = Counter(ok=0, rejected=0, unchanged=0)
        warnings = tuple(warnings_of(config, origins))
        self.last = ReloadReport(result="ok", trigger="start", at=time(), generation=generation(), warnings=warnings)
        self.loaded_at = self.last.at
        """When the configuration in force was read."""
        self._read = config
        """The content of the last valid file."""
        self._adopt = adopt
        self._generation = generation
        self._unfit = unfit
        self._ahead = ahead
        self._one_at_a_time = asyncio.Lock()
        self._closed = False
        self._tasks = Tasks(log)

    async def reload(self, trigger: Trigger) -> ReloadReport:
        """Read the file and apply it, or report its errors. Never raises because of an invalid file.

        Without a file the report is neither counted nor kept as `last`. If the caller is cancelled, the reload goes on:
        half of a configuration must not stay in force.
        """
        path = self.path
        if path is None:
            return self._without_file(trigger)
        reports: list[ReloadReport] = []

        async def reload() -> None:
            reports.append(await self._reload(trigger, path))

        await asyncio.shield(self._tasks.start(reload(), "reload"))
        return reports[0]

    async def _reload(self, trigger: Trigger, path: Path) -> ReloadReport:
        async with self._one_at_a_time:
            found = await self._found(path)
            if not isinstance(found, _Loaded):
                return self._rejected(trigger, found)
            if not found.changed:
                return self._in_force(trigger, found)
            if self._is_closed():
                return self._rejected(trigger, self._refusal(_ENDING))
            async with self._ahead(found.config) as unknown:
                if self._is_closed():
                    return self._rejected(trigger, self._refusal(_ENDING))
                if not await self._put_in_force(found.config):
                    message = "an internal error of the sidecar prevented applying it; see its log for details"
                    return self._rejected(trigger, self._refusal(message))
                return self._in_force(trigger, found, unknown)

    async def catch_up(self) -> None:
        """Reload if the file has changed since the start, before the watch on it began."""
        if self.path is None:
            return
        found = await self._found(self.path)
        if not isinstance(found, _Loaded) or found.changed:
            await self.reload("file")

    def close(self) -> None:
        """Apply no further configuration."""
        self._closed = True

    async def ended(self) -> None:
        """Break off a reload that is still under way, after `close`."""
        self._tasks.cancel()
        await self._tasks.ended()

    def _is_closed(self) -> bool:
        return self._closed

    async def _found(self, path: Path) -> _Loaded | Sequence[ConfigError]:
        """The content of the file, or its errors."""
        if self._is_closed():
            return self._refusal(_ENDING)
        try:
            found = await in_thread(_load, path, self._read, self.config.listen)
        except ConfigErrors as bad:
            return bad.errors
        except Exception as error:
            log.error("an internal error prevented reading the configuration", exc_info=error)
            return self._refusal("an internal error of the sidecar prevented reading it; see its log for details")
        problem = self._unfit(found.config)
        return self._refusal(problem) if problem else found

    async def _put_in_force(self, config: Config) -> bool:
        """Apply a configuration. False if that failed; then the last one is applied again."""
        try:
            await self._adopt(config)
        except Exception as error:
            log.error("a configuration could not be applied; the last one is applied again", exc_info=error)
            try:
                await self._adopt(self.config)
            except Exception as failure:
                log.error("the last configuration could not be applied either; restart the sidecar", exc_info=failure)
            return False
        return True

    def _in_force(self, trigger: Trigger, found: _Loaded, unknown: Sequence[str] = ()) -> ReloadReport:
        config, origins, changed = found.config, found.origins, found.changed
        restart = _needs_restart(self.config.listen, config.listen)
        _free([self._read, self.config, self.origins])
        self._read = config
        self.config = replace(config, listen=self.config.listen)
        self.origins = origins
        self.loaded_at = time()
        logged = changed
        if len(changed) > MOST_LOGGED:
            logged = (*changed[:MOST_LOGGED], f"and {len(changed) - MOST_LOGGED} more")
        fields = {"trigger": trigger, "generation": self._generation(), "changed": logged}
        extra = {"kind": "reload", "fields": fields}
        log.info("configuration %s", "reloaded" if changed else "unchanged", extra=extra)
        for warning in restart:
            log.warning("a change needs a restart", extra={"kind": "reload", "fields": {"detail": warning}})
        log_warnings("reload", found.warnings)
        report = ReloadReport(
            result="ok" if changed else "unchanged",
            trigger=trigger,
            at=self.loaded_at,
            generation=self._generation(),
            warnings=(*restart, *unknown, *found.warnings),
            changed=changed,
        )
        return self._report(report)

    def _refusal(self, message: str) -> list[ConfigError]:
        """An error that belongs to no line of the file."""
        return [ConfigError(str(self.path or ""), 0, 0, "", message)]

    def _rejected(self, trigger: Trigger, errors: Sequence[ConfigError]) -> ReloadReport:
        fields = {
            "trigger": trigger,
            "generation": self._generation(),
            "errors": [str(error) for error in errors],
        }
        extra = {"kind": "reload", "fields": fields}
        log.warning("configuration rejected: the last good one stays in force", extra=extra)
        report = ReloadReport(
            result="rejected", trigger=trigger, at=time(), generation=self._generation(), errors=tuple(errors)
        )
        return self._report(report)

    def _without_file(self, trigger: Trigger) -> ReloadReport:
        extra = {"kind": "reload", "fields": {"trigger": trigger, "generation": self._generation()}}
        log.warning("there is no configuration file to read; the sidecar was started without one", extra=extra)
        errors = tuple(self._refusal("the sidecar was started without a file"))
        return ReloadReport(result="rejected", trigger=trigger, at=time(), generation=self._generation(), errors=errors)

    def _report(self, report: ReloadReport) -> ReloadReport:
        self.results[report.result] += 1
        self.last = report
        return report


def _free(gone: list[object]) -> None:
    """Drop each in a turn of the loop of its own: what a thousand services leave takes milliseconds."""

    def drop() -> None:
        gone.pop()
        if gone:
            loop.call_soon(drop)

    loop = asyncio.get_running_loop()
    loop.call_soon(drop)


def log_warnings(kind: Literal["start", "reload"], warnings: Sequence[str]) -> None:
    """Log the warnings about the configuration in force; of very many the first ones, and how many there are."""
    for warning in warnings[:MOST_LOGGED]:
        log.warning("the configuration has a warning", extra={"kind": kind, "fields": {"detail": warning}})
    if len(warnings) > MOST_LOGGED:
        detail = f"{len(warnings) - MOST_LOGGED} more warnings: `sidecar check` and the admin API list all"
        log.warning("the configuration has a warning", extra={"kind": kind, "fields": {"detail": detail}})


def _needs_restart(running: Listen, wanted: Listen) -> list[str]:
    """Messages about changed options of `listen`, which need a restart."""
    return [
        f"listen.{name} stays {_written(name, getattr(running, name))};"
        f" {_written(name, getattr(wanted, name))} needs a restart"
        for name in fields_of(Listen)
        if getattr(running, name) != getattr(wanted, name)
    ]


def _written(name: str, value: object) -> str:
    if name == "max_head":
        return format_size(cast(int, value))
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
