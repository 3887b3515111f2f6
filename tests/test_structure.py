"""The shape of the tree: who imports whom, and that each module has the test file which mirrors it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WITHOUT_TEST_FILE: dict[str, str] = {
    "sidecar/admin/answers.py": "shapes only; tests/admin/test_openapi.py holds real answers against them",
    "sidecar/admin/running.py": "an interface only; tests/admin/stage.py has it too",
    "sidecar/config/schema.py": "shapes only; tests/config/test_load.py holds what they accept",
    "sidecar/daemon/serve.py": "wiring alone; tests/system/ runs the real one as a process",
    "sidecar/daemon/admin_backend.py": "wiring alone; tests/system/test_admin.py runs the real one as a process",
    "sidecar/daemon/start.py": "wiring alone; tests/system/ runs the real one as a process",
    "sidecar/policy/settings.py": "shapes and defaults only; tests/config/test_load.py holds them against the file",
    "sidecar/proxy/body_sink.py": "shapes only; tests/proxy/exchange/test_body_copy.py holds the budget",
    "sidecar/proxy/downstream/stream.py": "an interface only; http1_connection and inner_call have it",
    "sidecar/proxy/exchange/request.py": "a shape only; tests/proxy/exchange/test_service_call.py has all of it",
    "sidecar/proxy/upstream/service_pool.py": "what pools have in common; tests/proxy/upstream/test_pool.py holds it",
    "sidecar/proxy/upstream/stream.py": "an interface only; http1_connection has it",
    "sidecar/proxy/watermarks.py": "a number only",
    "sidecar/runtime/additions.py": "a shape only; tests/proxy/test_outgoing.py holds what it is made of",
    "sidecar/telemetry/request_line.py": "a shape only; tests/telemetry/test_access_log.py holds its lines",
    "sidecar/runtime/reload_report.py": "a shape only; tests/daemon/test_reload.py holds what is reported",
}
"""Modules that have no test file of their own, each with the reason."""


def test_import_contracts_hold() -> None:
    """The rows of the layer table in docs/architecture.md, as pyproject.toml states them."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    run = subprocess.run([*command, "--no-logo"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def mirrored(module: Path) -> Path:
    """`sidecar/policy/breaker.py` -> `tests/policy/test_breaker.py`."""
    inside = module.relative_to(ROOT / "sidecar")
    return ROOT / "tests" / inside.with_name(f"test_{inside.name}")


def test_each_module_has_the_test_file_that_mirrors_it() -> None:
    modules = [path for path in (ROOT / "sidecar").rglob("*.py") if path.stem not in {"__init__", "__main__"}]
    assert modules
    exempt = {ROOT / path for path in WITHOUT_TEST_FILE}
    missing = [
        f"{module.relative_to(ROOT)} wants {mirrored(module).relative_to(ROOT)}"
        for module in sorted(modules)
        if module not in exempt and not mirrored(module).is_file()
    ]
    assert not missing, "\n".join(missing)


def test_no_exemption_is_stale() -> None:
    for path in WITHOUT_TEST_FILE:
        assert (ROOT / path).is_file(), f"{path} is gone"
        assert not mirrored(ROOT / path).exists(), f"{path} has its test file now"


def compiled() -> set[str]:
    """The modules that setup.py compiles, as paths."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and "COMPILED" in ast.unparse(node).partition("=")[0]
    )
    assert value is not None
    return {node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_no_class_of_the_interpreter_inherits_from_a_compiled_one() -> None:
    """Such a class cannot be made once the data path is compiled, which tests from the sources never see."""
    those = compiled()
    assert "sidecar/proxy/h2/connection.py" in those
    wrong = []
    for module in sorted((ROOT / "sidecar").rglob("*.py")):
        path = str(module.relative_to(ROOT))
        if path in those:
            continue
        tree = ast.parse(module.read_text())
        origins = {
            alias.asname or alias.name: f"{(node.module or '').replace('.', '/')}.py"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        wrong += [
            f"{path}: {node.name} inherits from {ast.unparse(base)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for base in node.bases
            if origins.get(ast.unparse(base)) in those
        ]
    assert not wrong, "\n".join(wrong)


def test_each_package_says_what_it_is() -> None:
    for package in sorted((ROOT / "sidecar").rglob("__init__.py")):
        assert package.read_text().startswith('"""'), f"{package.relative_to(ROOT)} has no docstring"


def states_a_fact(test: ast.expr) -> bool:
    """`x is not None` or `isinstance(x, T)`, of a name or attribute: it is for the type checker, and does nothing."""
    match test:
        case ast.Compare(left, [ast.IsNot()], [ast.Constant(None)]):
            subject = left
        case ast.Call(ast.Name("isinstance"), [subject, _], []):
            pass
        case _:
            return False
    return all(isinstance(node, ast.Name | ast.Attribute | ast.Load) for node in ast.walk(subject))


def test_no_assertion_does_any_work() -> None:
    """The image runs without assertions (PYTHONOPTIMIZE=2)."""
    found = [
        f"{module.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for module in sorted((ROOT / "sidecar").rglob("*.py"))
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Assert) and not states_a_fact(node.test)
    ]
    assert not found, "\n".join(found)


def calls(path: Path) -> list[tuple[int, str]]:
    """The line and the last name of each call, and of each name that is imported: `urllib.request.urlopen(...)`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            found.append((node.lineno, node.attr))
        if isinstance(node, ast.ImportFrom):
            found += [(node.lineno, one.name) for one in node.names]
    return found


BANNED = {
    "urlopen": "asks through what all tests of the process share: tests.support.urls.opened",
    "urlretrieve": "asks through what all tests of the process share: tests.support.urls.opened",
    "install_opener": "changes what all tests of the process share",
    "skip": "a skip says what to install, and is counted: tests.support.wants.skip_without",
    "skipif": "a skip says what to install, and is counted: tests.support.wants.program",
    "importorskip": "what tests import is in requirements.lock",
}
"""Names that no test uses, nor a benchmark, and what does in their place."""


def test_no_test_depends_on_another_nor_skips_in_silence() -> None:
    paths = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert paths
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}: {BANNED[name]}"
        for path in paths
        if path != ROOT / "tests" / "support" / "wants.py"
        for line, name in calls(path)
        if name in BANNED
    ]
    assert not found, "\n".join(found)
