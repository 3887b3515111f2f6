"""Compiles the data path with mypyc where that can be done; all else stands in pyproject.toml.

The modules are plain typed Python and run as such; compiled they cost about a third less CPU a request
(docs/decisions/0002-compiled-data-path.md). SIDECAR_COMPILE says what happens: `auto` (the default) compiles where
there are a C compiler, Python's headers and mypyc; `1` insists; `0` does not.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py

REFERENCE = ["config/sidecar.yaml", "config/sidecar.schema.json"]
"""What of the top folder is in the package too, as sidecar/config/files/."""

COMPILED = [
    "sidecar/policy/availability.py",
    "sidecar/policy/balancers/balancer.py",
    "sidecar/policy/balancers/ewma.py",
    "sidecar/policy/balancers/hashing.py",
    "sidecar/policy/balancers/least_request.py",
    "sidecar/policy/balancers/make.py",
    "sidecar/policy/balancers/peak_ewma.py",
    "sidecar/policy/balancers/priority.py",
    "sidecar/policy/balancers/random_choice.py",
    "sidecar/policy/balancers/ring.py",
    "sidecar/policy/balancers/ring_points.py",
    "sidecar/policy/balancers/round_robin.py",
    "sidecar/policy/balancers/slow_start.py",
    "sidecar/policy/balancers/weighted_draw.py",
    "sidecar/policy/health_state.py",
    "sidecar/policy/outlier.py",
    "sidecar/policy/breaker.py",
    "sidecar/policy/budget.py",
    "sidecar/policy/cache_fields.py",
    "sidecar/policy/concurrency.py",
    "sidecar/policy/round_robin.py",
    "sidecar/policy/stale_cache.py",
    "sidecar/policy/verdict.py",
    "sidecar/policy/window.py",
    "sidecar/proxy/aggregate.py",
    "sidecar/proxy/body.py",
    "sidecar/proxy/body_copy.py",
    "sidecar/proxy/call.py",
    "sidecar/proxy/chunked.py",
    "sidecar/proxy/closing.py",
    "sidecar/proxy/core.py",
    "sidecar/proxy/deadlines.py",
    "sidecar/proxy/dispatch.py",
    "sidecar/proxy/downstream.py",
    "sidecar/proxy/exchange.py",
    "sidecar/proxy/fallback.py",
    "sidecar/proxy/handler.py",
    "sidecar/proxy/hash_key.py",
    "sidecar/proxy/head_syntax.py",
    "sidecar/proxy/location.py",
    "sidecar/proxy/pool.py",
    "sidecar/proxy/request_head.py",
    "sidecar/proxy/response_head.py",
    "sidecar/proxy/stale.py",
    "sidecar/proxy/tunnel.py",
    "sidecar/proxy/under_way.py",
    "sidecar/proxy/upstream.py",
    "sidecar/runtime/breaker_counts.py",
    "sidecar/runtime/endpoint.py",
    "sidecar/runtime/live.py",
    "sidecar/runtime/routing.py",
    "sidecar/runtime/route.py",
    "sidecar/runtime/service.py",
    "sidecar/telemetry/access_log.py",
    "sidecar/telemetry/counters.py",
    "sidecar/telemetry/trace.py",
]


def can_compile() -> bool:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(compiler) is not None and headers.exists() and find_spec("mypyc") is not None


def extensions() -> list[Any]:
    wish = os.environ.get("SIDECAR_COMPILE", "auto")
    if wish == "0" or (wish == "auto" and not can_compile()):
        return []
    from mypyc.build import mypycify

    return mypycify(COMPILED, opt_level="3", debug_level="0")


class BuildPy(build_py):
    """Copies the reference file and its schema into the package: sidecar/config/reference.py reads them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.mkpath(self._files())
            for name in REFERENCE:
                self.copy_file(name, self._files())

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        names = [] if self.editable_mode else [os.path.basename(name) for name in REFERENCE]
        copied = [os.path.join(self._files(), name) for name in names]
        return [*super().get_outputs(include_bytecode), *copied]

    def _files(self) -> str:
        return os.path.join(self.build_lib, "sidecar", "config", "files")


setup(ext_modules=extensions(), cmdclass={"build_py": BuildPy})
