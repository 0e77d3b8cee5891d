"""`fetchq completion`: prints the script by which a shell completes the command line."""

from __future__ import annotations

from typing import Final

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import Choice

COMPLETION_VARIABLE: Final = "_FETCHQ_COMPLETE"
"""What the script sets when it asks for completions."""


@click.command(context_settings=CONTEXT, short_help="Print a shell's completion script.")
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands, options and file names.

    \b
    bash, in ~/.bashrc:                     eval "$(fetchq completion bash)"
    zsh, in ~/.zshrc:                       eval "$(fetchq completion zsh)"
    fish, in ~/.config/fish/config.fish:    fetchq completion fish | source
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    root = click.get_current_context().find_root()
    click.echo(script(root.command, {}, "fetchq", COMPLETION_VARIABLE).source())
