"""What became of an attempt to put another configuration in force.

Owns its shape: the log, the metric, the admin API and the dashboard all tell it from here.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sidecar.config.errors import ConfigError

Trigger = Literal["start", "file", "signal", "api"]


class ReloadReport(Struct, frozen=True, kw_only=True):
    """`at` is Unix time in seconds; `generation` is that of the configuration in force after it."""

    result: Literal["ok", "unchanged", "rejected"]
    trigger: Trigger
    at: float
    generation: int
    errors: tuple[ConfigError, ...] = ()
    warnings: tuple[str, ...] = ()
    """What the new file asks for and does not have (it needs a restart, or names that nobody knows), and what
    `sidecar.config.warnings` says of what is in force."""
    changed: tuple[str, ...] = ()
    """Key paths, as `services.venue.timeout.attempt`."""
