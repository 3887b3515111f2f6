"""Another configuration takes over while requests are under way.

Owns how the file is read again, and that a bad one changes nothing. The file is read and checked beside what runs, in a
thread; what it says is put in force in one step of the event loop, so no request sees half of it. Should that step fail
half way, which is a defect, what was in force is put in force again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from time import time
from typing import Final, Literal

from msgspec.structs import replace

from sidecar.config.effective import changed_keys
from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.load import Origins, load_with_origins
from sidecar.config.schema import Config, Listen
from sidecar.config.warnings import warnings_of
from sidecar.runtime.reload_report import ReloadReport, Trigger

_ENDING: Final = "the sidecar is ending"

log = logging.getLogger("sidecar.daemon")


class Reloader:
    """`adopt` puts a configuration in force, `generation` says which one is; `unfit` says why one cannot be.

    `ahead` is entered before a configuration is put in force and left after it, for what it needs to be known by then;
    it gives warnings for the report.
    The first `last` is of the start, with the warnings on the configuration that was started with.
    """

    def __init__(
        self,
        path: Path | None,
        config: Config,
        origins: Origins,
        *,
        adopt: Callable[[Config], None],
        generation: Callable[[], int],
        unfit: Callable[[Config], str | None],
        ahead: Callable[[Config], AbstractAsyncContextManager[Sequence[str]]] = lambda _: nullcontext(()),
    ) -> None:
        self.path = path
        self.config = config
        """The one in force: what cannot change without a restart is as it was at the start."""
        self.origins = origins
        self.results: Counter[str] = Counter(ok=0, rejected=0, unchanged=0)
        warnings = tuple(warnings_of(config, origins))
        self.last = ReloadReport(result="ok", trigger="start", at=time(), generation=generation(), warnings=warnings)
        self.loaded_at = self.last.at
        """When the configuration in force was read."""
        self._read = config
        """What the last good file says."""
        self._adopt = adopt
        self._generation = generation
        self._unfit = unfit
        self._ahead = ahead
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    async def reload(self, trigger: Trigger) -> ReloadReport:
        """Read the file and put it in force, or say what is wrong with it. Never raises for a bad file.

        Where there is no file nothing was wrong with one: then the report is neither counted nor the `last`.
        """
        if self.path is None:
            return self._without_file(trigger)
        async with self._one_at_a_time:
            found = await self._found(self.path)
            if not isinstance(found, tuple):
                return self._rejected(trigger, found)
            config, origins = found
            if not changed_keys(self._read, config):
                return self._in_force(trigger, config, origins)
            if self._is_closed():
                return self._rejected(trigger, self._refusal(_ENDING))
            async with self._ahead(config) as unknown:
                if self._is_closed():
                    return self._rejected(trigger, self._refusal(_ENDING))
                if not self._put_in_force(config):
                    message = "a defect of the sidecar kept it from being put in force; its log has the details"
                    return self._rejected(trigger, self._refusal(message))
                return self._in_force(trigger, config, origins, unknown)

    async def catch_up(self) -> None:
        """Reload if the file is another one by now than at the start: it may have changed before it was watched."""
        if self.path is None:
            return
        found = await self._found(self.path)
        if not isinstance(found, tuple) or changed_keys(self._read, found[0]):
            await self.reload("file")

    def close(self) -> None:
        """Nothing is put in force any more."""
        self._closed = True

    def _is_closed(self) -> bool:
        return self._closed

    async def _found(self, path: Path) -> tuple[Config, Origins] | Sequence[ConfigError]:
        """What the file says, or what is wrong with it."""
        if self._is_closed():
            return self._refusal(_ENDING)
        try:
            found = await asyncio.to_thread(load_with_origins, path, os.environ)
        except ConfigErrors as bad:
            return bad.errors
        except Exception as error:
            log.error("the configuration could not be read through a defect of the sidecar", exc_info=error)
            return self._refusal("a defect of the sidecar kept it from being read; its log has the details")
        problem = self._unfit(found[0])
        return self._refusal(problem) if problem else found

    def _put_in_force(self, config: Config) -> bool:
        """False where that failed: then what was in force is so again."""
        try:
            self._adopt(config)
        except Exception as error:
            log.error("a configuration could not be put in force: back to the last", exc_info=error)
            try:
                self._adopt(self.config)
            except Exception as failure:
                log.error("nor could the last one: restart the sidecar", exc_info=failure)
            return False
        return True

    def _in_force(
        self, trigger: Trigger, config: Config, origins: Origins, unknown: Sequence[str] = ()
    ) -> ReloadReport:
        changed = tuple(changed_keys(self._read, config))
        restart = _needs_restart(self.config.listen, config.listen)
        self._read = config
        self.config = replace(config, listen=self.config.listen)
        self.origins = origins
        self.loaded_at = time()
        fields = {"trigger": trigger, "generation": self._generation(), "changed": changed}
        extra = {"kind": "reload", "fields": fields}
        log.info("configuration %s", "reloaded" if changed else "is as it was", extra=extra)
        for warning in restart:
            log.warning("a change needs a restart", extra={"kind": "reload", "fields": {"detail": warning}})
        warnings = warnings_of(self.config, origins)
        log_warnings("reload", warnings)
        report = ReloadReport(
            result="ok" if changed else "unchanged",
            trigger=trigger,
            at=self.loaded_at,
            generation=self._generation(),
            warnings=(*restart, *unknown, *warnings),
            changed=changed,
        )
        return self._report(report)

    def _refusal(self, message: str) -> list[ConfigError]:
        """What is wrong, where no line of the file is."""
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
        log.warning("no configuration file to read again: the sidecar was started without one", extra=extra)
        errors = tuple(self._refusal("there is no file to read again"))
        return ReloadReport(result="rejected", trigger=trigger, at=time(), generation=self._generation(), errors=errors)

    def _report(self, report: ReloadReport) -> ReloadReport:
        self.results[report.result] += 1
        self.last = report
        return report


def log_warnings(kind: Literal["start", "reload"], warnings: Sequence[str]) -> None:
    """A line for each warning on the configuration that is in force."""
    for warning in warnings:
        log.warning("a warning on the configuration", extra={"kind": kind, "fields": {"detail": warning}})


def _needs_restart(running: Listen, wanted: Listen) -> list[str]:
    """What of `listen` cannot change in place, and is wanted otherwise than it is."""
    return [
        f"listen.{name} stays {_addresses(getattr(running, name))}: {_addresses(getattr(wanted, name))} needs a restart"
        for name in ("proxy", "admin", "probe")
        if getattr(running, name) != getattr(wanted, name)
    ]


def _addresses(of: object) -> str:
    return ", ".join(map(str, of)) if isinstance(of, tuple) else str(of)
