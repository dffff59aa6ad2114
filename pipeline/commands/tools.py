"""Commands that look without running, and those about the sample cache."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.commands import models
from pipeline.commands.output import say
from spasemsr.errors import UserError

cache_app = typer.Typer(
    help="The sample cache, the folder SPASEMSR_CACHE: what lies in it, and deleting from it.", no_args_is_help=True
)
ProfileOption = Annotated[
    Literal["embedded", "probe", "foundation"] | None,
    typer.Option("--profile", help="The profile of params.yaml to take. Default: the one that it names."),
]


def register(app: typer.Typer) -> None:
    """Add these commands, and the groups `cache` and `models`."""
    for command in (status, check, schema, doctor, plan, show):
        app.command(rich_help_panel="Tools")(command)
    app.add_typer(cache_app, name="cache", rich_help_panel="Tools")
    app.add_typer(models.app, name="models", rich_help_panel="Tools")


def status() -> None:
    """What each column's stage has done so far, also while another process works."""
    from pipeline.tools import inspection

    say(inspection.status())


def check(profile: ProfileOption = None) -> None:
    """Verify params.yaml, packages, photographs, columns, and weights, disk, memory and device; runs nothing."""
    from pipeline.tools import inspection

    say(inspection.check(Path("params.yaml"), profile))


def schema() -> None:
    """Print the JSON schema of params.yaml, by which an editor completes and checks it."""
    import json

    from pipeline.tools.params_schema import params_schema

    say([json.dumps(params_schema(), indent=2)])


def doctor(profile: ProfileOption = None) -> None:
    """On a GPU machine, first: driver, GPUs, weights, disk, mounts, Ray, a tiny step of every network on the device."""
    from pipeline.tools import doctor as tool

    say(tool.doctor(profile))


def plan(
    methods: Annotated[
        list[str] | None, typer.Argument(help="Methods to plan for. Default: those of params.yaml.")
    ] = None,
    profile: ProfileOption = None,
    gpu: Annotated[
        str | None, typer.Option(help="Plan for GPUs of this kind, such as A100. Default: what this machine has.")
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many GPUs there are, on all machines together. Default: with --gpu 1, else all of this machine.",
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Training patches to plan for. Default: those of the photographs.")
    ] = None,
    gpus_per_machine: Annotated[int, typer.Option(min=1, help="How many GPUs are linked within a machine.")] = 8,
    network: Annotated[
        float, typer.Option(min=0.1, help="The speed of the network between machines, in Gbit/s.")
    ] = 100.0,
) -> None:
    """Say what a profile costs here: disk, memory, hours, what is missing and what to change; runs nothing.

    Operations and memory are counted on each method's own training step, once for its settings.
    """
    from pipeline.planning import hardware, plan
    from spasemsr.config import load_params

    params = load_params()
    params = params.running(methods) if methods else params
    machine = hardware.hardware(gpu, gpus, gpus_per_machine, network)
    say(plan.lines(plan.make_plan(params, profile or params.profile, machine, samples)))


def show(key: Annotated[str, typer.Argument(help="A key of data/patches.jsonl, or its beginning.")]) -> None:
    """Print everything the columns hold about one sample."""
    from pipeline.tools import inspection

    say(inspection.show(key))


@cache_app.command("stat")
def cache_stat() -> None:
    """Entries and bytes by column, and states of interrupted trainings."""
    from spasemsr.cache import Cache
    from spasemsr.training.states import interrupted

    cache = Cache()
    typer.echo(cache.root)
    say(
        f"{label:<20}{usage.entries:>10} entries {usage.bytes / 1e6:>12.1f} MB" for label, usage in cache.stat().items()
    )
    say(f"interrupted training  {state.name}" for state in interrupted(cache.root / "train"))


@cache_app.command("prune")
def cache_prune(
    column: Annotated[
        str | None, typer.Option(help="Delete the entries that `cache stat` lists under this name; tars stay.")
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option(min=0, help="Delete what was longest unused until so many GB are left.")
    ] = None,
    states: Annotated[
        int | None,
        typer.Option(min=0, help="Delete states of interrupted trainings but the last so many of each method."),
    ] = None,
) -> None:
    """Delete entries, or states of interrupted trainings; nothing but time is lost.

    Without an option only what killed processes left behind is deleted.
    """
    from spasemsr.cache import Cache
    from spasemsr.training.states import prune

    cache = Cache()
    if column is not None and column not in (held := cache.stat()):
        there = ", ".join(held) or "nothing"
        raise UserError(f"The cache holds no entries of {column!r}.", f"It holds entries of: {there}.")
    if states is not None:
        say(f"deleted {state.name}" for state in prune(cache.root / "train", states))
    deleted = cache.prune(column, None if max_gb is None else int(max_gb * 1e9))
    typer.echo(f"deleted {deleted.entries} entries, {deleted.bytes / 1e6:.1f} MB")
