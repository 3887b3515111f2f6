"""How many file descriptors there may be, and the shares of them that connections of apps and to services may take.

With no descriptor left nothing can be accepted, a kubelet's question about liveness neither: a pod whose app leaks
connections, or whose few connections call many services in turn, would have its sidecar killed, and nothing would say
why.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

OWN: Final = 64
"""For what is no request: listeners, their pipes and few connections at a time, checks, sources, logs."""
FEWEST: Final = 16
MOST: Final = 1 << 20


def raise_limit() -> None:
    """Each request in flight takes two descriptors; a soft limit of 1024 would be met below the default limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_each_way() -> int:
    """Of apps, and to services: half of what is not the sidecar's own."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST
    return min(max((limit - OWN) // 2, FEWEST), MOST)
