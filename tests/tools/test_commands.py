"""docs/reference/commands.md has every command, argument and option."""

from __future__ import annotations

import re

import click

from sidecar.cli.main import SECTIONS, main
from tools.docs.commands import page

PAGE = page()
PARTS = {name: text for name, _, text in (part.partition("`\n") for part in PAGE.split("### `sidecar ")[1:])}


def test_every_command_is_there_in_its_section() -> None:
    assert list(PARTS) == [name for names in SECTIONS.values() for name in names]
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == ["`sidecar`", *SECTIONS]


def test_every_argument_and_option_is_there() -> None:
    context = click.Context(main, info_name="sidecar")
    for name, text in PARTS.items():
        command = main.get_command(context, name)
        assert command is not None
        usage = text.split("```")[1]
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                assert parameter.make_metavar(context) in usage
            else:
                assert all(re.search(rf"^- `.*{re.escape(one)}\b", text, re.MULTILINE) for one in parameter.opts), name


def test_defaults_and_variables_of_the_environment() -> None:
    assert "- `--for DURATION`" in PARTS["breaker"]
    assert "Default: `5m`." in PARTS["breaker"]
    assert "Environment: `SIDECAR_ADMIN`." in PARTS["status"]
    assert "Default: `service-sidecar:VERSION`." in PARTS["injector"]


def test_examples_are_code() -> None:
    assert "Examples:\n\n```text\nsidecar breaker venue open --for 10m\n" in PARTS["breaker"]
