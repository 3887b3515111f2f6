"""Compiles the data path with mypyc, and the head scanner, where that can be done; all else stands in pyproject.toml.

The modules are plain typed Python and run as such; compiled they take less than a third of the CPU a request
(docs/performance.md, docs/decisions/0002-compiled-data-path.md). SIDECAR_COMPILE says what happens. `auto`, the
default: compile, and where that fails, for whatever reason, go on without and say why in one line. `1`: compile or
fail. `0`: do not compile. An editable install compiles with `1` alone: with compiled modules beside the sources an
edit would change nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
import textwrap
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Distribution, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError, LinkError

MYPY = "mypy>=2.4.1,<2.5"
"""Brings mypyc. A range: what a newer one makes of the data path has to be measured first."""

REFERENCE = ["config/sidecar.yaml", "config/sidecar.schema.json"]
"""What of the top folder is in the package too, beside the reason why it is not compiled: sidecar/config/files/."""

COMPILED = [
    "sidecar/net/under_way.py",
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
    "sidecar/policy/breaker.py",
    "sidecar/policy/breaker_counters.py",
    "sidecar/policy/budget.py",
    "sidecar/policy/cache_fields.py",
    "sidecar/policy/concurrency.py",
    "sidecar/policy/endpoint_state.py",
    "sidecar/policy/grpc.py",
    "sidecar/policy/health_state.py",
    "sidecar/policy/outlier.py",
    "sidecar/policy/round_robin.py",
    "sidecar/policy/stale_cache.py",
    "sidecar/policy/verdict.py",
    "sidecar/policy/window.py",
    "sidecar/proxy/body_sink.py",
    "sidecar/proxy/core.py",
    "sidecar/proxy/deadlines.py",
    "sidecar/proxy/downstream/closing.py",
    "sidecar/proxy/downstream/h2_connection.py",
    "sidecar/proxy/downstream/h2_stream.py",
    "sidecar/proxy/downstream/handler.py",
    "sidecar/proxy/downstream/http1_connection.py",
    "sidecar/proxy/downstream/registry.py",
    "sidecar/proxy/downstream/stream.py",
    "sidecar/proxy/exchange/aggregate.py",
    "sidecar/proxy/exchange/body_copy.py",
    "sidecar/proxy/exchange/clock.py",
    "sidecar/proxy/exchange/dispatch.py",
    "sidecar/proxy/exchange/exchange.py",
    "sidecar/proxy/exchange/fallback.py",
    "sidecar/proxy/exchange/grpc_terms.py",
    "sidecar/proxy/exchange/hash_key.py",
    "sidecar/proxy/exchange/inner_call.py",
    "sidecar/proxy/exchange/location.py",
    "sidecar/proxy/exchange/outcome.py",
    "sidecar/proxy/exchange/request.py",
    "sidecar/proxy/exchange/retrying.py",
    "sidecar/proxy/exchange/service_call.py",
    "sidecar/proxy/exchange/stale.py",
    "sidecar/proxy/exchange/tracing.py",
    "sidecar/proxy/exchange/tunnel.py",
    "sidecar/proxy/h2/connection.py",
    "sidecar/proxy/h2/field_rules.py",
    "sidecar/proxy/h2/frame_reader.py",
    "sidecar/proxy/h2/frames.py",
    "sidecar/proxy/h2/hpack.py",
    "sidecar/proxy/h2/huffman.py",
    "sidecar/proxy/h2/limits.py",
    "sidecar/proxy/h2/request.py",
    "sidecar/proxy/h2/response.py",
    "sidecar/proxy/h2/static_table.py",
    "sidecar/proxy/h2/stream.py",
    "sidecar/proxy/h2/writer.py",
    "sidecar/proxy/http1/chunked.py",
    "sidecar/proxy/http1/head_syntax.py",
    "sidecar/proxy/http1/request_body.py",
    "sidecar/proxy/http1/request_head.py",
    "sidecar/proxy/http1/response_head.py",
    "sidecar/proxy/outgoing.py",
    "sidecar/proxy/record.py",
    "sidecar/proxy/upstream/h2_check.py",
    "sidecar/proxy/upstream/h2_connection.py",
    "sidecar/proxy/upstream/h2_pool.py",
    "sidecar/proxy/upstream/h2_stream.py",
    "sidecar/proxy/upstream/http1_connection.py",
    "sidecar/proxy/upstream/linked_list.py",
    "sidecar/proxy/upstream/opening.py",
    "sidecar/proxy/upstream/pool.py",
    "sidecar/proxy/upstream/service_pool.py",
    "sidecar/proxy/upstream/slots.py",
    "sidecar/proxy/upstream/stream.py",
    "sidecar/proxy/watermarks.py",
    "sidecar/runtime/additions.py",
    "sidecar/runtime/endpoint.py",
    "sidecar/runtime/endpoint_picker.py",
    "sidecar/runtime/live.py",
    "sidecar/runtime/route.py",
    "sidecar/runtime/routes.py",
    "sidecar/runtime/routing.py",
    "sidecar/runtime/service.py",
    "sidecar/telemetry/access_log.py",
    "sidecar/telemetry/counters.py",
    "sidecar/telemetry/trace.py",
]

SCANNER = Extension(
    "sidecar.proxy.http1._scan",
    ["sidecar/proxy/http1/scan.c"],
    depends=["sidecar/proxy/http1/slices.h"],
    extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden"],
)
"""Written by hand in C (docs/decisions/0014-head-scanner.md); where it is not built, Python reads all heads."""

WISH = os.environ.get("SIDECAR_COMPILE", "auto")


def obstacle() -> str | None:
    """Why nothing can be compiled here, or is not to be; None where it looks as if it could."""
    if WISH == "0":
        return "built with SIDECAR_COMPILE=0"
    if WISH == "auto" and "editable_wheel" in sys.argv:
        return "an editable install runs the sources"
    if platform.python_implementation() != "CPython":
        return f"mypyc is for CPython, and this is {platform.python_implementation()}"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        return f"Python's headers are missing ({header})"
    return None


OBSTACLE = obstacle()


class Sidecar(Distribution):
    """Is for one platform as long as nothing keeps it from being compiled."""

    not_compiled: str | None = OBSTACLE
    """Why it is not, in a few words."""

    def has_ext_modules(self) -> bool:
        return self.not_compiled is None


class Build(build):
    """Says at the end why it is not compiled, and puts that into the package: `sidecar --version` shows it."""

    def run(self) -> None:
        super().run()
        reason = self.distribution.not_compiled
        if reason is not None:
            Path(self.build_lib, "sidecar", "config", "files", "not_compiled.txt").write_text(reason + "\n")
            sys.stderr.write(f"service-sidecar: not compiled: {reason}\n")


class BuildPy(build_py):
    """Starts from an empty folder, and copies the reference file and its schema into the package."""

    def run(self) -> None:
        if not self.editable_mode:
            self._remove_what_an_earlier_build_left()
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

    def _remove_what_an_earlier_build_left(self) -> None:
        """A module that is gone, or compiled code of a source that was changed since."""
        shutil.rmtree(os.path.join(self.build_lib, "sidecar"), ignore_errors=True)
        remove_compiled(self.build_lib)


class BuildExt(build_ext):
    """From Python to C to machine code: here and not at the top, because a build runs setup.py several times."""

    def run(self) -> None:
        try:
            self.distribution.ext_modules = [*translated(self.build_temp), SCANNER]
            compiling = Compiling(self.distribution)
            compiling.inplace = self.inplace
            compiling.ensure_finalized()
            compiling.run()
            self.extensions = compiling.extensions
        except (CompileError, LinkError):
            if WISH == "1":
                raise
            self._go_on_without("the C compiler failed; `pip install -v` shows its messages")
        except Exception as error:
            if WISH == "1":
                raise
            self._go_on_without(textwrap.shorten(str(error) or type(error).__name__, 200))

    def _go_on_without(self, reason: str) -> None:
        """As if nobody had tried: no half of the modules, and a wheel for every platform."""
        self.distribution.not_compiled = reason
        self.distribution.ext_modules = self.extensions = []
        remove_compiled(self.build_lib)
        wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel is not None:
            wheel.root_is_pure = True


class Compiling(build_ext):
    """Runs as many C compilers at a time as there are cores: setuptools alone has one a library, whatever its files."""

    def build_extensions(self) -> None:
        one_after_the_other: Callable[..., list[str]] = self.compiler.compile
        self.parallel = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with ThreadPoolExecutor(self.parallel) as pool:

            def side_by_side(sources: list[str], **options: Any) -> list[str]:
                running = [pool.submit(one_after_the_other, [source], **options) for source in sources]
                try:
                    return [name for one in running for name in one.result()]
                finally:
                    for one in running:
                        one.cancel()

            self.compiler.compile = side_by_side
            super().build_extensions()


def translated(folder: str) -> list[Any]:
    """The extensions, with their C code in `folder`. Raises RuntimeError with mypyc's first complaint."""
    if find_spec("mypyc") is None:
        raise RuntimeError("mypyc is not installed (pip install mypy)")
    from mypyc.build import mypycify

    os.environ.pop("MYPYPATH", None)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            extensions: list[Any] = mypycify(
                ["--config-file=stubs/mypy.ini", *COMPILED],
                multi_file=True,
                opt_level="1",
                debug_level="0",
                target_dir=folder,
            )
    except SystemExit as left:
        lines = said.getvalue().splitlines()
        first = next((line for line in lines if ": error: " in line), None) or (lines or [str(left)])[-1]
        raise RuntimeError(f"mypyc: {first}") from left
    for one in extensions:
        # A compiler that is newer than mypyc may warn of what it did not know.
        one.extra_compile_args = [*one.extra_compile_args, "-Wno-error", "-fvisibility=hidden"]
    return extensions


