"""The `sidecar` command: the group of all commands, and those that serve.

Owns the sections that the commands are shown in. What serving needs is imported by the command that serves, so that
all others stay light.

Exit codes: 0 fine; 1 the check or the call failed; 2 usage or bad configuration (click's own code for usage).
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from sidecar import __version__
from sidecar.cli.config_file import PLACES, config_option, find_config, load_or_exit
from sidecar.cli.sections import SectionedGroup, Sections

_Command = TypeVar("_Command", bound=Callable[..., Any])

SECTIONS: Final[Sections] = {
    "Serve": {
        "run": "sidecar.cli.main:run",
        "demo": "sidecar.cli.main:demo",
    },
    "The configuration": {
        "init": "sidecar.cli.init:init",
        "check": "sidecar.cli.check:check",
        "schema": "sidecar.cli.schema:schema",
    },
    "Look at a running sidecar": {
        "status": "sidecar.cli.status:status",
        "explain": "sidecar.cli.explain:explain",
        "events": "sidecar.cli.events:events",
    },
    "Steer a running sidecar": {
        "breaker": "sidecar.cli.steer:breaker",
        "endpoint": "sidecar.cli.steer:endpoint",
        "log": "sidecar.cli.steer:log",
        "reload": "sidecar.cli.steer:reload",
        "drain": "sidecar.cli.steer:drain",
    },
    "Kubernetes": {
        "inject": "sidecar.cli.injection:inject",
        "injector": "sidecar.cli.injection:injector",
        "wait": "sidecar.cli.life_cycle:wait",
        "prestop": "sidecar.cli.life_cycle:prestop",
        "quit": "sidecar.cli.life_cycle:quit_",
    },
    "This command itself": {
        "completion": "sidecar.cli.completion:completion",
    },
}


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
    """Print the versions, and whether the data path is compiled, which decides what a request costs."""
    if not wanted:
        return
    from sidecar.proxy import request_head

    how = "interpreted" if str(request_head.__file__).endswith(".py") else "compiled"
    click.echo(f"sidecar {__version__} ({how}), Python {platform.python_version()}")
    context.exit()


@click.group(cls=SectionedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version of the sidecar and of Python, and whether the data path is compiled or interpreted.",
)
def main() -> None:
    """A small proxy that runs beside a service.

    The service calls other services by name: http://localhost:15001/venue/events/42. The sidecar knows where each
    service runs. It balances the calls, retries those that are safe to repeat, and stops calling what fails. One YAML
    file holds its settings.

    \b
    First steps:
      sidecar demo      see it at work, with three small services behind it
      sidecar init      write a starter sidecar.yaml
      sidecar check     find the mistakes in the file
      sidecar run       serve traffic
      sidecar status    see what the running sidecar does

    Exit codes: 0 success; 1 the check or the call failed; 2 wrong usage or a bad configuration.
    """


assert isinstance(main, SectionedGroup)
main.sections = SECTIONS


@click.command(short_help="Serve traffic until SIGTERM or Ctrl-C.")
@config_option(f"The configuration file. Default: the first that exists of {PLACES}.")
def run(path: Path | None) -> None:
    """Serve traffic until SIGTERM or Ctrl-C. Requests in flight are then finished; a second signal ends it at once.

    The log line `ready` names the file that is in force.

    \b
    Examples:
      sidecar run
      sidecar run --config config/sidecar.yaml

    Exits 0 after an orderly end. Exits 2 if it cannot start: there is no file, the file is wrong, or a port is taken.
    """
    path = path or find_config()
    config, origins = load_or_exit(path)
    from sidecar import daemon

    sys.exit(daemon.run(config, path, origins))


@click.command(short_help="See it at work, with three small services behind it.")
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
