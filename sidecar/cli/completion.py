"""`sidecar completion`: the script with which a shell completes commands, options and names of services."""

from __future__ import annotations

import click


@click.command(short_help="Print the script for completion in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script with which a shell completes commands, options and names of services.

    Names come from the running sidecar, or else from the configuration.

    \b
    Examples:
      sidecar completion bash >> ~/.bashrc
      sidecar completion zsh >> ~/.zshrc
      sidecar completion fish > ~/.config/fish/completions/sidecar.fish
    """
    from click.shell_completion import get_completion_class

    from sidecar.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "sidecar", "_SIDECAR_COMPLETE").source())
