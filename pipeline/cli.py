"""The `spasemsr` command: its panels put together, and errors of the user and of the disk said in two lines.

Commands import what they use when they run, so that `spasemsr --help` answers at once.
"""

import errno
import logging
import sys
from typing import NoReturn

import typer

from pipeline.commands import pictures, scores, stages, tools
from spasemsr.errors import UserError

app = typer.Typer(
    help="SpaSemSR restores and enlarges photographs: `spasemsr upscale PHOTO -o OUT`. `dvc repro` runs the stages in "
    "order, from photographs over shards and a trained model to a report. hr is a patch of a photograph, lr a degraded "
    "version of it; a column holds one kind of data of all patches.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDIES = {
    **dict.fromkeys(FULL, "Free space and run the same again; what is finished is kept."),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Give yourself permission there."),
    errno.ENAMETOOLONG: "Give a shorter name.",
}
for panel in (pictures, stages, tools, scores):
    panel.register(app)


def main() -> None:
    """Run a command; a UserError, a full disk and a file without permission become two lines and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "PIL", "matplotlib", "ray"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        app()
    except UserError as error:
        _end(error.what, error.remedy)
    except OSError as error:
        # A full disk is met in writing, which names no file. Permission without a file is of something else: a socket.
        if error.errno not in REMEDIES or (error.filename is None and error.errno not in FULL):
            raise
        _end(f"{error.filename or 'A file of this run'}: {error.strerror}.", REMEDIES[error.errno])


def _end(what: str, remedy: str) -> NoReturn:
    sys.stderr.write(f"error: {what}\n       {remedy}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
