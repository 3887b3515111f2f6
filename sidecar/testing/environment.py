"""Sets the environment of an app in a test: the sidecar's URL, and no proxy in front of it.

Most HTTP clients obey HTTP_PROXY, also for loopback unless NO_PROXY excludes it. Machines that run tests often set it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

URL: Final = "SIDECAR_URL"
_DIRECT: Final = ("127.0.0.1", "localhost")
_PROXIES: Final = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_NO_PROXY: Final = ("no_proxy", "NO_PROXY")


@contextmanager
def pointed_at(url: str) -> Iterator[None]:
    """In this block, SIDECAR_URL is `url`. If a proxy is set, NO_PROXY lists loopback as well."""
    wanted = {URL: url}
    if any(os.environ.get(name) for name in _PROXIES):
        # Some clients read one spelling, some the other. If both are set, most take the lower-case one.
        known = next((found for name in _NO_PROXY if (found := os.environ.get(name))), "")
        hosts = [host.strip() for host in known.split(",") if host.strip()]
        hosts += [host for host in _DIRECT if host not in hosts and "*" not in hosts]
        wanted |= dict.fromkeys(_NO_PROXY, ",".join(hosts))
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
