"""A group of commands in sections, each imported when it is wanted."""

from __future__ import annotations

import sys

import click
from click.testing import CliRunner

from sidecar.cli.sections import SectionedGroup


@click.group(cls=SectionedGroup)
def group() -> None:
    """A group."""


assert isinstance(group, SectionedGroup)
group.sections = {
    "First": {"schema": "sidecar.cli.schema:schema"},
    "Second": {"completion": "sidecar.cli.completion:completion"},
}


def test_help_has_a_title_for_each_section_in_their_order() -> None:
    text = CliRunner().invoke(group, ["--help"]).stdout
    assert text.index("First:") < text.index("  schema") < text.index("Second:") < text.index("  completion")


def test_a_command_is_imported_when_it_is_wanted() -> None:
    sys.modules.pop("sidecar.cli.completion", None)
    assert CliRunner().invoke(group, ["schema", "--help"]).exit_code == 0
    assert "sidecar.cli.completion" not in sys.modules
    assert CliRunner().invoke(group, ["completion", "--help"]).exit_code == 0
    assert "sidecar.cli.completion" in sys.modules


def test_what_is_no_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(group, ["nothing"])
    assert result.exit_code == 2
    assert "nothing" in result.stderr
