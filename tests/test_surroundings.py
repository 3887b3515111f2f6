"""tests/support/surroundings.py: tests run in one environment, whatever the shell has set."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support import surroundings

ROOT = Path(__file__).resolve().parents[1]

HOSTILE = {
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9"),
    "NO_PROXY": "*, ,;[::1", "SIDECAR_URL": "nonsense", "SIDECAR_ADMIN": "nonsense", "VENUE_SERVICE_URL": "nonsense",
    "SIDECAR_LOG_LEVEL": "loud", "SIDECAR_INJECTOR_NATIVE": "maybe", "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "COLUMNS": "20", "NO_COLOR": "1", "FORCE_COLOR": "1", "LANG": "C", "LC_ALL": "POSIX", "TZ": "Asia/Kolkata",
    "SSL_CERT_FILE": "/nowhere", "PYTHONWARNINGS": "error", "PORT": "1", "HOME": "/nowhere",
}  # fmt: skip


def test_only_what_is_known_is_kept() -> None:
    kept = {"PATH": "/bin", "SIDECAR_COMMAND": "/x/sidecar", "PYTEST_XDIST_WORKER": "gw0", "TMPDIR": "/t", "CI": "true"}
    found = surroundings.for_tests(HOSTILE | kept, "/home/tests")
    assert found == kept | {"HOME": "/home/tests", "LC_ALL": "C.UTF-8", "TZ": "<+1245>-12:45"}


def test_these_tests_are_in_it() -> None:
    assert dict(os.environ).items() >= {"LC_ALL": "C.UTF-8", "TZ": "<+1245>-12:45"}.items()
    assert time.localtime().tm_gmtoff == 12 * 3600 + 45 * 60
    home = Path.home()
    assert home.name.startswith("sidecar-tests-home-")
    (home / "written").write_text("")
    (home / "written").unlink()


def test_a_run_in_a_hostile_shell_does_not_see_it(tmp_path: Path) -> None:
    """With workers too. What the shell had set is still known there, for those that reach outside."""
    inner = tmp_path / "test_inner.py"
    inner.write_text(
        "import os\n"
        "from tests.conftest import pytest_configure\n"
        "from tests.support.surroundings import FOUND\n"
        "def test_inner():\n"
        f"    assert not {set(HOSTILE)!r} - {{'LC_ALL', 'TZ', 'HOME'}} & os.environ.keys()\n"
        "    assert FOUND['HTTP_PROXY'] == 'http://127.0.0.1:9'\n"
        "    assert os.path.isdir(os.environ['HOME'])\n"
    )
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_configure")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    for workers in ([], ["-n", "1"]):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:sidecar", *workers],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | HOSTILE | {"PYTHONWARNINGS": ""},
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout
