"""Another configuration takes over while requests are under way.

Owns when the file is read again, and that a bad one changes nothing. The file is read and checked beside what runs, in
a thread; what it says is put in force in one step of the event loop, so no request sees half of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time

from sidecar.config.effective import changed_keys
from sidecar.config.errors import ConfigError, ConfigErrors
from sidecar.config.load import Origins, load_with_origins
from sidecar.config.schema import Config, Listen
from sidecar.runtime.reload_report import ReloadReport, Trigger

log = logging.getLogger("sidecar.daemon")


class Reloader:
    """`adopt` puts a configuration in force, `generation` says which one is; `unfit` says why one cannot be.

    The first `last` is of the start.
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
    ) -> None:
        self.path = path
        self.config = config
        self.origins = origins
        self.results: Counter[str] = Counter(ok=0, rejected=0, unchanged=0)
        self.last = ReloadReport(result="ok", trigger="start", at=time(), generation=generation())
        self.loaded_at = self.last.at
        """When the configuration in force was read."""
        self._adopt = adopt
        self._generation = generation
        self._unfit = unfit
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, trigger: Trigger) -> ReloadReport:
        """Read the file and put it in force, or say what is wrong with it. Never raises for a bad file."""
        async with self._one_at_a_time:
            if self.path is None:
                return self._rejected(trigger, [ConfigError("", 0, 0, "", "there is no file to read again")])
            try:
                config, origins = await asyncio.to_thread(load_with_origins, self.path, os.environ)
            except ConfigErrors as bad:
                return self._rejected(trigger, bad.errors)
            if problem := self._unfit(config):
                return self._rejected(trigger, [ConfigError(str(self.path), 0, 0, "", problem)])
            return self._put_in_force(trigger, config, origins)

    def _put_in_force(self, trigger: Trigger, config: Config, origins: Origins) -> ReloadReport:
        changed = tuple(changed_keys(self.config, config))
        warnings = tuple(_needs_restart(self.config.listen, config.listen))
        if changed:
            self._adopt(config)
            self.config = config
        self.origins = origins
        self.loaded_at = time()
        result = "ok" if changed else "unchanged"
        fields = {"trigger": trigger, "generation": self._generation(), "changed": changed}
        log.info("configuration %s", "reloaded" if changed else "is as it was", extra={"fields": fields})
        for warning in warnings:
            log.warning("a change needs a restart", extra={"fields": {"detail": warning}})
        return self._report(ReloadReport(
            result="ok" if result == "ok" else "unchanged",
            trigger=trigger,
            at=self.loaded_at,
            generation=self._generation(),
            warnings=warnings,
            changed=changed,
        ))  # fmt: skip

    def _rejected(self, trigger: Trigger, errors: Sequence[ConfigError]) -> ReloadReport:
        fields = {
            "trigger": trigger,
            "generation": self._generation(),
            "errors": [str(error) for error in errors],
        }
        log.warning("configuration rejected: the last good one stays in force", extra={"fields": fields})
        report = ReloadReport(
            result="rejected", trigger=trigger, at=time(), generation=self._generation(), errors=tuple(errors)
        )
        return self._report(report)

    def _report(self, report: ReloadReport) -> ReloadReport:
        self.results[report.result] += 1
        self.last = report
        return report


def _needs_restart(running: Listen, wanted: Listen) -> list[str]:
    """What of `listen` cannot change in place."""
    return [
        f"listen.{name} stays {_addresses(getattr(running, name))}: {_addresses(getattr(wanted, name))} needs a restart"
        for name in ("proxy", "admin", "probe")
        if getattr(running, name) != getattr(wanted, name)
    ]


def _addresses(of: object) -> str:
    return ", ".join(map(str, of)) if isinstance(of, tuple) else str(of)
