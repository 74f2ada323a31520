"""`mien completion`: the script that lets a shell complete commands, options and choices."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell to complete in.")],
) -> None:
    """Print the script that completes `mien` in your shell; writes nothing.

    Add `eval "$(mien completion bash)"` to ~/.bashrc, or `eval "$(mien completion zsh)"` to ~/.zshrc.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="mien", complete_var="_MIEN_COMPLETE", shell=shell))


def answer() -> None:
    """Register the completion protocols of these shells with the command parser."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
