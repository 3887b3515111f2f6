"""`sidecar init`: write a starter configuration, or the whole reference, to a new file.

Owns the command, and that no file is overwritten. The starter is `starter.yaml` beside this module; the reference is
`sidecar.config.reference`.
"""

from __future__ import annotations

import shlex
from os.path import isdir
from pathlib import Path
from typing import Final

import click

from sidecar.cli.config_file import FILE_NAME, default_config

STARTER: Final = Path(__file__).with_name("starter.yaml")


class NotWritten(click.ClickException):
    """Nothing was written. Exit code 2: something stands there already, or there is no such folder."""

    exit_code = 2


@click.command(
    short_help="Write a starter sidecar.yaml.",
    help="""
    Write a starter configuration: three services, and the settings that most people change first.

    PATH is the new file, or a folder for a new sidecar.yaml. Default: sidecar.yaml in the current folder. A file that
    exists is never overwritten.

    \b
    Examples:
      sidecar init
      sidecar init --full reference.yaml

    Exits 0 if the file was written; 2 if something stands there already, or the folder does not exist.
    """,
)
@click.argument("path", metavar="[PATH]", required=False, default=FILE_NAME, type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Write the reference instead: every key, its default, and what it does.")
def init(path: Path, full: bool) -> None:
    if isdir(path):
        path /= FILE_NAME
    if full:
        from sidecar.config.reference import reference_text

        text = reference_text()
    else:
        text = STARTER.read_text(encoding="utf-8")
    _write_new(path, text)
    click.echo(f"wrote {path}: {'the reference, with every key' if full else 'three services to start from'}")
    option = "" if default_config() == path else f" --config {shlex.quote(str(path))}"
    click.echo(f"next: put your services' addresses in, then `sidecar check{option}` and `sidecar run{option}`")


def _write_new(path: Path, text: str) -> None:
    """A file that did not exist before, with all of the text or not at all. Raises a click exception."""
    try:
        file = path.open("x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise NotWritten(f"{path} exists already, and was left as it is.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise NotWritten(f"{path.parent} is not a folder. Create it first.") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}.") from None
    try:
        with file:
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise click.ClickException(f"{path} cannot be written: {error.strerror}.") from None
