"""``pexpolicy completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pexpolicy.cli.examples import examples

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        "pexpolicy completion bash > ~/.local/share/bash-completion/completions/pexpolicy",
        'pexpolicy completion zsh > "${fpath[1]}/_pexpolicy"',
        "pexpolicy completion fish > ~/.config/fish/completions/pexpolicy.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion of commands, options and file names for SHELL."""
    found = get_completion_class(shell)
    assert found is not None
    program = ctx.find_root().command
    click.echo(found(program, {}, "pexpolicy", "_PEXPOLICY_COMPLETE").source())
