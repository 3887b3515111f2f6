"""Reads a pod's annotations: those that begin with `sidecar.dev/`. This table is the contract:

    annotation   value                                   default            if the value is invalid
    inject       true, false, in any case                the namespace's    warning; treated as absent
    config       CONFIGMAP or CONFIGMAP/KEY              the injector's     denied: no other policy was asked for
    image        an image                                the injector's     denied: no other program was asked for
    cpu          REQUEST or REQUEST/LIMIT: 100m, 100m/1  the injector's     warning; the default
    memory       REQUEST or REQUEST/LIMIT: 96Mi/256Mi    the injector's     warning; the default
                 (REQUEST alone is the limit too)
    log-level    debug, info, warning, error             the policy's       warning; the default
    http-proxy   true, false, or containers: app,worker  false              warning; the default. Containers that do
                                                                            not exist, or that run before an ordinary
                                                                            sidecar, are left out.

A label `sidecar.dev/inject` means the same as the annotation. If they differ, `false` wins, because webhook selectors
see only labels: for a pod with the label `false` the injector is never called. An unknown `sidecar.dev/...` gives a
warning with the closest known name. The injector itself writes `sidecar.dev/injected`: the pod has its sidecar, of this
version.

Anybody who may create a pod writes these values, and one injector reads them for the whole cluster. The time to read
them must therefore grow only linearly with their length. So each regular expression can match a text in only one way,
and lengths are checked first.

This module owns the annotations and their meaning. `sidecar.kubernetes.patch` decides what a pod finally gets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sidecar.kubernetes.quantity import BadQuantity, cpu_resources, memory_resources
from sidecar.kubernetes.settings import InjectorSettings

T = TypeVar("T")
HttpProxy: TypeAlias = bool | tuple[str, ...]

PREFIX: Final = "sidecar.dev/"
INJECT: Final = PREFIX + "inject"
INJECTED: Final = PREFIX + "injected"
KNOWN: Final = ("inject", "config", "image", "cpu", "memory", "log-level", "http-proxy")
LEVELS: Final = ("debug", "info", "warning", "error")

LONGEST_KEY: Final = 40
"""How many characters of an unknown name are compared with the known names. No known name is half as long."""
LONGEST_CONFIG: Final = 253
LONGEST_IMAGE: Final = 512
LONGEST_LIST: Final = 4096
"""The longest text with container names."""
MOST_WARNINGS: Final = 16
"""The number of warnings that fit into a response (`sidecar.kubernetes.review`)."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]+(?:-+[a-z0-9]+)*(?:\.[a-z0-9]+(?:-+[a-z0-9]+)*)*", re.ASCII)
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+", re.ASCII)
# [host[:port]/]path[:tag][@digest]: the grammar of the OCI distribution specification, with a host and a port before
# it. Each repeated part begins with a character that cannot end the part before it.
_IMAGE: Final = re.compile(
    r"(?:[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*(?:\.[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*)*(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


class BadValue(ValueError):
    """An invalid value. The message says why, and continues a sentence that begins with the value."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a pod asks for. `settings` are the injector's, changed as the pod asks.

    `given` are the names of the annotations that the pod has. `http_proxy` is True for every container of the app, or
    the names of some containers.
    """

    settings: InjectorSettings
    given: frozenset[str] = frozenset()
    log_level: str = ""
    http_proxy: HttpProxy = False
    warnings: tuple[str, ...] = ()
    denied: str | None = None


class Wish(Struct, frozen=True, kw_only=True):
    """Whether a pod wants a sidecar. None if it does not say, or if the value is invalid."""

    inject: bool | None = None
    warnings: tuple[str, ...] = ()


def wish(annotations: Mapping[str, str], labels: Mapping[str, str]) -> Wish:
    """Reads the annotation `inject` only. It comes first, because most pods of a cluster have no other one.

    The result also has warnings about unknown names, because one of them may be a misspelt `inject`.
    """
    warnings: list[str] = []
    said = [
        _Reader(texts, kind, warnings).lenient("inject", _boolean, None)
        for texts, kind in ((annotations, "annotation"), (labels, "label"))
    ]
    inject = False if False in said else True if True in said else None
    _unknown(annotations, warnings)
    return Wish(inject=inject, warnings=tuple(warnings))


def read(annotations: Mapping[str, str], settings: InjectorSettings) -> Asked:
    """Reads all other annotations of the pod, and collects warnings about them."""
    reader = _Reader(annotations, "annotation", [])
    name, key = reader.strict("config", _config, (settings.config_map, settings.config_key))
    wanted = replace(
        settings,
        config_map=name,
        config_key=key or settings.config_key,
        image=reader.strict("image", _image, settings.image),
        cpu=reader.lenient("cpu", cpu_resources, settings.cpu),
        memory=reader.lenient("memory", memory_resources, settings.memory),
    )
    no_proxy: HttpProxy = False
    log_level = reader.lenient("log-level", _level, "")
    http_proxy = reader.lenient("http-proxy", _http_proxy, no_proxy)
    return Asked(
        settings=wanted,
        given=frozenset(known for known in KNOWN if PREFIX + known in annotations),
        log_level=log_level,
        http_proxy=http_proxy,
        warnings=tuple(reader.warnings),
        denied=reader.denied,
    )


class _Reader:
    """Reads one value after the other, and collects warnings."""

    def __init__(self, texts: Mapping[str, str], kind: str, warnings: list[str]) -> None:
        self._texts = texts
        self._kind = kind
        self.warnings = warnings
        self.denied: str | None = None

    def lenient(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Returns the default for an invalid value, and adds a warning."""
        value, problem = self._read(name, parse, default)
        if problem:
            self.warnings.append(f"{problem}; ignored")
        return value

    def strict(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """An invalid value denies the pod. Only the first one is reported."""
        value, problem = self._read(name, parse, default)
        self.denied = self.denied or problem
        return value

    def _read(self, name: str, parse: Callable[[str], T], default: T) -> tuple[T, str | None]:
        text: Any = self._texts.get(PREFIX + name)
        if text is None:
            return default, None
        try:
            return parse(text.strip()), None
        except (BadValue, BadQuantity) as bad:
            return default, f"{self._kind} {PREFIX}{name} is {shown(text)}: {bad}"


def _unknown(annotations: Mapping[str, str], warnings: list[str]) -> None:
    """Reports at most as many as fit into a response, because searching for a similar name costs more than reading."""
    for key in annotations:
        if len(warnings) >= MOST_WARNINGS:
            return
        name = key.removeprefix(PREFIX)
        if not key.startswith(PREFIX) or key == INJECTED or name in KNOWN:
            continue
        near = difflib.get_close_matches(name, KNOWN, n=1) if len(name) <= LONGEST_KEY else []
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        warnings.append(f"annotation {key[:80]} is unknown{hint}")


def shown(text: str) -> str:
    """A value in a message: shortened, on one line."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def is_config_map(text: str) -> bool:
    """Whether this is a valid name of a ConfigMap (a DNS subdomain, RFC 1123)."""
    return len(text) <= LONGEST_CONFIG and _SUBDOMAIN.fullmatch(text) is not None


def is_image(text: str) -> bool:
    """Whether a kubelet would try to pull this image."""
    return len(text) <= LONGEST_IMAGE and _IMAGE.fullmatch(text) is not None


def _boolean(text: str) -> bool:
    word = text.lower() if len(text) <= 5 else ""
    if word not in ("true", "false"):
        raise BadValue("expected true or false")
    return word == "true"


def _level(text: str) -> str:
    if text not in LEVELS:
        raise BadValue(f"expected one of {', '.join(LEVELS)}")
    return text


def _config(text: str) -> tuple[str, str]:
    """Name and key of a ConfigMap. The key is empty if there is none."""
    name, slash, key = text.partition("/")
    if not is_config_map(name):
        raise BadValue("expected the name of a ConfigMap in the pod's namespace, or NAME/KEY")
    # The API server has the same rule: names that begin with two dots belong to the kubelet, in the folder it mounts.
    if slash and not (len(key) <= LONGEST_CONFIG and _KEY.fullmatch(key) and key != "." and not key.startswith("..")):
        raise BadValue("expected a ConfigMap's key after the slash")
    return name, key


def _image(text: str) -> str:
    if not is_image(text):
        raise BadValue("expected an image such as registry.example.com/sidecar:1.2")
    return text


def _http_proxy(text: str) -> HttpProxy:
    if text in ("true", "false"):
        return text == "true"
    names = tuple(dict.fromkeys(name.strip() for name in text.split(","))) if len(text) <= LONGEST_LIST else ("",)
    if not all(_LABEL.fullmatch(name) for name in names):
        raise BadValue("expected true, false, or container names: app,worker")
    return names
