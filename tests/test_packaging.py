"""What is installed: the compiled data path, where this machine can compile, and the same sources where it cannot.

Those marked `packaging` build and install as a stranger does, in environments of their own. They want a package index,
and a minute of the processor for each compiled build. All of them are in this file, so they share one release.
"""

from __future__ import annotations

import ast
import faulthandler
import importlib.util
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.config.load import loads
from sidecar.daemon import missing_extra
from tests.support import surroundings, wants
from tools import release

ROOT = Path(__file__).parent.parent
INSTALLED = shlex.split(os.environ.get("SIDECAR_COMMAND", ""))
TIMEOUT_S = 1200
"""For one command: compiling takes half a minute of two cores, and far longer where others use them."""


def compiled_modules() -> list[str]:
    tree = ast.parse((ROOT / "setup.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED":
            return ast.literal_eval(node.value)
    raise AssertionError("setup.py lists no modules")


def test_each_module_that_is_compiled_exists() -> None:
    assert [name for name in compiled_modules() if not (ROOT / name).is_file()] == []


def test_tests_of_modules_run_the_sources() -> None:
    for name in compiled_modules():
        spec = importlib.util.find_spec(name.removesuffix(".py").replace("/", "."))
        assert spec is not None
        assert spec.origin == str(ROOT / name)


def test_installed_command_is_compiled_where_that_can_be_done() -> None:
    command, folder = (INSTALLED, "/") if INSTALLED else ([sys.executable, "-m", "sidecar"], ROOT)
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=20, cwd=folder)
    wanted = bool(INSTALLED) and wants.can_compile() and os.environ.get("SIDECAR_COMPILE") != "0"
    assert ("compiled" if wanted else "interpreted") in run.stdout


def generate_c(into: Path, config: str) -> subprocess.CompletedProcess[str]:
    """What mypyc makes of the modules that are compiled, with the packages that `config` lets it see."""
    code = (
        "import setuptools, sys; from mypyc.build import mypycify; "
        "mypycify(sys.argv[2:], multi_file=True, opt_level='1', debug_level='0', target_dir=sys.argv[1])"
    )
    command = [sys.executable, "-c", code, into, f"--config-file={config}", *compiled_modules()]
    pipe = subprocess.PIPE
    return subprocess.run(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S)


def test_mypyc_takes_each_module_that_is_compiled(tmp_path: Path) -> None:
    """A build goes on without what mypyc cannot compile, so it would not be noticed there."""
    generated = generate_c(tmp_path, "stubs/mypy.ini")
    assert generated.returncode == 0, generated.stdout


def test_what_is_not_installed_and_needed_is_said_in_one_line() -> None:
    found = "services: {a: {discovery: {dns: {name: a-headless, port: 80}}}}"
    config = loads(found, "sidecar.yaml", {})
    assert missing_extra(config) is None
    assert missing_extra(config, lambda name: None) == (
        "services.a.discovery.dns needs aiodns: pip install 'service-sidecar[dns]'"
    )
    checked = loads("services: {}\nchecks: {cache: {url: 'rediss://a'}, b: {url: 'tcp://b:1'}}", "sidecar.yaml", {})
    assert missing_extra(checked, lambda name: None) is None
    assert missing_extra(loads("services: {a: {url: http://a}}", "sidecar.yaml", {}), lambda name: None) is None


# As a stranger does it


packaging = pytest.mark.packaging
needs_compiler = wants.of_the_machine("a C compiler and Python's headers", there=wants.can_compile())
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command to its end with the shell's own way to the package index; variables are given by name."""
    cache = tmp_path_factory.mktemp("cache")
    index = {
        name: value
        for name, value in surroundings.FOUND.items()
        if re.match(r"(PIP|UV)_|XDG_CONFIG|(?i:https?|no|all)_proxy$|SSL_CERT_|REQUESTS_CA_", name)
    }
    home = {"HOME": surroundings.FOUND.get("HOME", os.environ["HOME"])}
    caches = {"PIP_CACHE_DIR": str(cache / "pip"), "UV_CACHE_DIR": str(cache / "uv"), "PIP_NO_INPUT": "1"}

    def run(
        *command: str | Path, cwd: Path | None = None, fails: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        faulthandler.cancel_dump_traceback_later()  # pytest's limit for a test is one for quick ones
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "PYTHON"))}
        done = subprocess.run(
            command,
            cwd=cwd or cache,
            env={**own, **index, **home, **caches, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done

    return run


ONCE = """\
#!/bin/sh
# Compiles each file once, in whatever folder a build has it; links each time.
source= object= flags= last=
for one in "$@"; do
  case $last in -c) source=$one;; -o) object=$one;; esac
  case $one in -I*) ;; *) [ "$one" = "$source" ] || [ "$one" = "$object" ] || flags="$flags $one";; esac
  last=$one
done
[ "$source" ] || exec {compiler} "$@"
key=$( {{ echo "$flags"; cat "$source" "{headers}"/*.h $(dirname "$source")/__native*.h 2>/dev/null; }} | sha256sum )
kept={cache}/${{key%% *}}
[ -f "$kept" ] || {{ {compiler} "$@" && cp "$object" "$kept.$$" && mv "$kept.$$" "$kept"; }} || exit 1
cp "$kept" "$object"
"""


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A C compiler that compiles what it had before by copying: several builds of one tree cost as much as one."""
    folder = tmp_path_factory.mktemp("once")
    real = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    script = ONCE.format(compiler=real, cache=folder, headers=sysconfig.get_path("include"))
    (folder / "cc").write_text(script)
    (folder / "cc").chmod(0o755)
    return str(folder / "cc")


@pytest.fixture(scope="session")
def released(run: Run, once: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of a release of this tree, by their kind."""
    into = tmp_path_factory.mktemp("release") / "dist"
    said = run(sys.executable, "-m", "tools.release", "--uncommitted", "--into", into, cwd=ROOT, CC=once).stdout
    files = {
        "sdist" if file.suffix == ".gz" else "any" if file.name.endswith("-none-any.whl") else "compiled": file
        for file in into.iterdir()
    }
    assert len(files) == 3, said
    assert said.count("release: installing") == 3, "each was tried"
    return files


@pytest.fixture(scope="session")
def unpacked(released: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(released["sdist"]) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"service_sidecar-{__version__}"


@pytest.fixture(scope="session")
def pip(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has pip and setuptools, and no mypy."""
    folder = tmp_path_factory.mktemp("builder")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "setuptools>=80")
    return folder / "bin" / "python"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of this tree, as after a clone."""
    release.copy_tree(ROOT, tmp_path / "tree")
    return tmp_path / "tree"


Wheel = Callable[..., Path]


@pytest.fixture
def wheel(run: Run, pip: Path, tree: Path, tmp_path: Path) -> Wheel:
    """Builds a wheel of the tree with pip, and unpacks it."""

    def wheel(*options: str, **variables: str) -> Path:
        into = tmp_path / "wheel"
        run(pip, "-m", "pip", "wheel", "--quiet", "--no-deps", *options, "--wheel-dir", into, tree, **variables)
        (file,) = into.iterdir()
        with zipfile.ZipFile(file) as archive:
            archive.extractall(into / "unpacked")
        return into / "unpacked"

    return wheel


def version_of(run: Run, package: Path) -> str:
    """What `sidecar --version` says of an unpacked wheel, with the dependencies of these tests."""
    code = f"import sys; sys.path.insert(0, {str(package)!r}); from sidecar.cli.main import main; main(['--version'])"
    return run(sys.executable, "-c", code, cwd=package).stdout.strip()


def not_compiled(run: Run, package: Path) -> str:
    """Why it is not, as `sidecar --version` says it; nothing of it is compiled, and it is for every platform."""
    assert list(package.rglob("*.so")) == []
    (about,) = package.glob("*.dist-info/WHEEL")
    assert "Root-Is-Purelib: true" in about.read_text()
    assert "Tag: py3-none-any" in about.read_text()
    said = re.fullmatch(
        rf"sidecar {re.escape(__version__)} \(interpreted: (.*)\), Python [\d.]+\S*", version_of(run, package)
    )
    assert said is not None
    return said[1]


@packaging
@needs_compiler
def test_the_wheels_have_all_of_the_package_and_the_compiled_one_each_module_compiled(
    released: dict[str, Path],
) -> None:
    names = {
        kind: {name for name in zipfile.ZipFile(released[kind]).namelist() if not name.endswith("/")}
        for kind in ("any", "compiled")
    }
    sources = {name for name in release.files_of(ROOT) if name.startswith("sidecar/")}
    reference = {"sidecar/config/files/sidecar.yaml", "sidecar/config/files/sidecar.schema.json"}
    why = "sidecar/config/files/not_compiled.txt"
    for kind in names:
        assert sources | reference <= names[kind], kind
        assert {name for name in names[kind] if name.startswith("sidecar/") and not name.endswith(".so")} == (
            sources | reference | ({why} if kind == "any" else set())
        )
    compiled = {name.partition(".")[0] for name in names["compiled"] if name.endswith(".so")}
    assert {name.removesuffix(".py") for name in compiled_modules()} | {"sidecar/proxy/http1/_scan"} < compiled
    assert re.search(r"-(manylinux|musllinux)[\w.]+\.whl$", released["compiled"].name)


@packaging
@needs_compiler
def test_the_metadata_says_whose_it_is_and_where(released: dict[str, Path]) -> None:
    with zipfile.ZipFile(released["any"]) as archive:
        metadata = archive.read(f"service_sidecar-{__version__}.dist-info/METADATA").decode()
    for name in ("Author", "Keywords", "License-Expression", "Summary", "Requires-Python", "Description-Content-Type"):
        assert re.search(rf"^{name}: \S", metadata, re.MULTILINE), name
    urls = re.findall(r"^Project-URL: (\w+), https://", metadata, re.MULTILINE)
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} == set(urls)
    assert "Classifier: Development Status :: " in metadata


@packaging
@needs_compiler
@pytest.mark.parametrize("way", ["pip install .", "pip install git+file", "uv pip install .", "pipx install ."])
def test_each_way_to_install_it_compiles(way: str, run: Run, once: str, pip: Path, tree: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    command = environment / "bin" / "sidecar"
    if way == "uv pip install .":
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert uv is not None, "uv is in requirements.lock"
        run(uv, "venv", "--quiet", "--python", sys.executable, environment)
        run(uv, "pip", "install", "--quiet", "--python", environment, ".", cwd=tree, CC=once)
    elif way == "pipx install .":
        run(pip, "-m", "pip", "install", "--quiet", "pipx")
        folders = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin"), "USE_EMOJI": "0"}
        run(pip, "-m", "pipx", "install", "--python", sys.executable, ".", cwd=tree, CC=once, **folders)
        command = tmp_path / "bin" / "sidecar"
    else:
        run(sys.executable, "-m", "venv", environment)
        what = "."
        if way == "pip install git+file":
            git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
            for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "All of it"]):
                run(*git, *arguments, cwd=tree)
            what = f"git+file://{tree}"
        run(environment / "bin" / "python", "-m", "pip", "install", "--quiet", what, cwd=tree, CC=once)
    said = run(command, "--version").stdout
    assert said.startswith(f"sidecar {__version__} (compiled), Python "), said


@packaging
def test_without_a_c_compiler_it_is_not_compiled_and_says_so(run: Run, wheel: Wheel) -> None:
    package = wheel(CC="/nonexistent/cc")
    assert not_compiled(run, package) == "there is no C compiler (/nonexistent/cc)"


@packaging
def test_without_headers_it_is_not_compiled_and_says_so(run: Run, wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sysconfig\n"
        "there = sysconfig.get_path\n"
        "sysconfig.get_path = lambda name, *rest: '/nonexistent' if name == 'include' else there(name, *rest)\n"
    )
    package = wheel("--no-build-isolation", PYTHONPATH=str(tmp_path))
    assert not_compiled(run, package) == "Python's headers are missing (/nonexistent/Python.h)"


@packaging
@needs_compiler
def test_without_mypyc_it_is_not_compiled_and_says_so(run: Run, wheel: Wheel) -> None:
    assert not_compiled(run, wheel("--no-build-isolation")) == "mypyc is not installed (pip install mypy)"


@packaging
@needs_compiler
@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        ("print('warning'); print('sidecar/a.py:1: error: Wrong'); sys.exit(1)", "mypyc: sidecar/a.py:1: error: Wrong"),
        ("print('INTERNAL ERROR'); sys.exit(2)", "mypyc: INTERNAL ERROR"),
        ("raise AssertionError('in the\\n middle')", "in the middle"),
        ("raise AssertionError", "AssertionError"),
    ],
)
def test_where_mypyc_stumbles_it_is_not_compiled_and_says_so(
    fails: str, reason: str, run: Run, wheel: Wheel, tmp_path: Path
) -> None:
    (tmp_path / "mypyc").mkdir()
    (tmp_path / "mypyc" / "__init__.py").touch()
    (tmp_path / "mypyc" / "build.py").write_text(f"import sys\ndef mypycify(*a, **b):\n    {fails}\n")
    assert not_compiled(run, wheel("--no-build-isolation", PYTHONPATH=str(tmp_path))) == reason


