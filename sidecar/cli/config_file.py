"""The `--config` option: where a configuration is looked for, and what a user reads when something is wrong with it.

It does not read the file: that is `sidecar.config.load`, imported when there is one to read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from sidecar.config.errors import ConfigError
    from sidecar.config.load import Origins
    from sidecar.config.schema import Config

BAD_CONFIGURATION: Final = 2

DEFAULT_CONFIGS = (Path("config/sidecar.yaml"), Path("/etc/sidecar/sidecar.yaml"))
"""Where a configuration is looked for when none is named: a checkout's first, then a pod's mount."""


def default_config() -> Path | None:
    """The first default that is there."""
    return next((path for path in DEFAULT_CONFIGS if path.is_file()), None)


def _named_or_default(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """The file named, else the first default that is there. A usage error where there is neither."""
    if value is not None or context.resilient_parsing:
        return value
    found = default_config()
    if found is None:
        places = " nor ".join(str(path) for path in DEFAULT_CONFIGS)
        raise click.UsageError(f"there is neither {places}; name the configuration: --config FILE", context)
    return found


CONFIG_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

config_option = click.option(
    "--config",
    "path",
    metavar="FILE",
    type=CONFIG_FILE,
    callback=_named_or_default,
    help="The configuration. Default: " + ", then ".join(str(path) for path in DEFAULT_CONFIGS) + ".",
)


def load_or_exit(path: Path, *, as_json: bool = False) -> tuple[Config, Origins]:
    """The configuration at `path`, and who set what; or all that is wrong with it on stderr, and exit code 2.

    With `as_json` what is wrong is an object on stdout as well.
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
    """As the admin API has it."""
    return {
        "file": error.file,
        "line": error.line,
        "column": error.column,
        "key": error.path,
        "message": error.message,
    }
