"""Limit on open files: raises it, and divides it between connections from apps and connections to services.

Without a free descriptor the sidecar can accept no connection, not even for a liveness probe. An app that leaks
connections, or calls many services in turn, would then cause its sidecar to be killed, and nothing would say why.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

OWN: Final = 64
"""Descriptors kept for everything but requests: listeners and their connections, pipes, checks, discovery, logs."""
FEWEST: Final = 16
MOST: Final = 1 << 20


def raise_limit() -> None:
    """Raise the soft limit to the hard limit. A request in flight takes two descriptors, so 1024 is too low for the
    defaults.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_each_way() -> int:
    """The most connections from apps, and also the most to services: half of the descriptors that are not kept."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST
    return min(max((limit - OWN) // 2, FEWEST), MOST)
