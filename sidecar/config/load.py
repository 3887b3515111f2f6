"""Load a configuration: from a file or its text to a `Config`.

Owns the top level of the file and the order of the steps: read, type, merge, check, build. All mistakes are raised
together, as ConfigErrors. Nothing is built if there is a mistake. The environment is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from sidecar.config.aggregates import read_aggregates
from sidecar.config.annotations import fields_of, is_group
from sidecar.config.checks import check_health, check_listeners, check_policy
from sidecar.config.errors import ConfigError, ConfigErrors, Place, Reporter
from sidecar.config.fallbacks import FallbackReader
from sidecar.config.health_checks import read_checks
from sidecar.config.merge import build, leaves
from sidecar.config.schema import Config
from sidecar.config.services import ReadService, read_services
from sidecar.config.tls import TlsReader
from sidecar.config.tracing import read_tracing
from sidecar.config.tree import Level, Tree
from sidecar.config.walk import Walker
from sidecar.config.yaml_nodes import Mapping as MappingNode
from sidecar.config.yaml_nodes import read

MAX_BYTES = 4 * 1024 * 1024
"""The largest file that is read. The reference file has 20 KiB."""


class Origin(Struct, frozen=True):
    """Where an effective value was set. A value without an origin is the default of its struct."""

    level: Level
    line: int


Origins = dict[str, Origin]
"""By full key, such as `services.venue.retry.max_retries` or `services.venue.routes[0].timeout.request`."""


_SECTIONS = {key: hint for key, hint in fields_of(Config).items() if is_group(hint)}
_ROOT_EXPECTED = "expected a mapping with at least the key services: {services: {venue: {url: ...}}}"


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration in the file at `path`. Raises ConfigErrors, for an unreadable file too."""
    return load_with_origins(path, environ)[0]


def loads(text: str, file: str, environ: Mapping[str, str]) -> Config:
    """The configuration in `text`; `file` is the name in its errors. Raises ConfigErrors."""
    return _read(text, file, environ)[0]


def load_with_origins(path: Path, environ: Mapping[str, str]) -> tuple[Config, Origins]:
    """As `load`, with the origin of each value that the file sets in a section or a policy."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a valid file name"
        raise _unreadable(file, f"cannot be read: {reason}") from error
    if len(data) > MAX_BYTES:
        raise _unreadable(file, f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        return _read(data.decode(), file, environ)
    except UnicodeDecodeError as error:
        line, column = data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigErrors([ConfigError(file, line, column, "", "not valid UTF-8 from here on")]) from error


def _unreadable(file: str, message: str) -> ConfigErrors:
    return ConfigErrors([ConfigError(file, 0, 0, "", message)])


def _read(text: str, file: str, environ: Mapping[str, str]) -> tuple[Config, Origins]:
    reporter = Reporter(file)
    root = read(text, reporter)
    if not isinstance(root, MappingNode):
        if not reporter:
            reporter.report(Place(root.line, root.column) if root else Place(1, 1), _ROOT_EXPECTED)
        raise reporter.failure()
    fallbacks = FallbackReader(Path(file).parent, reporter)
    walker = Walker(environ, reporter, {"fallback": fallbacks.read})
    top = walker.entries(root, fields_of(Config), Place(root.line, root.column))
    found = {
        key: walker.entries(top[key][0], fields_of(struct), top[key][1]) if key in top else {}
        for key, struct in _SECTIONS.items()
    }
    trees = {
        key: walker.tree(found[key], fields_of(struct), "defaults" if key == "defaults" else "file")
        for key, struct in _SECTIONS.items()
    }
    tls = TlsReader(Path(file).parent, reporter)
    tls.resolve(trees["defaults"])
    check_listeners(trees["listen"], reporter)
    check_policy(trees["defaults"], reporter)
    check_health(trees["defaults"], found["defaults"], reporter)
    if "services" in top:
        services = read_services(*top["services"], trees["defaults"], walker, reporter, tls)
        policies = {service.name: [service.tree, *(route.tree for route in service.routes)] for service in services}
        fallbacks.check_services(trees["defaults"], policies)
    else:
        services = []
        reporter.report(Place(root.line, root.column), "services is missing: it is the only key that is required")
    checks = read_checks(*top["checks"], walker, reporter, tls) if "checks" in top else {}
    tracing = read_tracing(*top["tracing"], walker, reporter) if "tracing" in top else None
    names = [service.name for service in services]
    aggregates, parts = (
        read_aggregates(*top["aggregates"], names, walker, reporter) if "aggregates" in top else ({}, {})
    )
    if reporter:
        raise reporter.failure()
    sections: dict[str, Any] = {key: build(struct, trees[key]) for key, struct in _SECTIONS.items()}
    built = {service.name: service.built() for service in services}
    config = Config(**sections, tracing=tracing, services=built, checks=checks, aggregates=aggregates)
    return config, {"services": Origin("file", top["services"][1].line), **_origins(trees | parts, services)}


def _origins(sections: dict[str, Tree], services: list[ReadService]) -> Origins:
    trees = list(sections.items())
    for service in services:
        name = f"services.{service.name}"
        trees.append((name, service.tree))
        trees.extend((f"{name}.routes[{index}]", route.tree) for index, route in enumerate(service.routes))
    return {f"{name}.{key}": Origin(leaf.level, leaf.place.line) for name, tree in trees for key, leaf in leaves(tree)}
