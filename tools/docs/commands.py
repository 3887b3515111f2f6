"""The page of every command, out of click: its usage, what it does, its arguments and options.

Owns the page's order and words. What is said about a command is its help.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

import click

from sidecar import __version__
from sidecar.cli.main import SECTIONS, main
from tools.docs.text import code, prose, sentence

_HEAD: Final = """\
# Every command

`sidecar COMMAND --help` says the same. [The commands](../commands.md) shows what each prints.

Where an option names a variable of the environment, its value is taken from there unless it is given. A duration
has its unit: `30s`, `5m`. Every command has `--help`, or `-h`.

## `sidecar`
"""


def page() -> str:
    """docs/reference/commands.md."""
    parts = [_HEAD, *_told(main), *_options(main, click.Context(main, info_name="sidecar"))]
    group = click.Context(main, info_name="sidecar")
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            command = main.get_command(group, name)
            assert command is not None
            parts += _command(command, click.Context(command, info_name=name, parent=group))
    return "\n".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"### `{context.command_path}`\n"
    yield f"```text\n{usage}\n```\n"
    yield from _told(command)
    yield from _options(command, context)


def _told(command: click.Command) -> Iterator[str]:
    """The help's paragraphs. What click is told not to wrap is shown as code."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if not paragraph.startswith("\b\n"):
            yield prose(paragraph) + "\n"
            continue
        lines = inspect.cleandoc(paragraph.removeprefix("\b\n")).split("\n")
        if lines[0].endswith(":") and not lines[0].startswith(" "):
            yield lines.pop(0) + "\n"
        yield "```text\n" + inspect.cleandoc("\n".join(lines)) + "\n```\n"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    if options:
        yield "\n".join(_option(option, context) for option in options) + "\n"


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(sorted(option.opts, key=len, reverse=True)) + "".join(
        f" / {name}" for name in option.secondary_opts
    )
    value = "" if option.is_flag else f" {option.make_metavar(context).removesuffix(' RANGE')}"
    words = [f"- {code(names + value)}: {sentence(option.help or '')}"]
    shown = option.get_default(context)
    if option.show_default and shown not in (None, "", False):
        words.append(f"Default: {code(_default(option, shown))}.")
    if isinstance(option.envvar, str):
        words.append(f"Environment: {code(option.envvar)}.")
    return " ".join(words)


def _default(option: click.Option, value: object) -> str:
    if option.is_flag:
        return option.opts[0]
    return str(value).replace(__version__, "VERSION")