COMPILER = """\
#!/bin/sh
# Makes empty files at once, up to the one that it fails for.
what=$*
case "$what" in *{fails_for}*) echo "fatal error: out of patience" >&2; exit 1;; esac
while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done
"""


def compiler(folder: Path, *, fails_for: str) -> str:
    path = folder / "cc"
    path.write_text(COMPILER.format(fails_for=fails_for))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@packaging
@needs_compiler
@pytest.mark.parametrize("fails_for", ["__native_sidecar___runtime___service.c", "http1/scan.c", "-shared*/handler."])
def test_where_the_c_compiler_fails_in_the_middle_it_is_not_compiled_and_says_so(
    fails_for: str, run: Run, wheel: Wheel, tmp_path: Path
) -> None:
    package = wheel(CC=compiler(tmp_path, fails_for=fails_for))
    assert not_compiled(run, package) == "the C compiler failed; `pip install -v` shows its messages"


@packaging
def test_sidecar_compile_0_wants_neither_mypy_nor_a_compiler(run: Run, wheel: Wheel) -> None:
    assert not_compiled(run, wheel("--no-build-isolation", SIDECAR_COMPILE="0")) == "built with SIDECAR_COMPILE=0"


@packaging
@needs_compiler
def test_sidecar_compile_1_insists(run: Run, pip: Path, tree: Path, tmp_path: Path) -> None:
    build = [pip, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheel", tree]
    missing = run(*build, fails=True, SIDECAR_COMPILE="1", CC="/nonexistent/cc").stdout
    assert "SIDECAR_COMPILE=1, but there is no C compiler (/nonexistent/cc)" in missing
    broken = compiler(tmp_path, fails_for="__native_sidecar___runtime___service.c")
    assert "fatal error: out of patience" in run(*build, fails=True, SIDECAR_COMPILE="1", CC=broken).stdout
    bare = [*build[:4], "--no-build-isolation", *build[4:]]
    assert "mypyc is not installed" in run(*bare, fails=True, SIDECAR_COMPILE="1").stdout
    assert "SIDECAR_COMPILE is auto, 1 or 0" in run(*build, fails=True, SIDECAR_COMPILE="yes").stdout
    assert not (tmp_path / "wheel").exists() or not list((tmp_path / "wheel").iterdir())


@packaging
@needs_compiler
def test_an_editable_install_runs_the_sources(run: Run, tree: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "environment")
    python = tmp_path / "environment" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", tree)
    place = run(python, "-c", "import sidecar; print(sidecar.__file__)", cwd=tmp_path).stdout.strip()
    assert place == str(tree / "sidecar" / "__init__.py")
    assert list(tree.rglob("*.so")) == []
    text = "from sidecar.config.reference import reference_text; print(reference_text(), end='')"
    assert run(python, "-c", text, cwd=tmp_path).stdout == (ROOT / "config" / "sidecar.yaml").read_text()


@packaging
def test_nothing_of_an_earlier_build_is_left_in_a_later_one(run: Run, wheel: Wheel, tree: Path) -> None:
    for name in ("lib/sidecar/gone.py", "lib/sidecar/policy/breaker.so", "lib/abc__mypyc.so"):
        (tree / "build" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "build" / name).touch()
    package = wheel(SIDECAR_COMPILE="0")
    assert not_compiled(run, package)
    assert not (package / "sidecar" / "gone.py").exists()


@packaging
def test_what_is_compiled_is_the_same_whatever_is_installed_beside_mypyc(tmp_path: Path) -> None:
    """The stubs say of other packages just what decides about the code: here the packages themselves are read."""
    faulthandler.cancel_dump_traceback_later()
    for name, config in (("stubs", "stubs/mypy.ini"), ("packages", "pyproject.toml")):
        generated = generate_c(tmp_path / name, config)
        assert generated.returncode == 0, generated.stdout
    files = list((tmp_path / "stubs").glob("*.[ch]"))
    assert len(files) > len(compiled_modules())
    for path in files:
        assert path.read_bytes() == (tmp_path / "packages" / path.name).read_bytes(), path.name


@packaging
@needs_compiler
def test_the_tests_run_in_the_unpacked_sdist(run: Run, unpacked: Path) -> None:
    """Those that read the tree beside the package; all others were tried by hand for the release."""
    assert not (unpacked / ".git").exists()
    files = [
        *(
            "tests/test_structure.py",
            "tests/test_house_files.py",
            "tests/test_contributing.py",
            "tests/test_security.py",
        ),
        *("tests/test_packaging.py", "tests/cli/test_schema.py", "tests/config/test_reference.py", "tests/deploy"),
        *("tests/tools/test_pages.py", "tests/tools/test_release.py"),
    ]
    run(sys.executable, "-m", "pytest", "-q", "-m", "not packaging", *files, cwd=unpacked)


def test_wheels_are_built_for_each_python_on_linux_of_both_kinds() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert config["linux"]["archs"] == ["x86_64", "aarch64"]
    program = importlib.util.find_spec("cibuildwheel")
    assert program is not None, "it is in requirements.lock"
    listed = subprocess.run(
        [sys.executable, "-m", "cibuildwheel", "--platform", "linux", "--print-build-identifiers", str(ROOT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert set(listed) == {
        f"cp3{minor}-{libc}_{arch}"
        for minor in (11, 12, 13, 14)
        for libc in ("manylinux", "musllinux")
        for arch in ("x86_64", "aarch64")
    }
