"""`sidecar check`: find the mistakes in a configuration, and show what a reload with it would change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sidecar.cli.config_file import PLACES, config_option, find_config, load_or_exit
from sidecar.cli.options import admin_client, json_option, token_option
from sidecar.cli.output import origin_of, print_json, value_text
from sidecar.cli.settings_tree import Change, Leaf, changes, hides, with_heirs

if TYPE_CHECKING:
    from sidecar.config.load import Origins
    from sidecar.config.schema import Config


_NOT_COMPARED: Final = " (values shown as *** are not compared)"


@click.command(
    short_help="Find the mistakes in a configuration.",
    help="""
    Check the configuration. Print every error with its line, or a summary of the file. Warnings go to stderr.

    Environment variables in the file are read from this shell. Nothing is called, except the sidecar of --against.
    Values that may be secret are neither shown nor compared.

    \b
    Examples:
      sidecar check
      sidecar check --config sidecar.yaml
      sidecar check --config sidecar.yaml --against http://127.0.0.1:15000

    Exits 0 if `sidecar run` would start with the file, 2 if not, 1 if the sidecar of --against does not answer.
    """,
)
@config_option(f"The configuration file. Default: the first that exists of {PLACES}; stderr names it.")
@click.option(
    "--against",
    metavar="URL",
    help="Also show what a reload with this file would change in the sidecar with this admin listener, and what needs a"
    " restart.",
)
@token_option
@json_option
def check(path: Path | None, against: str | None, token_file: Path | None, as_json: bool) -> None:
    from sidecar.config.warnings import warnings_of

    path = path or find_config(say=True)
    config, origins = load_or_exit(path, as_json=as_json)
    warnings = warnings_of(config, origins)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    tree = _as_json(config, origins) if against else {}
    found = _changes(against, token_file, tree) if against else None
    if as_json:
        print_json({"result": "ok", "file": str(path), "errors": [], "warnings": warnings, **_json(found)})
        return
    from sidecar.config.summary import summary

    if found is None:
        click.echo(summary(config))
        return
    for change, heirs in with_heirs(found):
        click.echo(_line(change, heirs))
    click.echo(_conclusion(found, against or "") + (_NOT_COMPARED if hides(tree) else ""))


def _changes(against: str, token_file: Path | None, tree: Any) -> list[Change]:
    running = admin_client(against, token_file, "--against").get("config")
    return changes(running["config"], tree)


def _as_json(config: Config, origins: Origins) -> Any:
    """The effective configuration, in the shape that the admin API gives it."""
    import msgspec

    from sidecar.config.effective import config_tree

    return msgspec.json.decode(msgspec.json.encode(config_tree(config, origins)))


def _json(found: list[Change] | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"changes": [{**change._asdict(), "needs_restart": change.needs_restart} for change in found]}


def _line(change: Change, heirs: int) -> str:
    old, new = change.old, change.new
    if change.whole:
        return f"{change.key}: {'added' if old is None else 'removed'}"
    end = "; needs a restart" if change.needs_restart else ""
    if heirs:
        end += f"; inherited by {heirs} more"
    return f"{change.key}: {_side(old)} -> {_side(new)}{end}"


def _side(leaf: Leaf | None) -> str:
    return f"{value_text(leaf['value'])} ({origin_of(leaf)})" if leaf else "not set"


def _conclusion(found: list[Change], url: str) -> str:
    if not found:
        return f"a reload would change nothing at {url}"
    own = [change for change, _ in with_heirs(found)]
    restart = sum(change.needs_restart for change in own)
    text = f"a reload would change {_count(len(own) - restart)} at {url}"
    return f"{text}; {_count(restart)} changes only with a restart" if restart else text


def _count(number: int) -> str:
    return f"{number} key" if number == 1 else f"{number} keys"
