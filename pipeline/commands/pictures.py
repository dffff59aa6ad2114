"""Commands that restore pictures: options in, an exit status out.

What they do is in `pipeline/tools/upscale.py` and `spasemsr/serving/`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from spasemsr.errors import UserError


def _filled(given: Any) -> Any:
    """An unset variable of a shell is an empty name, which would be this folder with all that is below it."""
    if given == "" or (isinstance(given, list | tuple) and "" in given):
        raise typer.BadParameter("an empty name; is a variable of the shell not set?")
    return given


def _device(name: str) -> str:
    """A device on which torch computes. It is imported for no other name than auto and cpu."""
    if name not in ("auto", "cpu"):
        import torch

        try:
            torch.zeros((), device=name).item()
        except (RuntimeError, AssertionError) as error:
            told = str(error).splitlines()[0]
            raise typer.BadParameter(f"nothing can be computed on {name!r}; take auto, cpu or cuda. {told}") from None
    return name


ProfileOption = Annotated[
    Literal["embedded", "probe", "foundation"] | None,
    typer.Option("--profile", help="Refuse weights that were trained in another profile."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        callback=_filled,
        help="A folder of weights, or a Hub repository. Default: what this project trained, else what it ships.",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option("--revision", help="The commit of a Hub repository, 40 hexadecimal digits; repositories need one."),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method", help="The method whose weights to take. Default: that of --weights, or the first in params.yaml."
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", callback=_device, help="Where to compute: cpu, cuda, or auto, a GPU if there is one.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="The most memory to take, such as 4GB; large pictures are cut to fit. Default: 3/4 of what is free.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (upscale, serve):
        app.command(rich_help_panel="Pictures")(command)


def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", callback=_filled, help="Picture files, folders with all below them, patterns."
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", callback=_filled, help="Where results go: a folder, or for one input a file.")
    ],
    method: MethodOption = None,
    profile: ProfileOption = None,
    weights: WeightsOption = None,
    revision: RevisionOption = None,
    scale: Annotated[
        float | None, typer.Option(min=1, max=4, help="How many times larger the result is, 1 to 4. Default: 4.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width of the result in pixels, instead of --scale.")] = None,
    height: Annotated[
        int | None, typer.Option(min=1, help="Height of the result in pixels, instead of --scale.")
    ] = None,
    fit: Annotated[
        Literal["inside", "crop", "stretch"] | None,
        typer.Option(
            help="With both --width and --height: keep all of the picture within them (inside, the default), fill them "
            "and cut what stands over (crop), or distort it to them (stretch)."
        ),
    ] = None,
    dial: Annotated[
        str,
        typer.Option(
            help='From 0, faithful, to 1, sharp; or by object: "person=0, sky=off, *=0.5", where * is everything else '
            "and off leaves an object as bicubic has it."
        ),
    ] = "0.5",
    text: Annotated[
        Literal["safe", "free"],
        typer.Option(
            help="Whether lines of text stay faithful and are read again (safe), or are like the rest (free)."
        ),
    ] = "safe",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the solver. Default: as many as the model was released with.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the noise; the same seed gives the same pixels.")] = 0,
    tags: Annotated[
        str | None,
        typer.Option(
            help='What is in the picture: "dog, red car", also where, from left, top to right, bottom: '
            '"dog@0.1,0.2,0.6,0.9". Default: what is found.'
        ),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help="How the picture is degraded, in one line. Default: as measured.")
    ] = None,
    form: Annotated[
        Literal["png", "jpg", "webp", "tif"] | None,
        typer.Option(
            "--format", help="The format of results. Default: the input's own, PNG where it cannot be written."
        ),
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="The quality of JPEG and WebP results.")] = 95,
    save_map: Annotated[
        bool, typer.Option("--save-map", help="Also write a map of where results of four seeds disagree.")
    ] = False,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Write no result, but a sheet that compares ways to restore one piece of each picture."
        ),
    ] = False,
    preview_at: Annotated[
        str | None,
        typer.Option(
            help="As --preview, with the middle of the piece at such a place as 0.3,0.7. Default: where most detail is."
        ),
    ] = None,
    max_memory: MemoryOption = None,
    device: DeviceOption = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Replace results that are there; inputs are never replaced.")
    ] = False,
) -> None:
    """Restore and enlarge pictures; what is done already is skipped.

    Every result has a JSON file beside it that says what it was made with. Exit status: 0 all restored, 2 not begun
    (options, weights, no space), 3 some files failed, 130 stopped.
    """
    from pipeline.tools.upscale import Request, load, run
    from spasemsr.images.writing import FORMATS
    from spasemsr.upscaling.settings import Settings, clean_text, parse_dial, parse_tags

    everywhere, dials = parse_dial(dial)
    sizes = {"scale": scale, "width": width, "height": height, "fit": fit}
    settings = Settings(
        **{name: value for name, value in sizes.items() if value is not None},
        dial=everywhere,
        seed=seed,
        steps=steps,
        tags=None if tags is None else parse_tags(tags),
        caption=None if caption is None else clean_text(caption),
        dials=dials,
        text=text,
    )
    request = Request(
        tuple(inputs), Path(out), settings, form and FORMATS[form], quality, _bytes(max_memory), save_map, force
    )

    def load_it() -> Any:
        return load(method, profile, weights, revision, device)

    if preview or preview_at:
        from pipeline.tools import preview as sheets

        at = None if preview_at is None else sheets.parse_place(preview_at)
        raise typer.Exit(_stoppable(lambda: sheets.run(request, at, load_it)))
    raise typer.Exit(_stoppable(lambda: run(request, load_it)))


def serve(
    method: MethodOption = None,
    profile: ProfileOption = None,
    weights: WeightsOption = None,
    revision: RevisionOption = None,
    host: Annotated[
        str, typer.Option(help="The address to serve at; 127.0.0.1 is this machine alone, 0.0.0.0 everybody.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to serve at; 0 takes a free one.")] = 7860,
    max_pixels: Annotated[
        int, typer.Option(min=64, help="The most pixels that an uploaded picture may have.")
    ] = 4_000_000,
    max_memory: MemoryOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Open a page that restores pictures, for this machine alone unless --host says otherwise.

    Where neither method nor weights are named, visitors choose among the methods that this project trained.
    """
    from pipeline.tools.upscale import choices, load

    memory = _bytes(max_memory)

    def run() -> int:
        from spasemsr.serving.address import require_free

        require_free(host, port)
        from spasemsr.serving.page import serve_forever
        from spasemsr.serving.session import Session

        upscaler = load(method, profile, weights, revision, device)
        beside = choices(upscaler, profile, device) if method is None and weights is None else None
        serve_forever(Session(upscaler, max_pixels, memory, beside), host, port)
        return 0

    raise typer.Exit(_stoppable(run))


def _bytes(text: str | None) -> int | None:
    from spasemsr.upscaling.memory import parse_bytes

    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise UserError(f"--max-memory: {error}.", "Say it like 4GB or 900MB.") from None


def _stoppable(run: Any) -> int:
    """The exit status of `run`; 130 if Ctrl-C came before it could say so itself."""
    try:
        return run()
    except KeyboardInterrupt:
        return 130
