"""The `--config` option: where the commands look for a configuration, and what they say when it cannot be used.

Owns the places, their order, and the messages on a file that is missing or is no file. Reading the content is
`sidecar.config.load`, which is imported when there is a file to read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from os.path import isdir, isfile, islink  # unlike Path's methods they raise nothing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from sidecar.config.errors import ConfigError
    from sidecar.config.load import Origins
    from sidecar.config.schema import Config

_Command = TypeVar("_Command", bound=Callable[..., Any])

BAD_CONFIGURATION: Final = 2

FILE_NAME: Final = "sidecar.yaml"
"""The name of a configuration file in each of the places, and the name that `sidecar init` gives it."""

DEFAULT_CONFIGS = (Path(FILE_NAME), Path("config", FILE_NAME), Path("/etc/sidecar", FILE_NAME))
"""The places, in this order: the current folder, the `config` folder of a checkout, the mount of a container."""


class NoConfiguration(click.ClickException):
    """There is no file to read, or the path is a folder. The text says what to do."""

    exit_code = BAD_CONFIGURATION


def default_config() -> Path | None:
    """The first of the default places that is not empty, or None. What stands there may be unusable."""
    return next((path for path in DEFAULT_CONFIGS if _problem(path) is None), None)


def find_config(*, say: bool = False) -> Path:
    """The file in the first default place that has one. Raises NoConfiguration. With `say` stderr tells which it is."""
    path = default_config()
    if path is None:
        places = [f"  {path.absolute()}{_why(_problem(path))}" for path in DEFAULT_CONFIGS]
        raise NoConfiguration(
            "\n".join(
                [
                    "there is no configuration file. These places were searched:",
                    *places,
                    "`sidecar init` writes a starter file; --config FILE names a file elsewhere.",
                ]
            )
        )
    refuse_unusable(path)
    if say:
        click.echo(f"configuration: {path}", err=True)
    return path


def refuse_unusable(path: Path) -> None:
    """Raises NoConfiguration for a path that leads nowhere, or to a folder. Reading tells what else may be wrong."""
    if islink(path) and isinstance(_problem_behind(path), FileNotFoundError):
        raise NoConfiguration(f"{path} is a link to {path.readlink()}, and there is no such file.")
    if isinstance(_problem(path), FileNotFoundError | NotADirectoryError):
        raise NoConfiguration(f"{path}: there is no such file. `sidecar init FILE` writes a starter file.")
    if not isdir(path):
        return
    if isfile(path / FILE_NAME):
        raise NoConfiguration(f"{path} is a folder. Did you mean {path / FILE_NAME}?")
    # Docker does that with a mount whose file does not exist on the host: the usual reason for a folder of this name.
    hint = " Was it mounted from a file that does not exist?" if path.suffix in (".yaml", ".yml") else ""
    raise NoConfiguration(f"{path} is a folder, not a configuration file.{hint}")


def _problem(path: Path) -> OSError | None:
    """Why nothing is seen at `path`; None where something stands, though it may be a link to nothing."""
    try:
        path.lstat()
    except OSError as error:
        return error
    return None


def _problem_behind(path: Path) -> OSError | None:
    """As `_problem`, for what a link leads to."""
    try:
        path.stat()
    except OSError as error:
        return error
    return None


def _why(problem: OSError | None) -> str:
    """The reason why a place cannot be searched, in brackets; nothing for a place that is empty."""
    if problem is None or isinstance(problem, FileNotFoundError | NotADirectoryError):
        return ""
    return f" ({problem.strerror})"


def _usable(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not context.resilient_parsing:
        refuse_unusable(value)
    return value


def config_option(purpose: str) -> Callable[[_Command], _Command]:
    """`--config FILE`, given to the command as `path`; None where it is not on the line."""
    return click.option(
        "--config", "path", metavar="FILE", type=click.Path(path_type=Path), callback=_usable, help=purpose
    )


PLACES: Final = ", ".join(str(path) for path in DEFAULT_CONFIGS)


def load_or_exit(path: Path, *, as_json: bool = False) -> tuple[Config, Origins]:
    """The configuration at `path`, and where each value was set. A bad one ends the process with exit code 2.

    All of its errors are printed on stderr, and with `as_json` as one object on stdout too.
    """
    from sidecar.config.errors import ConfigErrors
    from sidecar.config.load import load_with_origins

    try:
        return load_with_origins(path, os.environ)
    except ConfigErrors as errors:
        if as_json:
            from sidecar.cli.output import print_json

            print_json({"result": "rejected", "file": str(path), "errors": [_error_json(one) for one in errors.errors]})
        for error in errors.errors:
            click.echo(str(error), err=True)
        count = len(errors.errors)
        click.echo(f"{path}: {count} error{'' if count == 1 else 's'}, so it cannot be used", err=True)
        sys.exit(BAD_CONFIGURATION)


def _error_json(error: ConfigError) -> dict[str, Any]:
    """One error, in the shape that the admin API gives it."""
    return {
        "file": error.file,
        "line": error.line,
        "column": error.column,
        "key": error.path,
        "message": error.message,
    }
