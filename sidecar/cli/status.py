"""`sidecar status`: show the state of all services, or of one.

Owns the calls and `--watch`. The tables are `status_tables`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sidecar.cli.admin_client import AdminError
from sidecar.cli.options import Admin, ServiceName, about, admin_options
from sidecar.cli.output import console, print_json, show, styled

if TYPE_CHECKING:
    from rich.console import RenderableType

Fetch = Callable[[], Any]
Draw = Callable[[Any], "list[RenderableType]"]


@click.command(
    short_help="Show all services, or one with its endpoints.",
    help="""
    Show each service with its breaker, success rate, latency and endpoints, or one SERVICE with all its endpoints.

    Rates and latencies are those of the last ten seconds. `ok` is the share of requests that did not fail.

    \b
    Examples:
      sidecar status
      sidecar status venue
      sidecar status --watch
      sidecar status venue --json
    """,
)
@click.argument("service", required=False, type=ServiceName())
@click.option("-w", "--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    help="Seconds between two updates of --watch.",
)
@admin_options
def status(admin: Admin, service: str | None, watch: bool, interval: float) -> None:
    fetch = _fetch(admin, service)
    if admin.as_json and watch:
        raise click.UsageError(
            "--json does not go with --watch; `sidecar events --follow --json` prints events as they happen"
        )
    if admin.as_json:
        print_json(fetch())
        return
    from sidecar.cli.status_tables import all_services, one_service

    draw: Draw = all_services if service is None else one_service
    if service is None:
        fetch = _with_reload_errors(admin, fetch)
    if not watch:
        show(*draw(fetch()))
        return
    try:
        _watch(admin.client.url, fetch, draw, interval)
    except KeyboardInterrupt:
        return


def _fetch(admin: Admin, service: str | None) -> Fetch:
    def fetch() -> Any:
        if service is None:
            return admin.client.get("services")
        with about(admin.client, service):
            return admin.client.get("services", service)

    return fetch


def _with_reload_errors(admin: Admin, fetch: Fetch) -> Fetch:
    """Also fetch the errors and warnings of the last reload: the list of services has only their number."""

    def fetch_both() -> Any:
        answer = fetch()
        brief = answer.get("reload") or {}
        if brief.get("errors") or brief.get("warnings"):
            return answer | {"reload": admin.client.get("config")["reload"]}
        return answer

    return fetch_both


def _watch(url: str, fetch: Fetch, draw: Draw, interval: float) -> None:
    """Redraw in place on a terminal; elsewhere print one below the other. A sidecar that is gone is called again."""
    from rich.console import Group
    from rich.live import Live

    last = draw(fetch())  # if the first call fails, the command ends
    out = console()
    if not out.is_terminal:
        while True:
            show(*last, "", to=out)
            time.sleep(interval)
            last = _again(fetch, draw, last)
    with Live(console=out, screen=True, auto_refresh=False) as live:
        while True:
            live.update(Group(styled(f"{url}, every {interval:g} s; Ctrl-C to end", "dim"), *last), refresh=True)
            time.sleep(interval)
            last = _again(fetch, draw, last)


def _again(fetch: Fetch, draw: Draw, last: list[RenderableType]) -> list[RenderableType]:
    try:
        return draw(fetch())
    except AdminError as error:
        return [styled(error.message, "bold red"), *last[-1:]]
