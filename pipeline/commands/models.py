"""`spasemsr models`: pretrained models, where to get them and whether they are the right ones; and releasing our own.

A sub-application of the command line; `list` and `path` never touch the network, `fetch` does.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from spasemsr.errors import UserError

app = typer.Typer(
    help="Weights: list, fetch and verify those that others trained; release what was trained here.",
    no_args_is_help=True,
)


def _commit(revision: str | None) -> str | None:
    if revision is not None and not re.fullmatch("[0-9a-f]{40}", revision):
        raise typer.BadParameter("a commit has 40 hexadecimal digits; what a name points to may change unseen")
    return revision


Name = Annotated[str, typer.Argument(help="A name of `spasemsr models list`.")]
Revision = Annotated[
    str | None, typer.Option(callback=_commit, help="A Hub commit, 40 hexadecimal digits, instead of the registry's.")
]


@app.command("list")
def list_models() -> None:
    """Every model: purpose, size, licence, whether it is here, and where to get it."""
    from pipeline.tools.inventory import lines

    for line in lines():
        typer.echo(line)


@app.command()
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names of `spasemsr models list`, or `profile` for all that the profile of params.yaml uses."
        ),
    ],
    revision: Revision = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use local folders and the Hub cache only.")] = False,
    folder: Annotated[Path | None, typer.Option("--from", help="A local folder to take the files from first.")] = None,
) -> None:
    """Bring models here, resuming what was interrupted; the next source is tried when one fails."""
    from pipeline.tools.inventory import chosen
    from spasemsr.weights.fetch import fetch as fetch_one

    if folder is not None and not folder.is_dir():
        raise UserError(f"--from: there is no folder {folder}.", "Name the folder that holds the files.")
    for model in chosen(names):
        found = fetch_one(model, revision, offline, folder)
        typer.echo(f"{model.name}: {found.path}  sha256 {found.sha256[:16]}")


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of `spasemsr models list`. Default: all that are here.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Hash every file again and compare it with the registry and models.lock.json."""
    from pipeline.tools.inventory import chosen, here
    from spasemsr.weights.store import verify as verify_one

    for model in chosen(names) if names else here():
        found = verify_one(model, revision, again=True)
        typer.echo(f"{model.name}: as recorded  sha256 {found.sha256[:16]}")


@app.command()
def path(name: Name, revision: Revision = None) -> None:
    """Print where a verified model lies."""
    from spasemsr.weights.store import locate

    typer.echo(str(locate(name, revision).path))


@app.command()
def release(
    model: Annotated[Path, typer.Argument(help="A folder of weights, such as models/spasemsr.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    bits: Annotated[
        Literal["32", "16", "8"], typer.Option(help="Bits of each number on disk; fewer make a smaller file.")
    ] = "16",
) -> None:
    """Write trained weights for others: safetensors, how to sample, a model card; `train.init` and upscale read it."""
    from spasemsr.methods.stored import CONFIG, Bits
    from spasemsr.upscaling.hub import CARD
    from spasemsr.upscaling.upscaler import Upscaler

    if out.resolve() == model.resolve():
        told = f"{out} is the model itself, and its weights cannot be had back from fewer bits."
        raise UserError(told, "Name another folder.")
    if out.is_dir() and any(out.iterdir()) and not all((out / name).is_file() for name in (CONFIG, CARD)):
        raise UserError(f"{out} holds something else than a released model.", "Name a new folder.")
    Upscaler.from_pretrained(model, device="cpu").save_pretrained(out, bits=cast(Bits, int(bits)))
    typer.echo(f"{out}: {sum(path.stat().st_size for path in out.iterdir()) / 1e6:.1f} MB")
