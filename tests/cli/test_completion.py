"""`sidecar completion`: the scripts, and that a shell takes them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.cli.command import fine, sidecar


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_this_command(shell: str) -> None:
    script = fine(sidecar("completion", shell))
    assert f"_SIDECAR_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        check = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, timeout=20)
        assert check.returncode == 0, check.stderr


def test_an_unknown_shell_is_wrong_usage() -> None:
    result = sidecar("completion", "powershell")
    assert result.exit_code == 2
    assert "bash" in result.stderr
