"""What the Makefile does to .venv, on a small project of the same shape that needs no package index.

First each decision, with pip and uv replaced by a list of what they were asked; then the real Makefile with the real
pip, and uv where it is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import wants
from tests.support.daemon import ROOT
from tests.support.eventually import eventually

MAIN = """
import importlib.util
import sys
from pathlib import Path


def main() -> int:
    names = [name for name in ("alpha", "beta") if importlib.util.find_spec(name)]
    kind = "compiled" if (Path(__file__).parents[1] / "fast.so").exists() else "interpreted"
    print("sidecar", kind, *names, *sys.argv[1:])
    return 0
"""
BACKEND = """
import os
import time
import zipfile
from pathlib import Path


def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open("builds", "a") as builds:
        builds.write("one\\n")
    if os.environ.get("SIDECAR_COMPILE") == "1" and Path("no-compiler").exists():
        raise SystemExit("no compiler here")
    name = "service_sidecar-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        for path in Path("sidecar").rglob("*.py"):
            wheel.write(path)
        if os.environ.get("SIDECAR_COMPILE") != "0" and not Path("no-compiler").exists():
            wheel.writestr("sidecar/fast.so", "")
        info = "service_sidecar-0.1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: service-sidecar\\nVersion: 0.1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\nsidecar = sidecar.cli.main:main\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "service-sidecar"
version = "0.1.0"
requires-python = ">=3.11"
"""


def wheel(folder: Path, name: str) -> str:
    """A package with one empty module; returns its line of a lock."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", tags)
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def small_project(folder: Path) -> None:
    """The Makefile and what it calls; a sidecar that says what it runs as; a runtime package and a tool."""
    (folder / "tools").mkdir(parents=True)
    (folder / "sidecar" / "cli").mkdir(parents=True)
    (folder / "config").mkdir()
    (folder / "wheels").mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "tools" / "prepare.py", folder / "tools")
    for name, text in (
        ("sidecar/__init__.py", ""),
        ("sidecar/cli/__init__.py", ""),
        ("sidecar/cli/main.py", MAIN),
        ("config/sidecar.yaml", "services: {}\n"),
        ("backend.py", BACKEND),
        ("setup.py", ""),
        ("pyproject.toml", PYPROJECT),
    ):
        (folder / name).write_text(text)
    alpha, beta = wheel(folder / "wheels", "alpha"), wheel(folder / "wheels", "beta")
    (folder / "requirements-run.lock").write_text(f"# For running.\n{alpha}")
    (folder / "requirements.lock").write_text(f"# For all.\n{alpha}{beta}")


# Decisions


class Calls(list[str]):
    """What pip and uv were asked to do, and the files that they leave behind."""

    def __init__(self, prepare: ModuleType) -> None:
        self.prepare = prepare
        self.interrupted_at = ""
        self.fails_at = ""
        self.compiles = True

    def __call__(self, command: list[str], advice: str = "") -> None:
        prepare = self.prepare
        words = " ".join(command)
        what = "venv" if " venv " in words else "build" if "--no-deps" in words else words.rpartition("/")[2]
        if what == "venv":
            prepare.PYTHON.parent.mkdir(parents=True)
            prepare.PYTHON.symlink_to(sys.executable)
            prepare.SITE_PACKAGES.mkdir(parents=True)
        self.append(what)
        if what == self.interrupted_at:
            raise KeyboardInterrupt
        if what == self.fails_at:
            raise prepare.Failed("that failed")
        if what == "build":
            (prepare.SITE_PACKAGES / "sidecar").mkdir()
            (prepare.SITE_PACKAGES / "service_sidecar-0.1.0.dist-info").mkdir()
            if self.compiles and os.environ.get("SIDECAR_COMPILE") != "0":
                (prepare.SITE_PACKAGES / "sidecar" / "fast.so").touch()
            else:
                reason = prepare.SITE_PACKAGES / "sidecar" / "config" / "files" / "not_compiled.txt"
                reason.parent.mkdir(parents=True)
                reason.write_text("there is no C compiler (cc)\n")
            prepare.COMMAND.write_text("as pip writes it")

    def of(self, *targets: str) -> list[str]:
        """What it takes to get there now."""
        self.clear()
        for target in targets:
            self.prepare.digest_of.cache_clear()
            assert self.prepare.main([target]) == 0
        return list(self)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "sidecar checkout"
    small_project(folder)
    return folder


