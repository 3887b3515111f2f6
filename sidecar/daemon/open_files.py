"""Limit on open files: raises it, and divides it between apps, services, and those who watch the sidecar.

Without a free descriptor the sidecar can accept no connection, not even for a liveness probe. An app that leaks
connections, or calls many services in turn, would then cause its sidecar to be killed, and nothing would say why.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

from msgspec import Struct

from sidecar.health.active import MOST_AT_ONCE
from sidecar.net.http_listener import MOST as MOST_CONNECTIONS

OWN: Final = 48
"""Descriptors kept for what has no share: listeners, pipes, discovery, logs, and connections that are turned away."""
FEWEST: Final = 16
MOST: Final = 1 << 20
PART: Final = 32
"""Each listener besides the proxy, and each kind of checks, gets at most one of so many parts of the descriptors."""
FEWEST_CLIENTS: Final = 8
FEWEST_CHECKS: Final = 4


class Shares(Struct, frozen=True):
    """How many descriptors each part of the sidecar may use. Together they are within the limit."""

    each_way: int
    """The most connections from apps, and also the most to services."""
    listener: int
    """The most connections of the admin listener, and also of the probe listener."""
    checks: int
    """The most health checks at a time, and also the most checks of the health chain."""


def raise_limit() -> None:
    """Raise the soft limit to the hard limit. A request in flight takes two descriptors, so 1024 is too low for the
    defaults.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def shares() -> Shares:
    """Divides the limit: first the sidecar's own part, then a small one for whoever watches it, and of the rest half
    for each way.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return Shares(MOST, MOST_CONNECTIONS, MOST_AT_ONCE)
    rest = limit - OWN
    listener = min(max(rest // PART, FEWEST_CLIENTS), MOST_CONNECTIONS)
    checks = min(max(rest // PART, FEWEST_CHECKS), MOST_AT_ONCE)
    return Shares(min(max((rest - 2 * listener - 2 * checks) // 2, FEWEST), MOST), listener, checks)
