"""Makes the files of a release and tries each of them: everything but publishing. `make release-check` calls it.

    python -m tools.release                  into dist/; what is not committed is refused
    python -m tools.release --uncommitted    with it
    python -m tools.release --into FOLDER

It builds the sdist, from that sdist a compiled wheel for this machine's kind (repaired, so that other distributions can
load it) and a wheel for every platform, checks what an index shows of them, and installs each into an environment of
its own. Ends with exit code 1 at the first step that fails, after what that step said.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from datetime import date
from os import environ
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
RESERVED: Final = "service-sidecar.example"
"""The domain of the addresses in pyproject.toml until the project has one."""


class Failed(Exception):
    """What is wrong, in words for who makes the release."""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--uncommitted", action="store_true", help="take changes that are not committed, too")
    parser.add_argument("--into", type=Path, default=ROOT / "dist", metavar="FOLDER", help="default: dist/")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="sidecar-release-") as temporary:
            release(ROOT, Path(temporary), options.into.resolve(), uncommitted=options.uncommitted)
    except Failed as failure:
        print(f"\nrelease: {failure}", file=sys.stderr)
        return 1
    return 0


def release(root: Path, work: Path, into: Path, *, uncommitted: bool = False) -> None:
    """All of it. What `into` had before is gone afterwards."""
    version = version_of(root)
    for remark in consistent(root, version):
        print(f"release: {remark}")
    if not uncommitted:
        nothing_uncommitted(root)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    tree = work / "tree"
    copy_tree(root, tree)
    step("the sdist", [sys.executable, "-m", "build", "--sdist", "--outdir", into, tree])
    (sdist,) = into.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "sdist", filter="data")
    (unpacked,) = (work / "sdist").iterdir()
    whole(tree, unpacked)
    wheel = [sys.executable, "-m", "build", "--wheel", "--outdir"]
    step("the compiled wheel, of the sdist", [*wheel, work / "wheel", unpacked], {"SIDECAR_COMPILE": "1"})
    (built,) = (work / "wheel").iterdir()
    step(
        "the compiled wheel, for other distributions", [sys.executable, "-m", "auditwheel", "repair", "-w", into, built]
    )
    step("the wheel for every platform", [*wheel, into, unpacked], {"SIDECAR_COMPILE": "0"})
    files = sorted(into.iterdir())
    step("what an index shows", [sys.executable, "-m", "twine", "check", "--strict", *files])
    for file in files:
        tried(file, work / "environments" / file.name, version, root)
    print("release: these are the files; nothing is published")
    for file in files:
        print(f"  {file.stat().st_size / 1e6:5.1f} MB  {file}")


def version_of(root: Path) -> str:
    """The one place where it stands."""
    found = re.search(r'^__version__ = "(.+)"$', (root / "sidecar" / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise Failed("sidecar/__init__.py has no __version__")
    return found[1]


def consistent(root: Path, version: str) -> list[str]:
    """What else names the version says the same; returns what is not wrong but good to know."""
    sections = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [one for one in sections if one[0] != "Unreleased"]
    if not released or released[0][0] != version:
        raise Failed(f"sidecar/__init__.py says {version}, and CHANGELOG.md's newest section is not of that version")
    try:
        date.fromisoformat(released[0][1])
    except ValueError:
        raise Failed(f"CHANGELOG.md's section of {version} has no date: ## [{version}] - YYYY-MM-DD") from None
    remarks = []
    unreleased = (root / "CHANGELOG.md").read_text().partition("## [Unreleased]")[2].partition("\n## [")[0]
    if re.search(r"^- ", unreleased, re.MULTILINE):
        remarks.append(f"CHANGELOG.md has lines under Unreleased, which are not in the section of {version}")
    if RESERVED in (root / "pyproject.toml").read_text():
        remarks.append(f"the addresses in pyproject.toml are of a reserved domain ({RESERVED}); publish with real ones")
    return remarks


def nothing_uncommitted(root: Path) -> None:
    if (root / ".git").exists() and output("git", "-C", root, "status", "--porcelain"):
        raise Failed("there are changes that are not committed; --uncommitted takes them, too")


def files_of(root: Path) -> list[str]:
    """What belongs to the tree: in a checkout what git does not ignore, else all but what tools leave behind."""
    if (root / ".git").exists():
        listed = output("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        return sorted({name for name in listed if name and (root / name).is_file()})
    folders = {".venv", "__pycache__", "build", "dist", "site", "service_sidecar.egg-info"}
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(
        str(one) for one in found if not folders & set(one.parts) and not re.match(r"\.\w+_cache$", one.parts[0])
    )


def copy_tree(root: Path, into: Path) -> None:
    """The files of the tree, and nothing that a build or a test left in it."""
    for name in files_of(root):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, into / name)


def whole(tree: Path, unpacked: Path) -> None:
    """The sdist lacks nothing of the tree: whoever has it can test and build as in a clone."""
    missing = [name for name in files_of(tree) if not (unpacked / name).is_file()]
    if missing:
        raise Failed(f"the sdist lacks {len(missing)} files, see MANIFEST.in: {', '.join(missing[:5])} ...")
    changed = [name for name in files_of(tree) if (unpacked / name).read_bytes() != (tree / name).read_bytes()]
    if set(changed) - {"setup.cfg"}:
        raise Failed(f"the sdist has other contents than the tree: {', '.join(changed[:5])} ...")


def tried(file: Path, environment: Path, version: str, root: Path) -> None:
    """Installs one file where nothing else is, and calls what it brings."""
    python = environment / "bin" / "python"
    venv.create(environment, with_pip=True)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    # Of the sdist the installing is tried; that it compiles is known by now, and takes a minute.
    built = {"SIDECAR_COMPILE": "0"} if file.name.endswith(".tar.gz") else {}
    step(f"installing {file.name}", [python, "-m", "pip", "install", *quiet, file], built)
    says = output(environment / "bin" / "sidecar", "--version", cwd=environment)
    how = "interpreted" if built or file.name.endswith("-none-any.whl") else "compiled"
    if not says.startswith(f"sidecar {version} ({how}"):
        raise Failed(f"{file.name} is {version} and {how}, and `sidecar --version` says: {says}")
    reference = environment / "reference.yaml"
    text = "from sidecar.config.reference import reference_text; print(reference_text(), end='')"
    reference.write_text(output(python, "-c", text, cwd=environment) + "\n")
    if reference.read_text() != (root / "config" / "sidecar.yaml").read_text():
        raise Failed(f"{file.name} has another reference file than config/sidecar.yaml")
    output(environment / "bin" / "sidecar", "check", "--config", reference, cwd=environment)


def step(what: str, command: Sequence[str | Path], variables: Mapping[str, str] | None = None) -> None:
    """Says what is done and how long it took. Raises Failed, after printing what the command said, where it fails."""
    print(f"release: {what} ... ", end="", flush=True)
    begun = time.monotonic()
    output(*command, variables=variables)
    print(f"{time.monotonic() - begun:.0f} s", flush=True)


def output(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
    """What a command prints, without the space around it. Raises Failed, after printing all of it, where it fails."""
    done = subprocess.run(
        command,
        cwd=cwd or ROOT,
        env={**environ, "PATH": f"{Path(sys.executable).parent}:{environ['PATH']}", **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print("\n" + done.stdout)
        raise Failed(f"{' '.join(map(str, command[:4]))} ... failed with exit code {done.returncode}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
