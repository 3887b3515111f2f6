"""Reload report: the result of an attempt to apply another configuration.

Owns its shape. The log, the metric, the admin API and the dashboard all use it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sidecar.config.errors import ConfigError

Trigger = Literal["start", "file", "signal", "api"]


class ReloadReport(Struct, frozen=True, kw_only=True):
    """`at` is Unix time in seconds. `generation` is that of the configuration in force afterwards."""

    result: Literal["ok", "unchanged", "rejected"]
    trigger: Trigger
    at: float
    generation: int
    errors: tuple[ConfigError, ...] = ()
    warnings: tuple[str, ...] = ()
    """What the new file asks for but does not get (a restart is needed, or a name is unknown), and the warnings of
    `sidecar.config.warnings` about the configuration in force.
    """
    changed: tuple[str, ...] = ()
    """Changed keys as paths, such as `services.venue.timeout.attempt`."""