def readme_for_an_index() -> str:
    """The README for a package index, which shows it without the files beside it: links lead to the site's pages."""
    with open("pyproject.toml", "rb") as file:
        site: str = tomllib.load(file)["project"]["urls"]["Documentation"]

    def page(link: re.Match[str]) -> str:
        path, mark, anchor = link[1].partition("#")
        name = path.removeprefix("docs/") if path.startswith("docs/") else path.lower()
        name = name.replace("README.md", "index.md")
        return f"]({site}{name.removesuffix('.md')}.html{mark}{anchor})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)\s]+)\)", page, Path("README.md").read_text(encoding="utf-8"))


def remove_compiled(folder: str) -> None:
    for name in ("*__mypyc*.so", "sidecar/**/*.so"):
        for path in Path(folder).glob(name):
            path.unlink()


if WISH not in ("auto", "0", "1"):
    sys.exit(f"SIDECAR_COMPILE is auto, 1 or 0, and not {WISH!r}")
if WISH == "1" and OBSTACLE is not None:
    sys.exit(f"SIDECAR_COMPILE=1, but {OBSTACLE}")
setup(
    long_description=readme_for_an_index(),
    long_description_content_type="text/markdown",
    distclass=Sidecar,
    cmdclass={"build": Build, "build_py": BuildPy, "build_ext": BuildExt},
    setup_requires=[] if OBSTACLE else [MYPY],
)
