"""What a command says: lines on standard output, as they come."""

from collections.abc import Iterable

import typer


def say(lines: Iterable[str]) -> None:
    """Print lines one by one, so that slow work is seen to go on."""
    for line in lines:
        typer.echo(line)
