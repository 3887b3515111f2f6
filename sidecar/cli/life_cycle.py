"""What a pod's hooks and entrypoints run: wait until the sidecar is ready, until nothing calls any more, or end it.

Owns the commands, their words and exit codes; what is asked of the probe listener is `probe_client`'s. They start anew
each time, with little CPU to spare: nothing heavy is imported, and `quit` alone imports a client of the admin API.
"""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.cli.probe_client import DEFAULT_PROBE, ProbeClient, wait_idle, wait_ready
from sidecar.cli.seconds import Seconds

probe_option = click.option(
    "--probe",
    metavar="URL",
    envvar="SIDECAR_PROBE",
    default=DEFAULT_PROBE,
    help=f"The sidecar's probe listener. Default: $SIDECAR_PROBE, then {DEFAULT_PROBE}.",
)


@click.command(short_help="Block until the sidecar is ready.")
@probe_option
@click.option("--timeout", type=Seconds(), default="60s", show_default=True, help="After that it exits 1.")
def wait(probe: str, timeout: float) -> None:
    """Block until the sidecar is ready: for entrypoints and postStart hooks on old clusters.

    Exits 0 once it is, 1 where it is not in time.
    """
    from time import monotonic, sleep

    client = _client(probe)
    if not wait_ready(client.ready, timeout, monotonic, sleep):
        raise click.ClickException(f"the sidecar at {client.url} was not ready within {timeout:g} s")


@click.command(short_help="Block until the app calls no more: a preStop hook.")
@probe_option
@click.option("--idle", type=Seconds(), default="2s", show_default=True, help="So long there has to be no call.")
@click.option("--max", "longest", type=Seconds(), default="15s", show_default=True, help="After that it ends anyway.")
def prestop(probe: str, idle: float, longest: float) -> None:
    """Block until the app calls no more: a preStop hook for a sidecar that is an ordinary container.

    A kubelet ends all containers of a pod at once, and sends SIGTERM to the sidecar when this is over. A native sidecar
    does not need it.

    \b
    Examples:
      sidecar prestop --idle 2s --max 15s

    Exits 0 whatever happened: a hook that fails would not change anything.
    """
    from time import monotonic, sleep

    client = _client(probe)
    how = wait_idle(client.traffic, idle, longest, monotonic, sleep)
    words = {"idle": "no calls any more", "late": f"still called after {longest:g} s", "gone": "the sidecar is gone"}
    click.echo(words[how], err=True)


@click.command(name="quit", short_help="End the sidecar when a Job's work is done.")
@click.option(
    "--admin",
    "admin_url",
    metavar="URL",
    envvar="SIDECAR_ADMIN",
    default="http://127.0.0.1:15000",
    show_default=True,
    help="The sidecar's admin listener.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    envvar="SIDECAR_ADMIN_TOKEN_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with the admin API's token, if it wants one.",
)
def quit_(admin_url: str, token_file: Path | None) -> None:
    """End the sidecar in good order, without asking: for the end of a Job's main process on clusters before 1.29.

    A Job with an ordinary sidecar completes when the sidecar ends, too. `curl -X POST -H 'Content-Type:
    application/json' -d '{}' localhost:15000/drain` does the same from an image without this command.

    \b
    Examples:
      sidecar quit

    Exits 0 if it ends or has ended already, 1 where it refuses.
    """
    from sidecar.cli.admin_client import AdminError
    from sidecar.cli.options import admin_client

    client = admin_client(admin_url, token_file)
    try:
        client.post("drain", body={})
    except AdminError as error:
        if error.status or not _nobody_listens(client.url):
            raise


def _nobody_listens(url: str) -> bool:
    """Asked after a call that failed: a sidecar that ended before it, or in the middle of it, is gone now."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), timeout=2).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _client(url: str) -> ProbeClient:
    try:
        return ProbeClient(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--probe") from None
