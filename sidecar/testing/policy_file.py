"""Writes the sidecar's configuration file for a test: the fakes as its services, plus the policies of the test or of
the app's own file.

This module owns how an app's file is adapted for tests. The file is written as JSON, which is also YAML. Values stay
the text that they were, so that `off` does not become a boolean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from sidecar.testing.errors import FakeError

Tree = dict[str, Any]

ADDRESSED: Final = ("url", "endpoints", "discovery")
"""Keys that locate a service. In a test the fake replaces them."""

_OF_THE_WIRE: Final = ("protocol", "tls")
"""Keys about how a service is spoken to. Fakes have no TLS, and what they speak is theirs to say."""

_NOT_IN_TESTS: Final = ("listen", "admin", "log", "tracing", "checks", "drain")
"""Keys of the whole sidecar, and of the place where it runs."""

_LOG: Final[Tree] = {"level": "info", "access": "all"}
_DRAIN: Final[Tree] = {"delay": "0s", "timeout": "1s"}


class _Loader(yaml.SafeLoader):
    """Reads every value as text, except null and merge keys. The sidecar itself converts the values to their types."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_app_file(path: Path) -> Tree:
    """The content of the app's own file. Raises FakeError if it is not a mapping with services."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise FakeError(f"sidecar_config: {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FakeError(f"sidecar_config: {path} is not YAML: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("services"), dict):
        raise FakeError(f"sidecar_config: {path} has no services")
    return found


def for_tests(app: Tree, folder: Path) -> Tree:
    """The app's file without the keys that depend on where the sidecar runs, and without health checks, so that a fake
    receives only the app's requests. File names, which are relative to `folder`, become absolute.
    """
    kept = {key: value for key, value in app.items() if key not in _NOT_IN_TESTS}
    kept["services"] = {name: _for_tests(service, folder) for name, service in app["services"].items()}
    if "defaults" in kept:
        kept["defaults"] = _for_tests(kept["defaults"], folder)
    return kept


def _for_tests(policy: object, folder: Path) -> object:
    if not isinstance(policy, dict):
        return policy
    kept = {key: value for key, value in policy.items() if key not in (*ADDRESSED, *_OF_THE_WIRE, "health")}
    if isinstance(kept.get("fallback"), list):
        kept["fallback"] = [_absolute(step, folder) for step in kept["fallback"]]
    if isinstance(kept.get("routes"), list):
        kept["routes"] = [_for_tests(route, folder) for route in kept["routes"]]
    return kept


def _absolute(step: object, folder: Path) -> object:
    if isinstance(step, dict) and isinstance(step.get("file"), str):
        return {**step, "file": str(folder / step["file"])}
    return step


def with_fakes(app: Tree | None, fakes: Mapping[str, Tree], overrides: Mapping[str, Tree]) -> Tree:
    """The services at their fakes (see `http_fake`, `grpc_fake`), with their policies. Without any, the file names no
    service at all.
    """
    if not fakes:
        return {"services": {}}
    base = app or {"services": {}}
    services = {}
    for name, at in fakes.items():
        own = base["services"].get(name)
        services[name] = at | merged(own if isinstance(own, dict) else {}, overrides.get(name, {}))
    return {**base, "services": services}


def http_fake(port: int) -> Tree:
    return {"url": f"http://127.0.0.1:{port}"}


def grpc_fake(port: int, claims: Iterable[str]) -> Tree:
    """`claims` are the gRPC services by which apps find it, unless the app's own file says which."""
    named = list(claims)
    return {"url": f"grpc://127.0.0.1:{port}"} | ({"grpc": named} if named else {})


def speaks_grpc(service: object) -> bool:
    """Whether the app's own file says of this service that it speaks gRPC."""
    if not isinstance(service, dict):
        return False
    return "grpc" in service or any("grpc://" in str(service.get(key)) for key in ADDRESSED)


def merged(below: Tree, over: Mapping[str, Any]) -> Tree:
    """`over` applied key by key, as a service's policy applies to the defaults. Lists are replaced."""
    result = dict(below)
    for key, value in over.items():
        under = result.get(key)
        result[key] = merged(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
    return result


def write(path: Path, listen: Tree, rest: Tree) -> None:
    """Writes in one step: the sidecar watches the file and must never see an incomplete one."""
    text = json.dumps({"listen": listen, "log": _LOG, "drain": _DRAIN, **rest}, ensure_ascii=False, indent=1)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