def load(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", project / "tools" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = module  # its dataclass asks for its module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def calls(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    monkeypatch.setenv("UV", "")
    monkeypatch.delenv("SIDECAR_COMPILE", raising=False)
    prepare = load(project)
    made = Calls(prepare)
    monkeypatch.setattr(prepare, "call", made)
    yield made
    del sys.modules["prepare"]


RUN, ALL = "requirements-run.lock", "requirements.lock"


def runs_sources(calls: Calls) -> bool:
    return bool(calls.prepare.SOURCES_FIRST.exists())


def test_run_takes_the_runtime_packages_and_no_build(calls: Calls) -> None:
    assert calls.of("run") == ["venv", RUN]
    assert runs_sources(calls)
    assert calls.of("run") == []


@pytest.mark.parametrize(
    ("targets", "taken"),
    [
        (("run", "build"), ["venv", RUN, ALL, "build"]),
        (("build", "run"), ["venv", ALL, "build"]),
        (("packages", "run", "build"), ["venv", ALL, "build"]),
        (("packages", "build", "packages", "run", "build"), ["venv", ALL, "build"]),
        (("run", "packages", "run"), ["venv", RUN, ALL]),
    ],
)
def test_targets_in_any_order(calls: Calls, targets: tuple[str, ...], taken: list[str]) -> None:
    assert calls.of(*targets) == taken
    assert runs_sources(calls) == ("build" not in taken)


def test_run_takes_the_build_only_where_it_is_of_these_sources(calls: Calls, project: Path) -> None:
    main = project / "sidecar" / "cli" / "main.py"
    calls.of("build")
    main.write_text(MAIN + "# changed\n")
    assert calls.of("run") == []
    assert runs_sources(calls)
    main.write_text(MAIN)
    assert calls.of("run") == []
    assert not runs_sources(calls)


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "setup.py", "config/sidecar.yaml", "sidecar/new.py", "sidecar/ui/page.css"]
)
def test_what_a_build_is_made_from_makes_a_new_one(calls: Calls, project: Path, name: str) -> None:
    calls.of("build")
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("# changed\n")
    assert calls.of("build", "build") == ["build"]


def test_byte_code_is_no_source(calls: Calls, project: Path) -> None:
    calls.of("build")
    (project / "sidecar" / "__pycache__").mkdir()
    (project / "sidecar" / "__pycache__" / "main.cpython-311.pyc").touch()
    assert calls.of("build") == []


def test_a_lock_that_changed_is_installed_anew(calls: Calls, project: Path) -> None:
    calls.of("run")
    (project / RUN).write_text((project / RUN).read_text() + "# changed\n")
    assert calls.of("run", "run") == [RUN]
    calls.of("build")
    (project / ALL).write_text((project / ALL).read_text() + "# changed\n")
    assert calls.of("build", "build") == [ALL, "build"]


def test_a_build_is_not_run_on_packages_of_another_lock(calls: Calls, project: Path) -> None:
    """Another branch's `make run` has changed some of them since; back here the build is current, they are not."""
    before = [(project / name).read_text() for name in (RUN, ALL)]
    calls.of("build")
    for name in (RUN, ALL):
        (project / name).write_text((project / name).read_text() + "# another branch\n")
    assert calls.of("run") == [RUN]
    for name, text in zip((RUN, ALL), before, strict=True):
        (project / name).write_text(text)
    assert calls.of("run") == [RUN]
    assert runs_sources(calls)
    assert calls.of("build") == [ALL]
    assert not runs_sources(calls)


