"""The `spasemsr` command: its panels put together, and errors of the user said in two lines.

Commands import what they use when they run, so that `spasemsr --help` answers at once.
"""

import logging
import sys

import typer

from pipeline.commands import pictures, scores, stages, tools
from spasemsr.errors import UserError

app = typer.Typer(
    help="SpaSemSR: photographs to shards to a trained model to a report. `dvc repro` runs the stages in order. "
    "hr is a patch of a photograph, lr a degraded version of it; a column holds one kind of data of all patches.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for panel in (pictures, stages, tools, scores):
    panel.register(app)


def main() -> None:
    """Run a command; a UserError becomes two lines and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "PIL", "matplotlib", "ray"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {error.what}\n       {error.remedy}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
