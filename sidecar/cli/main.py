"""The `sidecar` command: the list of all commands, and the two that serve traffic, `run` and `demo`.

Owns the sections of the help. `run` and `demo` import what serving needs when they are called, so that all other
commands start fast.

Exit codes: 0 success; 1 the check or the call failed; 2 wrong usage (click's own code for it) or a bad configuration.
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
    "Configuration": {
        "init": "sidecar.cli.init:init",
        "check": "sidecar.cli.check:check",
        "schema": "sidecar.cli.schema:schema",
    },
    "Inspect a running sidecar": {
        "status": "sidecar.cli.status:status",
        "explain": "sidecar.cli.explain:explain",
        "events": "sidecar.cli.events:events",
    },
    "Change a running sidecar": {
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
    "Shell": {
        "completion": "sidecar.cli.completion:completion",
    },
}


def _port_option(name: str, default: int, purpose: str) -> Callable[[_Command], _Command]:
    """Adds `--NAME-port`, which SIDECAR_DEMO_NAME_PORT can set too."""
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
    from sidecar.config.built import why_not_compiled
    from sidecar.proxy.http1 import request_head

    how = "compiled"
    if str(request_head.__file__).endswith(".py"):
        reason = why_not_compiled()
        how = f"interpreted: {reason}" if reason else "interpreted"
    click.echo(f"sidecar {__version__} ({how}), Python {platform.python_version()}")
    context.exit()


@click.group(
    cls=SectionedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""
    A small proxy that runs beside a service.

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
    """,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version of the sidecar and of Python, and whether the data path is compiled or interpreted.",
)
def main() -> None:
    """All commands."""


assert isinstance(main, SectionedGroup)
main.sections = SECTIONS


@click.command(
    short_help="Serve traffic until SIGTERM or Ctrl-C.",
    help="""
    Serve traffic until SIGTERM or Ctrl-C. Requests in flight are then finished; a second signal ends it at once.

    The log line `ready` names the file that is in force.

    \b
    Examples:
      sidecar run
      sidecar run --config config/sidecar.yaml

    Exits 0 after an orderly end. Exits 2 if it cannot start: there is no file, the file is wrong, or a port is taken.
    """,
)
@config_option(f"The configuration file. Default: the first that exists of {PLACES}.")
def run(path: Path | None) -> None:
    path = path or find_config()
    config, origins = load_or_exit(path)
    from sidecar import daemon

    sys.exit(daemon.run(config, path, origins))


@click.command(
    short_help="Try the sidecar with three small demo services.",
    help="""
    Start the sidecar with three small services on this machine, and print what to try with them.

    Port 0 means any free port. Environment variables can set the ports too: SIDECAR_DEMO_PROXY_PORT and so on.
    """,
)
@_port_option("proxy", 15001, "The port for the calls of an app.")
@_port_option("admin", 15000, "The port of the admin API and the dashboard.")
@_port_option("probe", 15021, "The port of health and metrics.")
@_port_option("upstream", 19101, "The first of six ports in a row for the demo services.")
@click.option("--seed", default=None, type=int, help="Makes the random failures of /flaky the same each time.")
def demo(proxy_port: int, admin_port: int, probe_port: int, upstream_port: int, seed: int | None) -> None:
    from sidecar.demo import show

    ports = show.DemoPorts(proxy=proxy_port, admin=admin_port, probe=probe_port, upstream=upstream_port)
    sys.exit(show.run(ports, seed))
