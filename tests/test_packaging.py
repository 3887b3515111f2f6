"""What is installed: the compiled data path, where this machine can compile, and the same sources where it cannot."""

from __future__ import annotations

import ast
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from sidecar.config.load import loads
from sidecar.daemon import missing_extra

ROOT = Path(__file__).parent.parent
INSTALLED = shlex.split(os.environ.get("SIDECAR_COMMAND", ""))


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


def can_compile() -> bool:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    return shutil.which(compiler) is not None and (Path(sysconfig.get_path("include")) / "Python.h").exists()


def test_installed_command_is_compiled_where_that_can_be_done() -> None:
    command, folder = (INSTALLED, "/") if INSTALLED else ([sys.executable, "-m", "sidecar"], ROOT)
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=20, cwd=folder)
    wanted = bool(INSTALLED) and can_compile() and os.environ.get("SIDECAR_COMPILE") != "0"
    assert ("compiled" if wanted else "interpreted") in run.stdout


def test_what_is_not_installed_and_needed_is_said_in_one_line() -> None:
    found = "services: {a: {discovery: {dns: {name: a-headless, port: 80}}}}"
    config = loads(found, "sidecar.yaml", {})
    assert missing_extra(config) is None
    assert missing_extra(config, lambda name: None) == (
        "services.a.discovery.dns needs aiodns: pip install 'service-sidecar[dns]'"
    )
    checked = loads("services: {}\nchecks: {cache: {url: 'rediss://a'}, b: {url: 'tcp://b:1'}}", "sidecar.yaml", {})
    assert missing_extra(checked) is None
    assert missing_extra(checked, lambda name: None) == (
        "checks.cache needs redis: pip install 'service-sidecar[redis]'"
    )
    assert missing_extra(loads("services: {a: {url: http://a}}", "sidecar.yaml", {}), lambda name: None) is None
