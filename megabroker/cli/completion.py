"""``megabroker completion``: what makes a shell complete our commands and options."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_VARIABLE: Final = "_MEGABROKER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell.

    \b
    bash:  megabroker completion bash > ~/.local/share/bash-completion/completions/megabroker
    zsh:   megabroker completion zsh > ~/.zfunc/_megabroker      (a directory of your fpath)
    fish:  megabroker completion fish > ~/.config/fish/completions/megabroker.fish

    For the current shell: eval "$(megabroker completion bash)"
    """
    made = get_completion_class(shell)
    assert made is not None
    root = ctx.find_root()
    # The class's own source() asks the bash that is installed for its version, and warns of what it is told.
    text = made(root.command, {}, "megabroker", _VARIABLE)
    click.echo(text.source_template % text.source_vars())
