"""Brings .venv to what a target of the Makefile needs, and says what it does and how long that takes.

    prepare.py run       what `make run` starts: the packages of requirements-run.lock and a `sidecar` command
    prepare.py packages  what `make lint` needs: the packages of requirements.lock
    prepare.py build     what `make test` needs: those, and the sidecar built and installed, compiled where that can be

The `sidecar` command runs either what was built and installed, or the sources of this folder. `run` takes the build
where there is one of just these sources, and never makes one; `build` makes one where there is none. Both live side by
side: a .pth file in .venv puts the sources first, and is there or not.

A file in .venv says what is in it, by contents and not by times: switching branches there and back installs nothing.
It also names the step under way, so the next call knows of one that was killed. Two calls wait for each other.

The Makefile asks for Python 3.11 before it runs this. Only the standard library is used: nothing is installed yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = ROOT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
COMMAND: Final = VENV / "bin" / "sidecar"
STATE: Final = VENV / "prepared.json"
SITE_PACKAGES: Final = VENV / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
SOURCES_FIRST: Final = SITE_PACKAGES / "sidecar-sources.pth"

RUN_LOCK: Final = "requirements-run.lock"
FULL_LOCK: Final = "requirements.lock"
BUILT_FROM: Final = ("pyproject.toml", "setup.py", FULL_LOCK, "config", "sidecar", "stubs")
"""What decides whether a build is of these sources: it has the reference file too, and mypyc comes from the lock."""


class Failed(Exception):
    """What the user is told; the last line that `make` prints of ours."""


@dataclass
class State:
    """What is in .venv. `step` names what is under way, so whoever finds one in the file knows that it was killed."""

    folder: str
    python: str
    """The ending of extension modules, which names Python's version, ABI and platform."""
    step: Literal["", "creating", "installing", "building"] = ""
    packages: dict[str, str] = field(default_factory=dict)
    """The digest of each lock whose packages are installed."""
    build: str = ""
    """The digest of what was built and installed."""
    wish: str = ""
    """SIDECAR_COMPILE at that build."""
    compiled: bool = False

    def save(self) -> None:
        """Whole or not at all."""
        beside = STATE.with_suffix(".new")
        beside.write_text(json.dumps(asdict(self), indent=2) + "\n")
        beside.replace(STATE)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    targets = {"run": run, "packages": packages, "build": build}
    if len(arguments) != 1 or arguments[0] not in targets:
        say(f"prepare.py {'|'.join(targets)}")
        return 2
    try:
        with alone():
            targets[arguments[0]](environment())
    except (Failed, OSError) as failure:
        print(f"make: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 130
    return 0


def run(state: State) -> None:
    """A `sidecar` command: the build of these sources where there is one, else the sources."""
    if is_built(state):
        SOURCES_FIRST.unlink(missing_ok=True)
        return
    install(state, RUN_LOCK)
    if SOURCES_FIRST.exists() and COMMAND.exists():
        return
    # No installation, not even an editable one: that wants setuptools, and takes two seconds.
    SOURCES_FIRST.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n")
    write_command()
    changed = "they changed since they were compiled; " if state.build else ""
    say(f"the sidecar runs from the sources, not compiled; {changed}`make run COMPILE=1` compiles them")


def packages(state: State) -> None:
    """All packages, and no command."""
    install(state, FULL_LOCK)


def build(state: State) -> None:
    """The `sidecar` command of a build of these sources, as SIDECAR_COMPILE wants it."""
    wish = os.environ.get("SIDECAR_COMPILE") or "auto"
    install(state, FULL_LOCK)
    if not (is_built(state) and (state.wish == wish or (state.compiled and wish != "0"))):
        remove_build()
        state.build = ""
        digest = digest_of(*BUILT_FROM)
        what = "installing the sidecar" if wish == "0" else "compiling the sidecar (half a minute of two cores)"
        with step(state, "building", what):
            arguments = ["--quiet", "--no-deps", "--no-build-isolation"]
            without_cache = ["--no-cache"] if uv() else []
            call([*installer(), *arguments, *without_cache, str(ROOT)], "SIDECAR_COMPILE=0 make ... does not compile")
            state.compiled = any((SITE_PACKAGES / "sidecar").rglob("*.so"))
            state.build, state.wish = digest, wish
        if wish != "0" and not state.compiled:
            reason = SITE_PACKAGES / "sidecar" / "config" / "files" / "not_compiled.txt"
            say(f"the sidecar was not compiled: {reason.read_text().strip()}")
    SOURCES_FIRST.unlink(missing_ok=True)


def environment() -> State:
    """.venv, made anew where it cannot be used, and what is in it."""
    state = stored()
    why = broken(state)
    if why:
        say(f".venv is made anew: {why}")
        remove_environment()
        state = None
    if state is not None:
        return state
    state = State(folder=str(VENV.resolve()), python=extension_suffix())
    if PYTHON.exists():
        return state  # made by hand; what is missing in it is installed
    base = getattr(sys, "_base_executable", sys.executable)
    if uv():
        command = [uv(), "venv", "--quiet", "--allow-existing", "--python", base, str(VENV)]
    elif importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        command = [base, "-m", "venv", str(VENV)]
    else:  # Debian's, and `-m venv` would leave half an environment behind
        raise Failed(f"{base} cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv")
    VENV.mkdir(exist_ok=True)
    with step(state, "creating", "creating .venv"):
        try:
            call(command)
        except Failed:
            remove_environment()
            raise
    return state


def broken(state: State | None) -> str:
    """Why .venv has to be made anew; empty if it has not."""
    if not VENV.exists():
        return "its folder is gone" if VENV.is_symlink() else ""
    if not runs(""):
        return "its Python does not run" if any(VENV.iterdir()) else ""
    if state is None:
        return ""
    if state.folder != str(VENV.resolve()):
        return f"it was made for {state.folder}"
    if state.python != extension_suffix():
        return f"it was made for another Python ({state.python})"
    # A killed build is no harm, for each build removes the one before.
    return f"{state.step} was interrupted" if state.step in {"creating", "installing"} else ""


def stored() -> State | None:
    """What the file in .venv says; None where there is none that can be read."""
    try:
        return State(**json.loads(STATE.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_built(state: State) -> bool:
    """Whether what is installed was built from these sources, and its packages are there."""
    return (
        state.build == digest_of(*BUILT_FROM)
        and state.packages.get(FULL_LOCK) == digest_of(FULL_LOCK)
        and COMMAND.exists()
        and (SITE_PACKAGES / "sidecar").is_dir()
    )


def install(state: State, lock: str) -> None:
    """The packages of `lock`, unless they are there."""
    if state.packages.get(lock) == digest_of(lock):
        return
    before, state.packages = state.packages, {}  # also where it fails: some may be of the new lock by then
    count = len(re.findall(r"^[\w.-]+==", (ROOT / lock).read_text(), re.MULTILINE))
    with step(state, "installing", f"installing {count} packages of {lock}"):
        call([*installer(), "--quiet", "--require-hashes", "--requirement", str(ROOT / lock)])
        # The full lock has all of the other one, in the same versions.
        state.packages = {one: digest_of(one) for one in {lock, RUN_LOCK}}
        full = digest_of(FULL_LOCK)
        if before.get(FULL_LOCK) == full:
            state.packages[FULL_LOCK] = full


def installer() -> list[str]:
    """The beginning of a command that installs into .venv."""
    if uv():
        return [uv(), "pip", "install", "--python", str(PYTHON)]
    if not runs("import pip"):
        call([str(PYTHON), "-m", "ensurepip"], "`make clean` removes .venv, which was made by uv and has no pip")
    return [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]


def uv() -> str:
    """Its path, where it is installed; `UV` names another one, or, if empty, none."""
    name = os.environ.get("UV", "uv")
    return (shutil.which(name) or "") if name else ""


def remove_build() -> None:
    """What was installed of the sidecar, in whole or in part."""
    shutil.rmtree(SITE_PACKAGES / "sidecar", ignore_errors=True)
    for found in SITE_PACKAGES.glob("service_sidecar-*.dist-info"):
        shutil.rmtree(found)
    for left in (*(ROOT / "build").glob("lib*"), *(ROOT / "build").glob("bdist*")):
        shutil.rmtree(left)


def remove_environment() -> None:
    """.venv, or the link to it."""
    if VENV.is_symlink():
        VENV.unlink()
    else:
        shutil.rmtree(VENV)


def write_command() -> None:
    """`sidecar`, as pip writes it: a `#!` line takes neither spaces nor more than 127 bytes, hence the second form."""
    first = f"#!{PYTHON}"
    if " " in first or len(os.fsencode(first)) > 127:
        first = f"#!/bin/sh\n'''exec' \"{PYTHON}\" \"$0\" \"$@\"\n' '''"
    COMMAND.unlink(missing_ok=True)  # a command that runs may be what is there
    COMMAND.write_text(f"{first}\nimport sys\n\nfrom sidecar.cli.main import main\n\nsys.exit(main())\n")
    COMMAND.chmod(0o755)


@functools.cache
def digest_of(*names: str) -> str:
    """Of the names and contents of these files, and of all files in these folders."""
    digest = hashlib.sha256()
    for name in names:
        top = ROOT / name
        for path in sorted(path for path in (top.rglob("*") if top.is_dir() else [top]) if path.is_file()):
            if "__pycache__" not in path.parts:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def extension_suffix() -> str:
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def runs(program: str) -> bool:
    """Whether .venv's Python runs this without an error."""
    try:
        return subprocess.run([PYTHON, "-c", program], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def call(command: Sequence[str], advice: str = "") -> None:
    """Runs it in silence. Raises Failed, after printing what it said, where it fails."""
    pipe = subprocess.PIPE
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.stdout.write("\n" + done.stdout.decode(errors="replace"))
        if not advice and command[0] == uv():
            advice = "`make ... UV=` uses pip instead of uv"
        raise Failed("that failed" + (f"; {advice}" if advice else ""))


@contextlib.contextmanager
def step(state: State, kind: Literal["creating", "installing", "building"], what: str) -> Iterator[None]:
    """Says what is done, then how many seconds it took. `state` bears its kind until it has ended or failed."""
    state.step = kind
    state.save()
    print(f"make: {what} ... ", end="", flush=True)
    begun = time.monotonic()
    try:
        yield
    except Failed:
        # Where pip or uv fails, what was there still works; where it was killed, nobody knows.
        if VENV.exists():
            state.step = ""
            state.save()
        raise
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
    state.step = ""
    state.save()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nobody else prepares this .venv meanwhile. This very file is what is locked: it is always there."""
    with Path(__file__).open("rb") as own:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make prepares .venv; waiting for it")
            fcntl.flock(own, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    print(f"make: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
