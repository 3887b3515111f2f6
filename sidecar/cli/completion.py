"""`sidecar completion`: print the completion script for bash, zsh or fish."""

from __future__ import annotations

import click


@click.command(
    short_help="Print the completion script for a shell.",
    help="""
    Print the script that lets a shell complete commands, options and the names of services.

    The names come from the running sidecar. If none runs, they come from the configuration file.

    \b
    Examples:
      sidecar completion bash >> ~/.bashrc
      sidecar completion zsh >> ~/.zshrc
      sidecar completion fish > ~/.config/fish/completions/sidecar.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    from click.shell_completion import get_completion_class

    from sidecar.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "sidecar", "_SIDECAR_COMPLETE").source())
