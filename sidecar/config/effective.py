"""The effective configuration as a file would have it: each value as an operator writes it, and where it was set.

Owns the way back from structs to written values, and what may be shown. The value of a header, the body of an answer,
the query of a target, and the password and path of a URL may be secrets from the environment; they are shown as `***`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, get_args, get_origin

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from sidecar.config.annotations import fields_of, forms_of, is_group, kind_of, scalar_hint, tag_of, unwrapped
from sidecar.config.load import Origins
from sidecar.config.schema import CheckUrl, Config, Route, Service
from sidecar.config.units import format_duration, format_size

HIDDEN: Final = "***"

_SECRET_KINDS: Final = frozenset({"headers", "body"})
_SHOWN_HEADERS: Final = frozenset({"accept", "content-type", "host", "user-agent"})
"""Headers whose values are not secret, in lower case."""


class Setting(Struct, frozen=True):
    """An effective value. `origin` is default, file (outside of policies), defaults, service or route. `line` is the
    line in the file, if it is known."""

    value: Any
    origin: str = "default"
    line: int | None = None


_OFF: Final = "off"
_DEFAULT: Final = Setting(None)
_IN_FILE: Final = Setting(None, "file")

Tree = dict[str, Any]
"""Key -> Setting, or a Tree of those below it."""


def policy_tree(of: Service | Route, path: str, origins: Origins) -> Tree:
    """The policy of a service or route; `path` is its key path, such as `services.venue.routes[0]`."""
    return _tree(of.policy, path, origins)


def config_tree(config: Config, origins: Origins) -> Tree:
    """The whole configuration, as a file would have it: the keys of a policy are beside those of its service."""
    found: Tree = {}
    for key in fields_of(Config):
        value = getattr(config, key)
        if key == "services":
            found[key] = {name: service_tree(service, origins) for name, service in config.services.items()}
        elif isinstance(value, dict):
            found[key] = {name: _tree(one, f"{key}.{name}", origins, _IN_FILE) for name, one in value.items()}
        elif value is None:
            found[key] = Setting(_OFF)
        else:
            found[key] = _tree(value, key, origins, _IN_FILE)
    return found


def flat(tree: Tree, path: str = "") -> Iterator[tuple[str, Setting]]:
    """Every value, as (key path, setting)."""
    for key, below in tree.items():
        here = f"{path}.{key}" if path else key
        if isinstance(below, Setting):
            yield here, below
        else:
            yield from flat(below, here)


def changed_keys(old: Config, new: Config) -> list[str]:
    """The key paths whose values differ. A service that was added or removed is one key, without the keys below it.

    Values that may be secret are compared too, but not shown.
    """
    changed: list[str] = []
    for key in fields_of(Config):
        before, after = getattr(old, key), getattr(new, key)
        if not isinstance(before, dict):
            changed += _differing(before, after, key)
            continue
        for name in sorted({*before, *after}):
            path = f"{key}.{name}"
            if name not in before or name not in after:
                changed.append(path)
            else:
                changed += _differing(before[name], after[name], path)
    return changed


def _differing(old: Any, new: Any, path: str) -> list[str]:
    """The paths below this one whose values differ, or this path itself if none below it can be named."""
    if old == new:
        return []
    if isinstance(old, Service) and isinstance(new, Service):
        found = [
            *_differing(old.policy, new.policy, path),
            *_differing_keys(old, new, path, without=("name", "policy", "own_timeouts", "routes")),
        ]
        found += _own_changed(old, new, path, found)
        if [route.match for route in old.routes] != [route.match for route in new.routes]:
            found.append(f"{path}.routes")
        else:
            for at, (before, after) in enumerate(zip(old.routes, new.routes, strict=True)):
                found += _differing(before.policy, after.policy, f"{path}.routes[{at}]")
                if before.own_breaker != after.own_breaker:
                    found.append(f"{path}.routes[{at}].breaker")
                found += _own_changed(before, after, f"{path}.routes[{at}]", found)
        return found or [path]
    kind: type[Any] = type(old)
    if kind is type(new) and is_group(kind) and fields_of(kind):
        return _differing_keys(old, new, path) or [path]
    return [path]


def _own_changed(old: Service | Route, new: Service | Route, path: str, found: list[str]) -> list[str]:
    """The timeouts that one of the two sets itself to what it inherits in the other: they count for gRPC."""
    changed = [f"{path}.timeout.{key}" for key in sorted(old.own_timeouts ^ new.own_timeouts)]
    return [one for one in changed if one not in found]


def _differing_keys(old: Struct, new: Struct, path: str, *, without: tuple[str, ...] = ()) -> list[str]:
    keys = [key for key in fields_of(type(old)) if key not in without]
    return [one for key in keys for one in _differing(getattr(old, key), getattr(new, key), f"{path}.{key}")]


def service_tree(service: Service, origins: Origins) -> Tree:
    """One service, as a file would have it."""
    path = f"services.{service.name}"
    found: Tree = {}
    if service.discovery is not None:
        tag = tag_of(type(service.discovery)) or ""
        found["discovery"] = {tag: _tree(service.discovery, path, {}, Setting(None, "service"))}
    else:
        endpoints = [_as_written(endpoint, type(endpoint)) for endpoint in service.endpoints]
        found["endpoints"] = Setting(endpoints, "service")
    found["protocol"] = Setting(service.protocol, "service" if service.h2 else "default")
    found["grpc"] = Setting(list(service.grpc), "service" if service.grpc else "default")
    found["hosts"] = Setting(list(service.hosts), "service" if service.hosts else "default")
    found["required"] = Setting(service.required, "service" if service.required else "default")
    found |= policy_tree(service, path, origins)
    for at, route in enumerate(service.routes):
        inner: Tree = {"match": Setting(_as_written(route.match, type(route.match)), "route")}
        found[f"routes[{at}]"] = inner | policy_tree(route, f"{path}.routes[{at}]", origins)
    return found


def _tree(of: Struct, path: str, origins: Origins, above: Setting = _DEFAULT) -> Tree:
    """The keys of a struct. A value without a known origin that is not the default was set with the group above it,
    whose setting is `above`."""
    found: Tree = {}
    for key, hint in fields_of(type(of)).items():
        value = getattr(of, key)
        here = f"{path}.{key}"
        known = origins.get(here)
        by = Setting(None, known.level, known.line) if known else above
        if isinstance(value, Struct) and is_group(type(value)):
            tag = tag_of(type(value))
            below = _tree(value, here, origins, by)
            found[key] = {tag: below} if tag else below
        elif isinstance(value, dict) and value and isinstance(next(iter(value.values())), Struct):
            found[key] = {name: _tree(one, f"{here}.{name}", origins, by) for name, one in value.items()}
        else:
            if known is None and value == _defaults_of(type(of)).get(key, _DEFAULT):
                by = _DEFAULT
            found[key] = Setting(_as_written(value, hint), by.origin, by.line)
    return found


@cache
def _defaults_of(struct: type[Struct]) -> Mapping[str, Any]:
    """Key -> default, for the keys that have one."""
    found: dict[str, Any] = {}
    for field in fields(struct):
        if field.default is not NODEFAULT:
            found[field.name] = field.default
        elif field.default_factory is not NODEFAULT:
            found[field.name] = field.default_factory()
    return found


def _as_written(value: Any, hint: Any) -> Any:
    """A value as it is written in a file. Numbers and booleans stay numbers and booleans."""
    if value is None:
        return _OFF
    if isinstance(value, Struct):
        if not is_group(type(value)):
            return _url(value) if isinstance(value, CheckUrl) else shown_target(str(value))
        inner = {key: _as_written(getattr(value, key), one) for key, one in fields_of(type(value)).items()}
        return {key: one for key, one in inner.items() if one not in (_OFF, [], {})}
    base, meta = unwrapped(scalar_hint(hint) if not isinstance(hint, type) or forms_of(hint) else hint)
    kind = kind_of(meta)
    if kind in _SECRET_KINDS:
        return _hidden(value)
    if kind == "target":
        return shown_target(value)
    if kind == "server_url":
        return _server(value)
    if kind == "duration":
        return format_duration(value)
    if kind == "size":
        return format_size(value)
    if kind == "percentage":
        return f"{value:g}%"
    if isinstance(value, frozenset):
        return set_as_written(value)
    if isinstance(value, tuple | list):
        inner_hint = (get_args(base) or (Any,))[0] if get_origin(base) in (tuple, list) else Any
        return [_as_written(one, type(one) if isinstance(one, Struct) else inner_hint) for one in value]
    if isinstance(value, dict):
        return {key: _as_written(one, type(one)) for key, one in value.items()}
    if isinstance(value, bytes):
        return HIDDEN
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def shown_target(target: str) -> str:
    """The path. A query is hidden, because it may hold API keys."""
    path, mark, query = target.partition("?")
    return f"{path}?{HIDDEN}" if query else path + mark


def _server(url: str) -> str:
    """Scheme and authority. A path is hidden: some services for spans or messages have their keys there."""
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    return f"{scheme}://{authority}" + (f"/{HIDDEN}" if path else "")


def _url(url: CheckUrl) -> str:
    """The URL. User name, password and target are hidden."""
    return f"{url}/{HIDDEN}" if url.password or url.username or url.target != "/" else str(url)


def _hidden(value: Any) -> Any:
    """The names of headers, or whether there is a body. Their content is hidden, because it may be a secret."""
    if isinstance(value, Mapping):
        return {name: one if name.lower() in _SHOWN_HEADERS else HIDDEN for name, one in value.items()}
    return HIDDEN if value else ""


def set_as_written(values: frozenset[Any]) -> list[Any]:
    """Words first, in order; then numbers. Three or more numbers in a row become a range."""
    ranges: list[Any] = []
    numbers = sorted(value for value in values if isinstance(value, int))
    for start in [number for number in numbers if number - 1 not in values]:
        end = start
        while end + 1 in values:
            end += 1
        ranges += [f"{start}-{end}"] if end - start > 1 else list(range(start, end + 1))
    return [*sorted(value for value in values if isinstance(value, str)), *ranges]
