"""`sidecar schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import click


@click.command(
    short_help="Print the JSON Schema of the configuration, for editors.",
    help="""
    Print the JSON Schema of the configuration, so that an editor completes and checks it as you type.

    Editors with the YAML language server (VS Code, Neovim, Emacs) use the schema that the first line of a configuration
    names:

    \b
      # yaml-language-server: $schema=sidecar.schema.json

    The schema checks each value alone. `sidecar check` also finds mistakes between values.

    \b
    Examples:
      sidecar schema > sidecar.schema.json
    """,
)
def schema() -> None:
    from sidecar.config.json_schema import json_schema_text

    click.echo(json_schema_text(), nl=False)
