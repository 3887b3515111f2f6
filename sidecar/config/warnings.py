"""What an operator should know of a configuration that is valid, and can be meant as it is written.

Owns these rules and their words; nothing here keeps a configuration from being used. What cannot be used is an error,
of `load` and `checks`. The one thing outside of the configuration that is looked at is whether a file can be read here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from sidecar.config.load import Origins
from sidecar.config.schema import Config
from sidecar.config.tree import Level
from sidecar.config.units import format_duration
from sidecar.policy.settings import Policy

_NARROW_LAST: Final[tuple[Level, ...]] = ("default", "defaults", "service", "route")


def warnings_of(config: Config, origins: Origins) -> list[str]:
    """One sentence each, beginning with the key; with the line of the file where `origins` knows it."""
    return [*_admin(config, origins), *dict.fromkeys(_attempts_cut_short(config, origins))]


def _admin(config: Config, origins: Origins) -> Iterator[str]:
    path = config.admin.token_file
    if path is not None:
        # No error: `check` may run where the secret is not mounted. A folder can be "read" too.
        if not os.access(path, os.R_OK) or os.path.isdir(path):
            known = origins.get("admin.token_file")
            line = f" (line {known.line})" if known else ""
            yield f"admin.token_file: {path}{line} cannot be read here: the admin API would refuse everybody"
    elif _others_reach(config.listen.admin.host):
        # Without the line: after a reload the file may name another address than the one that is still bound.
        yield (
            f"listen.admin is {config.listen.admin}, not loopback, and admin.token_file is not set:"
            " whoever reaches that port can open breakers and end the sidecar"
        )


def _others_reach(host: str) -> bool:
    """Whether a listener bound to `host` (no brackets) is reached from other machines."""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        address = ip_address(host)
    except ValueError:
        return True
    return not (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _attempts_cut_short(config: Config, origins: Origins) -> Iterator[str]:
    """The same sentence again from each service and route that inherits both values."""
    for name, service in config.services.items():
        path = f"services.{name}"
        yield from _attempt_cut_short(path, path, service.policy, origins)
        for at, route in enumerate(service.routes):
            yield from _attempt_cut_short(f"{path}.routes[{at}]", path, route.policy, origins)


def _attempt_cut_short(path: str, service: str, policy: Policy, origins: Origins) -> Iterator[str]:
    """Told at the narrowest level that set one of the two; where the file set neither, the defaults go together."""
    attempt, request = policy.timeout.attempt, policy.timeout.request
    if attempt <= request:
        return
    known = [origins.get(f"{path}.timeout.{key}") for key in ("attempt", "request")]
    level = max((one.level for one in known if one), key=_NARROW_LAST.index, default="default")
    if level == "default":
        return
    where = {"defaults": "defaults", "service": service}.get(level, path)
    first, second = (f"line {one.line}" if one else "by default" for one in known)
    yield (
        f"{where}: timeout.attempt ({format_duration(attempt)}, {first}) is longer than"
        f" timeout.request ({format_duration(request)}, {second}), which ends it first"
    )
