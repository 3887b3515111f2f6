"""The file that the sidecar runs on: the fakes as its services, and what a test or the app's own file says of them.

Owns how an app's file becomes one for its tests. It is written as JSON, which YAML is a superset of; values stay the
text that they were, so that `off` is not taken for a boolean on the way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from sidecar.testing.errors import FakeError

Tree = dict[str, Any]

ADDRESSED: Final = ("url", "endpoints", "discovery")
"""Where a service is: in a test that is its fake, whatever the file says."""

_NOT_IN_TESTS: Final = ("listen", "admin", "log", "tracing", "checks", "drain")
"""Of the whole sidecar, and of the place where it runs."""

_LOG: Final[Tree] = {"level": "info", "access": "all"}
_DRAIN: Final[Tree] = {"delay": "0s", "timeout": "1s"}


class _Loader(yaml.SafeLoader):
    """Every value as its text, apart from null and merge keys: the sidecar itself gives them their types."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_app_file(path: Path) -> Tree:
    """What is in the app's own file. Raises FakeError where that is no mapping with services."""
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
    """The app's file without what belongs to where it runs, and without health checks: a fake is asked by nobody but
    the app. Names of files in it, relative to `folder`, become absolute.
    """
    kept = {key: value for key, value in app.items() if key not in _NOT_IN_TESTS}
    kept["services"] = {name: _for_tests(service, folder) for name, service in app["services"].items()}
    if "defaults" in kept:
        kept["defaults"] = _for_tests(kept["defaults"], folder)
    return kept


def _for_tests(policy: object, folder: Path) -> object:
    if not isinstance(policy, dict):
        return policy
    kept = {key: value for key, value in policy.items() if key not in (*ADDRESSED, "health")}
    if isinstance(kept.get("fallback"), list):
        kept["fallback"] = [_absolute(step, folder) for step in kept["fallback"]]
    if isinstance(kept.get("routes"), list):
        kept["routes"] = [_for_tests(route, folder) for route in kept["routes"]]
    return kept


def _absolute(step: object, folder: Path) -> object:
    if isinstance(step, dict) and isinstance(step.get("file"), str):
        return {**step, "file": str(folder / step["file"])}
    return step


def with_fakes(app: Tree | None, ports: Mapping[str, int], overrides: Mapping[str, Tree]) -> Tree:
    """The services at the fakes' ports, with their policies; without ports none, and nothing that names one."""
    if not ports:
        return {"services": {}}
    base = app or {"services": {}}
    services = {}
    for name, port in ports.items():
        own = base["services"].get(name)
        policy = merged(own if isinstance(own, dict) else {}, overrides.get(name, {}))
        services[name] = {"url": f"http://127.0.0.1:{port}", **policy}
    return {**base, "services": services}


def merged(below: Tree, over: Mapping[str, Any]) -> Tree:
    """`over` key by key, as a service's policy goes over the defaults; lists are replaced."""
    result = dict(below)
    for key, value in over.items():
        under = result.get(key)
        result[key] = merged(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
    return result


def write(path: Path, listen: Tree, rest: Tree) -> None:
    """In one step: the sidecar watches the file, and must not see half of it."""
    text = json.dumps({"listen": listen, "log": _LOG, "drain": _DRAIN, **rest}, ensure_ascii=False, indent=1)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
