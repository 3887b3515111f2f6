"""`python -m benchmarks.config_memory`: the memory that reading the configuration costs, by our walker and by pydantic.

Each way runs in a fresh process that has loaded what the daemon loads in any case (aiohttp, uvloop, PyYAML, the
Prometheus client, and the structs of the configuration). Then it reads `config/sidecar.yaml`, and the memory before and
after is compared. pydantic gets a model for each struct, made from the same definition, with plain types for all values
that are not groups of keys: no units, no references, no lines in its errors. So its figure is a lower bound. Linux
only.
"""

from __future__ import annotations

import gc
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.__main__ import machine

ROOT: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = ROOT / "config" / "sidecar.yaml"
ROUNDS: Final = 7


def read_by_walker() -> None:
    """Reads the file as the daemon does."""
    from sidecar.config.load import load_with_origins

    kept.append(load_with_origins(REFERENCE, {}))


def read_by_pydantic() -> None:
    import yaml
    from msgspec import Struct
    from pydantic import BaseModel, ConfigDict, create_model

    from sidecar.config.annotations import fields_of, group_of
    from sidecar.config.schema import Config, Service

    plain = str | int | float | bool | list[Any] | dict[str, Any] | None

    def model_of(struct: type[Struct], more: dict[str, Any]) -> type[BaseModel]:
        hints = {key: group_of(hint) for key, hint in fields_of(struct).items()}
        fields = {key: (model_of(group, {}) | bool | None if group else plain, None) for key, group in hints.items()}
        fields |= {key: (hint, None) for key, hint in more.items()}
        made: type[BaseModel] = create_model(struct.__name__, __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload]
        return made

    service = model_of(Service, {"url": plain})
    config = model_of(Config, {"services": dict[str, service]})  # type: ignore[valid-type]
    # Not the safe loader: under YAML 1.1 it turns the key `on` into True.
    kept.append(config.model_validate(yaml.load(REFERENCE.read_text(), Loader=yaml.CBaseLoader)))


kept: list[Any] = []
"""Keeps what was read in memory, as the daemon does."""

WAYS: Final[dict[str, Callable[[], None]]] = {
    "msgspec, its import alone": lambda: kept.append(import_module("msgspec")),
    "the walker, with the reference file read": read_by_walker,
    "pydantic, its import alone": lambda: kept.append(import_module("pydantic.main")),
    "pydantic, with the reference file read": read_by_pydantic,
}
LOADED: Final = ("aiohttp.web", "uvloop", "yaml")
"""The modules that the daemon loads in any case."""


def memory_kib() -> dict[str, int]:
    """`Rss` and `Pss` of this process, in KiB."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return {name: int(size) for name, size in re.findall(r"^(Rss|Pss): +(\d+) kB", rollup, re.MULTILINE)}


def measure(way: str) -> dict[str, float]:
    """What `way` adds to this process: MiB of `Rss` and `Pss`, and `ms`."""
    for name in LOADED:
        import_module(name)
    if not way.startswith("msgspec"):
        import_module("sidecar.config.schema")
    gc.collect()
    before, began = memory_kib(), time.perf_counter()
    WAYS[way]()
    took_ms = (time.perf_counter() - began) * 1000
    gc.collect()
    after = memory_kib()
    return {name: (after[name] - before[name]) / 1024 for name in before} | {"ms": took_ms}


def measured(way: str) -> dict[str, float]:
    """The same, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.config_memory", way]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    found: dict[str, float] = json.loads(printed)
    return found


def main() -> None:
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, found in runs.items():
            found.append(measured(way))
    print(f"{machine()}; medians of {ROUNDS} runs.")
    print("| adds to a daemon's process | PSS MiB | RSS MiB | ms |")
    print("|---|---:|---:|---:|")
    for way, found in runs.items():
        middle = {name: statistics.median(run[name] for run in found) for name in found[0]}
        print(f"| {way} | {middle['Pss']:.1f} | {middle['Rss']:.1f} | {middle['ms']:.0f} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
