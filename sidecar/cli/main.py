"""The `sidecar` command: arguments, help texts and exit codes.

Owns where the configuration is looked for and what a user reads when something is wrong with it. It does not read the
file (`sidecar.config.load`), serve traffic (`sidecar.daemon`) or know what the demo shows (`sidecar.demo`). The last
two are imported only by the command that needs them, so that `check` and `--help` stay light.

Exit codes: 0 fine; 1 the check or the call failed; 2 usage or bad configuration (click's own code for usage).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sidecar import __version__
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import Origins, load_with_origins
from sidecar.config.schema import Config
from sidecar.config.summary import summary

_Command = TypeVar("_Command", bound=Callable[..., Any])

BAD_CONFIGURATION = 2

DEFAULT_CONFIGS = (Path("config/sidecar.yaml"), Path("/etc/sidecar/sidecar.yaml"))
"""Where a configuration is looked for when none is named: a checkout's first, then a pod's mount."""


def _named_or_default(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """The file named, else the first default that is there. A usage error where there is neither."""
    if value is not None or context.resilient_parsing:
        return value
    for path in DEFAULT_CONFIGS:
        if path.is_file():
            return path
    places = " nor ".join(str(path) for path in DEFAULT_CONFIGS)
    raise click.UsageError(f"there is neither {places}; name the configuration: --config FILE", context)


config_option = click.option(
    "--config",
    "path",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_named_or_default,
    help="The configuration. Default: " + ", then ".join(str(path) for path in DEFAULT_CONFIGS) + ".",
)


def _port_option(name: str, default: int, purpose: str) -> Callable[[_Command], _Command]:
    """`--NAME-port`, also read from SIDECAR_DEMO_NAME_PORT."""
    return click.option(
        f"--{name}-port",
        envvar=f"SIDECAR_DEMO_{name.upper()}_PORT",
        type=click.IntRange(0, 65530),
        default=default,
        show_default=True,
        help=purpose,
    )


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """The version, and whether the data path is compiled: it decides what a request costs."""
    if not wanted:
        return
    from sidecar.proxy import head

    how = "interpreted" if str(head.__file__).endswith(".py") else "compiled"
    click.echo(f"sidecar {__version__} ({how}), Python {platform.python_version()}")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Say which.")
def main() -> None:
    """A small proxy beside a service.

    The service calls others by name, http://localhost:15001/venue/events/42, and the sidecar finds them, spreads the
    calls, retries what is safe to retry, and stops calling what is broken: as one YAML file says.

    First steps: `sidecar demo` shows it at work, `sidecar check` reads a configuration and says what is wrong with it.
    """


@main.command()
@config_option
def run(path: Path) -> None:
    """Serve traffic until SIGTERM or Ctrl-C, which drain it; a second one ends it now.

    Exits 0 after an orderly end, 2 where it did not start: the configuration is bad, or a port is taken.
    """
    config, origins = load_or_exit(path)
    from sidecar import daemon

    sys.exit(daemon.run(config, path, origins))


@main.command()
@config_option
def check(path: Path) -> None:
    """Read the configuration; print every error in it, or what it amounts to.

    Environment variables that the file names are read as `sidecar run` would read them. Nothing is contacted.
    Exits 0 where `sidecar run` would start with it, 2 where it would refuse.
    """
    click.echo(summary(load_or_exit(path)[0]))


@main.command()
@_port_option("proxy", 15001, "Where an app would send its calls.")
@_port_option("admin", 15000, "Where an operator looks.")
@_port_option("probe", 15021, "Where health and metrics are read.")
@_port_option("upstream", 19101, "The first of six ports in a row, for the services behind the sidecar.")
@click.option("--seed", default=None, type=int, help="Makes the failures that /flaky brings about the same each time.")
def demo(proxy_port: int, admin_port: int, probe_port: int, upstream_port: int, seed: int | None) -> None:
    """The sidecar with three small services behind it, on this machine, and what to try with them.

    A port of 0 means any that is free. Each port can also be set by environment: SIDECAR_DEMO_PROXY_PORT and so on.
    """
    from sidecar.demo import show

    ports = show.DemoPorts(proxy=proxy_port, admin=admin_port, probe=probe_port, upstream=upstream_port)
    sys.exit(show.run(ports, seed))


def load_or_exit(path: Path) -> tuple[Config, Origins]:
    """The configuration at `path`, and who set what; or all that is wrong with it on stderr, and exit code 2."""
    try:
        return load_with_origins(path, os.environ)
    except ConfigErrors as errors:
        for error in errors.errors:
            click.echo(str(error), err=True)
        count = len(errors.errors)
        click.echo(f"{path}: {count} error{'' if count == 1 else 's'}, so it cannot be used", err=True)
        sys.exit(BAD_CONFIGURATION)
