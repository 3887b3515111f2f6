"""What somebody new does: clone, `make run`, ask. With the real lock and the real package index, and an empty cache."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import wants
from tests.support.daemon import ROOT, Ports
from tests.support.eventually import eventually
from tests.support.surroundings import FOUND
from tests.support.urls import opened

MOST_CPU_S = 30
"""pip takes 12 to 14 s of the processor, uv 4. Installing everything and compiling takes more than 100."""


def uv() -> str:
    return shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""


def environment(folder: Path, installer: str) -> dict[str, str]:
    """The shell's own, which knows the way to the package index, with nothing downloaded before."""
    kept = {
        name: value for name, value in FOUND.items() if not name.startswith(("MAKE", "MFLAGS", "SIDECAR_", "PYTHON"))
    }
    own = {"PIP_CACHE_DIR": str(folder / "pip"), "UV_CACHE_DIR": str(folder / "uv")}
    return kept | own | {"UV": uv() if installer == "uv" else ""}


def processor_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.packaging
@pytest.mark.parametrize(
    "installer",
    ["pip", pytest.param("uv", marks=wants.of_the_machine("uv, which requirements.lock has", there=bool(uv())))],
)
@wants.of_the_machine("a clone", there=(ROOT / ".git").exists())
def test_the_first_make_run_answers_without_compiling(tmp_path: Path, installer: str) -> None:
    clone = tmp_path / "a clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    ports = Ports.free()
    given = f"--proxy-port {ports.proxy} --admin-port {ports.admin} --probe-port {ports.probe} --upstream-port 0"
    before = processor_seconds()
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            ["make", "run", f"PYTHON={sys.executable}", f"ARGS={given}"],
            cwd=clone,
            env=environment(tmp_path, installer),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said() -> str:
        return (tmp_path / "log").read_text()

    def answered() -> bool:
        if running.poll() is not None:
            raise RuntimeError(f"it ended with {running.returncode}\n{said()}")
        try:
            with opened(f"http://127.0.0.1:{ports.proxy}/venue/events/42") as answer:
                return answer.status == 200
        except OSError:
            return False

    try:
        eventually(answered, timeout=240, every=0.1)
        # The guide's own line, with the command of this clone.
        status = re.search(r"^ +(\S.*sidecar'? status.*)$", said(), re.MULTILINE)
        assert status is not None, said()
        shown = subprocess.run(["bash", "-c", status[1]], capture_output=True, text=True, timeout=60, cwd="/")
        assert "payment" in shown.stdout, shown.stderr
        command = str(clone / ".venv" / "bin" / "sidecar")
        version = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, cwd="/")
        assert "(interpreted)" in version.stdout
    finally:
        os.killpg(running.pid, signal.SIGINT)
        try:
            running.wait(60)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    steps = [line for line in said().splitlines() if line.startswith("make: ")]
    assert [re.sub(r"\d+", "N", step) for step in steps[:3]] == [
        "make: creating .venv ... N s",
        "make: installing N packages of requirements-run.lock ... N s",
        "make: the sidecar runs from the sources, not compiled; `make run COMPILE=N` compiles them",
    ]
    assert processor_seconds() - before < MOST_CPU_S
