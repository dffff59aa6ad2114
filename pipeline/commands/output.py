"""What a command says: lines on standard output, as they come."""

from collections.abc import Iterable

import typer


def say(lines: Iterable[str]) -> int:
    """Print lines one by one, so that slow work is seen to go on; the exit status that a generator of them returns."""
    left = iter(lines)
    while True:
        try:
            typer.echo(next(left))
        except StopIteration as end:
            return end.value or 0
