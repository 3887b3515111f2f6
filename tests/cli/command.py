"""Runs a command in this process, against a fake admin API or none."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from sidecar.cli.main import main
from tests.cli.fake_admin import FakeAdmin


def sidecar(*arguments: str, admin: FakeAdmin | None = None, env: dict[str, Any] | None = None) -> Result:
    """`sidecar ARGUMENTS`, with SIDECAR_ADMIN set to the fake's address."""
    known = {"SIDECAR_ADMIN": admin.url if admin else None, "SIDECAR_ADMIN_TOKEN_FILE": None, "COLUMNS": None}
    return CliRunner().invoke(main, list(arguments), prog_name="sidecar", env=known | (env or {}))


def fine(result: Result) -> str:
    """What it printed, where all went well."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout
