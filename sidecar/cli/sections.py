"""A click group that shows its commands in sections, and imports each command when it is used.

The daemon is one of the commands, and runs for a long time. What only other commands need must not be in its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

Sections = Mapping[str, Mapping[str, str]]
"""Title -> name of a command -> its place, such as `sidecar.cli.status:status`."""


class SectionedGroup(click.Group):
    """A group of commands. Its help shows them in sections."""

    sections: Sections = MappingProxyType({})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the sections."""
        return [name for commands in self.sections.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command and return it; None if there is none of that name."""
        place = next((commands[cmd_name] for commands in self.sections.values() if cmd_name in commands), None)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does it, but with a title for each section."""
        width = max(map(len, self.list_commands(ctx)), default=0)
        for title, commands in self.sections.items():
            found = [(name, self.get_command(ctx, name)) for name in commands]
            limit = formatter.width - 6 - width
            rows = [(name.ljust(width), command.get_short_help_str(limit)) for name, command in found if command]
            with formatter.section(title):
                formatter.write_dl(rows)