def test_sidecar_compile_decides_whether_a_build_will_do(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    calls.of("build")
    monkeypatch.setenv("SIDECAR_COMPILE", "1")
    assert calls.of("build") == [], "it is compiled"
    monkeypatch.setenv("SIDECAR_COMPILE", "0")
    assert calls.of("build", "build") == ["build"]
    assert calls.of("run") == [], "a build there is, if not a compiled one"
    monkeypatch.delenv("SIDECAR_COMPILE")
    assert calls.of("build") == ["build"]


def test_a_build_that_came_out_uncompiled_is_not_tried_again(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.compiles = False
    assert calls.of("build", "build") == ["venv", ALL, "build"]
    assert "the sidecar was not compiled: there is no C compiler (cc)\n" in capsys.readouterr().out
    monkeypatch.setenv("SIDECAR_COMPILE", "1")
    calls.compiles = True
    assert calls.of("build") == ["build"], "1 insists"


@pytest.mark.parametrize(
    ("at", "again"), [("venv", ["venv", ALL, "build"]), (ALL, ["venv", ALL, "build"]), ("build", ["build"])]
)
def test_what_was_interrupted_is_not_trusted(calls: Calls, at: str, again: list[str]) -> None:
    """A killed process and Ctrl-C leave the same file behind."""
    calls.interrupted_at = at
    assert calls.prepare.main(["build"]) == 130
    calls.interrupted_at = ""
    assert calls.of("build") == again


def test_an_interrupted_build_leaves_run_the_sources(calls: Calls) -> None:
    calls.of("build")
    calls.prepare.remove_build()
    state = json.loads(calls.prepare.STATE.read_text())
    calls.prepare.STATE.write_text(json.dumps(state | {"step": "building", "build": ""}))
    assert calls.of("run") == []
    assert runs_sources(calls)


def test_a_failed_installation_keeps_the_environment(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.of("run")
    calls.fails_at = ALL
    assert calls.prepare.main(["build"]) == 1
    assert "make: that failed" in capsys.readouterr().err
    calls.fails_at = ""
    assert calls.of("run") == [RUN], "some of the other lock may be there"
    assert calls.of("build") == [ALL, "build"]


def test_an_environment_that_could_not_be_made_is_not_left_behind(calls: Calls) -> None:
    calls.fails_at = "venv"
    assert calls.prepare.main(["run"]) == 1
    assert not calls.prepare.VENV.exists()


def test_an_environment_whose_python_is_gone_is_made_anew(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.of("run")
    calls.prepare.PYTHON.unlink()
    calls.prepare.PYTHON.symlink_to(tmp_path / "python3.10")
    assert calls.of("run") == ["venv", RUN]
    assert "made anew: its Python does not run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("python", ".cpython-310-x86_64-linux-gnu.so", "made for another Python (.cpython-310"),
        ("folder", "/somewhere/else/.venv", "made for /somewhere/else/.venv"),
    ],
)
def test_an_environment_of_another_python_or_place_is_made_anew(
    calls: Calls, capsys: pytest.CaptureFixture[str], name: str, value: str, why: str
) -> None:
    calls.of("run")
    state = json.loads(calls.prepare.STATE.read_text())
    calls.prepare.STATE.write_text(json.dumps(state | {name: value}))
    assert calls.of("run") == ["venv", RUN]
    assert why in capsys.readouterr().out


def test_an_environment_made_by_hand_is_used(calls: Calls) -> None:
    calls(["python3", "-m venv ", ".venv"])
    kept = calls.prepare.SITE_PACKAGES / "mine.py"
    kept.touch()
    assert calls.of("run") == [RUN]
    assert kept.exists()


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mine").touch()
    calls.prepare.VENV.symlink_to(tmp_path / "shared")
    assert calls.of("run") == ["venv", RUN]
    assert (tmp_path / "shared" / "mine").exists()


def test_python_without_ensurepip_is_told_what_is_missing(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else real(name))
    assert calls.prepare.main(["run"]) == 1
    assert "on Debian and Ubuntu: apt-get install python3-venv" in capsys.readouterr().err
    assert not calls.prepare.VENV.exists()


def test_an_unknown_target_is_refused(calls: Calls) -> None:
    assert calls.prepare.main(["everything"]) == 2


def test_the_command_is_the_one_that_pyproject_names(calls: Calls) -> None:
    calls.of("run")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (module, _, function) = scripts["sidecar"].partition(":")
    assert f"from {module} import {function}\n" in calls.prepare.COMMAND.read_text()


def test_the_full_lock_has_all_of_the_one_for_running() -> None:
    pins = [
        {line.split()[0] for line in (ROOT / name).read_text().splitlines() if "==" in line and line[0].isalnum()}
        for name in (RUN, ALL)
    ]
    assert pins[0]
    assert pins[0] < pins[1]


# The Makefile with real installers


def uv() -> str:
    return shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""


needs_uv = wants.of_the_machine("uv, which requirements.lock has", there=bool(uv()))
INSTALLERS = ["pip", pytest.param("uv", marks=needs_uv)]


def environ(project: Path, installer: str, **more: str) -> dict[str, str]:
    """No index but the folder of wheels, nobody's settings, and no other make around us."""
    hostile = ("PIP_", "UV", "MAKE", "MFLAGS", "SIDECAR_", "VIRTUAL_ENV", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hostile)}
    wheels = str(project / "wheels")
    own = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": (project / "wheels").as_uri()}
    own |= {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": wheels}
    own |= {"UV_CACHE_DIR": str(project / "uv-cache")}
    return kept | own | {"UV": uv() if installer == "uv" else ""} | more


def make(project: Path, *arguments: str, installer: str = "pip", **more: str) -> str:
    """What it prints. Python is this one, unless named."""
    named = [] if any(one.startswith("PYTHON=") for one in arguments) else [f"PYTHON={sys.executable}"]
    run = subprocess.run(
        ["make", *named, *arguments],
        cwd=project,
        env=environ(project, installer, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.stdout + run.stderr + (f"exit {run.returncode}\n" if run.returncode else "")


@pytest.mark.parametrize("installer", INSTALLERS)
def test_the_life_of_a_checkout(project: Path, installer: str) -> None:
    first = make(project, "run", "ARGS=--seed 1", installer=installer)
    lines = first.splitlines()
    assert lines[0].startswith("make: creating .venv ... ")
    assert lines[1].startswith("make: installing 1 packages of requirements-run.lock ... ")
    assert all(line.endswith(" s") for line in lines[:2])
    assert lines[2].startswith("make: the sidecar runs from the sources, not compiled")
    assert lines[3:] == ["sidecar interpreted alpha demo --seed 1"]
    assert make(project, "run", installer=installer) == "sidecar interpreted alpha demo\n"

    built = make(project, "built", installer=installer)
    assert [line.partition(" ... ")[0] for line in built.splitlines()] == [
        "make: installing 2 packages of requirements.lock",
        "make: compiling the sidecar (half a minute of two cores)",
    ]
    assert make(project, "run", installer=installer) == "sidecar compiled alpha beta demo\n"
    assert make(project, "installed", "built", "run", "COMPILE=1", installer=installer).count("\n") == 1

    main = project / "sidecar" / "cli" / "main.py"
    main.write_text(MAIN.replace('"sidecar", kind', '"sidecar", "edited", kind'))
    said = make(project, "run", installer=installer)
    assert "they changed since they were compiled" in said
    assert said.endswith("sidecar edited interpreted alpha beta demo\n")
    main.write_text(MAIN)
    assert make(project, "run", installer=installer) == "sidecar compiled alpha beta demo\n"
    assert (project / "builds").read_text().count("one") == 1

    main.write_text(MAIN.replace('"sidecar", kind', '"sidecar", "edited", kind'))
    (project / "sidecar" / "cli" / "late.py").touch()
    assert make(project, "run", "COMPILE=1", installer=installer).endswith("sidecar edited compiled alpha beta demo\n")
    (project / "sidecar" / "cli" / "late.py").unlink()
    make(project, "built", installer=installer)
    assert list((project / ".venv").rglob("late.py")) == [], "nothing of the build before is left"

    (project / "no-compiler").touch()
    main.write_text(MAIN)
    said = make(project, "run", "COMPILE=1", installer=installer)
    assert "no compiler here" in said
    assert "make: that failed; SIDECAR_COMPILE=0 make ... does not compile\n" in said
    assert make(project, "run", installer=installer).endswith("sidecar interpreted alpha beta demo\n")


@needs_uv
def test_uv_may_come_and_go(project: Path) -> None:
    """Its environments have no pip, which is put in when pip is to install something."""
    make(project, "run", installer="uv")
    assert make(project, "installed", "run", installer="pip").endswith("sidecar interpreted alpha beta demo\n")
    make(project, "built", installer="uv")
    assert make(project, "run", installer="pip") == "sidecar compiled alpha beta demo\n"


def test_targets_side_by_side_wait_for_each_other(project: Path) -> None:
    said = make(project, "-j3", "runnable", "installed", "built")
    assert "exit" not in said
    assert said.count("creating .venv") == 1
    assert said.count("another make prepares .venv; waiting for it") >= 1
    assert make(project, "run").endswith("sidecar compiled alpha beta demo\n")


def test_what_pip_says_is_shown_where_it_fails(project: Path) -> None:
    make(project, "run")
    (project / "wheels" / "beta-1.0-py3-none-any.whl").unlink()
    said = make(project, "built")
    assert "No matching distribution found for beta==1.0" in said
    assert "make: that failed\n" in said
    assert make(project, "run").endswith("sidecar interpreted alpha demo\n"), "what there was still runs, with no index"


def test_killed_while_it_installs(project: Path) -> None:
    """The wheels come from a pipe that nobody writes to, so pip waits."""
    wheels = project / "wheels"
    held = wheels / "alpha-1.0-py3-none-any.whl"
    held.rename(project / held.name)
    os.mkfifo(held)
    running = subprocess.Popen(
        ["make", "run", f"PYTHON={sys.executable}"],
        cwd=project,
        env=environ(project, "pip"),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        state = project / ".venv" / "prepared.json"
        eventually(lambda: state.exists() and json.loads(state.read_text())["step"] == "installing", timeout=60)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate(timeout=20)
    held.unlink()
    (project / held.name).rename(held)
    said = make(project, "run")
    assert "made anew: installing was interrupted" in said
    assert said.endswith("sidecar interpreted alpha demo\n")


def test_a_python_that_will_not_do_is_named(project: Path) -> None:
    old = project / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    said = make(project, "run", "PYTHON=./python3.9")
    assert "make: Python 3.9.2 is too old, 3.11 or newer is needed" in said
    said = make(project, "run", "PYTHON=python3.99")
    assert "make: python3.99 not found; install Python 3.11 or newer" in said
    assert not (project / ".venv").exists()


def test_help_lists_the_targets_for_people(project: Path) -> None:
    listed = [line.split()[1] for line in make(project, "help").splitlines()]
    assert {"run", "test", "lint", "clean"} <= set(listed)
    assert not {"runnable", "installed", "built", "compiled"} & set(listed)
