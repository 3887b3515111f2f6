"""`sidecar schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import click


@click.command(short_help="Print the JSON Schema of the configuration, for editors.")
def schema() -> None:
    """Print the JSON Schema of the configuration, so that an editor completes and checks it as you type.

    Where the YAML language server runs (VS Code, Neovim, Emacs ...), the first line of a configuration says where the
    schema is:

    \b
      # yaml-language-server: $schema=sidecar.schema.json

    It knows one value at a time, so some mistakes only `sidecar check` finds.

    \b
    Examples:
      sidecar schema > sidecar.schema.json
    """
    from sidecar.config.json_schema import json_schema_text

    click.echo(json_schema_text(), nl=False)
