"""The `spasemsr` command: one typed function per stage and tool, no logic of its own.

Heavy modules are imported inside the commands, so that `spasemsr --help` answers at once.
"""

import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.commands import models, score, upscale
from spasemsr.errors import UserError

app = typer.Typer(
    help="SpaSemSR: photographs to shards to a trained model to a report. `dvc repro` runs the stages in order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cache_app = typer.Typer(help="The sample cache (SPASEMSR_CACHE).", no_args_is_help=True)
app.command(rich_help_panel="Pictures")(upscale.upscale)
app.command(rich_help_panel="Pictures")(upscale.serve)
ExecutorName = Literal["serial", "processes", "ray"]
Method = Annotated[str, typer.Argument(help="Which of `methods` in params.yaml.")]
Where = Annotated[
    ExecutorName | None,
    typer.Option("--executor", envvar="SPASEMSR_EXECUTOR", help="Default: serial for one worker, else processes."),
]
ProfileOption = Annotated[
    Literal["embedded", "probe", "foundation"] | None,
    typer.Option("--profile", help="Default: the one in params.yaml."),
]
Workers = Annotated[
    int, typer.Option(envvar="SPASEMSR_WORKERS", min=1, help="Processes or Ray actors; never changes a byte.")
]


def _column_stage(name: str, executor: ExecutorName | None, workers: int, *methods: str) -> None:
    """Run the stage module of this name under the lock of its outs; `methods` is empty for stages of all methods."""
    from pipeline.engine.executors import build_executor

    _run(name, methods, build_executor(executor, workers))


def _model_stage(name: str, *methods: str) -> None:
    """Run a stage that is one process by nature, likewise."""
    _run(name, methods)


def _run(name: str, methods: tuple[str, ...], *arguments: Any) -> None:
    """Everything that can be refused by params and arguments is refused before the stage's module is imported."""
    from importlib import import_module

    from pipeline.engine.lock import exclusive
    from spasemsr.config import load_params

    params = load_params()
    if unknown := [method for method in methods if method not in params.methods]:
        raise UserError(f"No method {unknown[0]!r}.", f"Those of params.yaml are: {', '.join(params.methods)}.")
    with exclusive(".".join([name, *methods])):
        import_module(f"pipeline.stages.{name}").run(params, *arguments, *methods)


@app.command(rich_help_panel="Stages")
def ingest(executor: Where = None, workers: Workers = 1) -> None:
    """Photographs -> list of patches, rejects with reasons, column hr."""
    _column_stage("ingest", executor, workers)


@app.command(rich_help_panel="Stages")
def synthesize(executor: Where = None, workers: Workers = 1) -> None:
    """Column hr -> lr: Real-ESRGAN degradations."""
    _column_stage("synthesize", executor, workers)


@app.command(rich_help_panel="Stages")
def restore(executor: Where = None, workers: Workers = 1) -> None:
    """Column lr -> restored: the degradation removal module."""
    _column_stage("restore", executor, workers)


@app.command(rich_help_panel="Stages")
def ground(executor: Where = None, workers: Workers = 1) -> None:
    """Columns hr, restored -> objects: tags, boxes, masks."""
    _column_stage("ground", executor, workers)


@app.command(rich_help_panel="Stages")
def caption(executor: Where = None, workers: Workers = 1) -> None:
    """Column lr -> caption: how each image is degraded."""
    _column_stage("caption", executor, workers)


@app.command(rich_help_panel="Stages")
def latents(executor: Where = None, workers: Workers = 1) -> None:
    """Column hr -> latents: the autoencoder's moments, training splits only."""
    _column_stage("latents", executor, workers)


@app.command(rich_help_panel="Stages")
def features(method: Method, executor: Where = None, workers: Workers = 1) -> None:
    """What one method needs beyond the common columns."""
    _column_stage("features", executor, workers, method)


@app.command(rich_help_panel="Stages")
def train(method: Method) -> None:
    """Train one method on the shards; resumes where it was stopped."""
    _model_stage("train", method)


@app.command(rich_help_panel="Stages")
def evaluate(method: Method) -> None:
    """Restore the evaluation split and score it beside bicubic and the restorer."""
    _model_stage("evaluate", method)


@app.command(rich_help_panel="Stages")
def dial(method: Method) -> None:
    """Sweep sampling-time settings of trained weights, faithful to sharp, and map what is made up."""
    _model_stage("dial", method)


@app.command(rich_help_panel="Stages")
def report() -> None:
    """All scores, pictures and curves -> reports/report.html."""
    _model_stage("report")


@app.command(rich_help_panel="Tools")
def status() -> None:
    """What each column's stage has done so far, also while another process works."""
    from pipeline.tools import inspection

    _say(inspection.status())


@app.command(rich_help_panel="Tools")
def check(profile: ProfileOption = None) -> None:
    """Verify params.yaml, packages, photographs, columns, and weights, disk, memory and device; runs nothing."""
    from pipeline.tools import inspection

    _say(inspection.check(Path("params.yaml"), profile))


@app.command(rich_help_panel="Tools")
def plan(
    profile: ProfileOption = None,
    gpu: Annotated[
        str | None, typer.Option(help="Plan for GPUs of this kind, e.g. A100; default: this machine.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="How many of them, on all machines together.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Training patches; default: those of the photographs.")
    ] = None,
) -> None:
    """Say what a profile costs here: disk, memory, hours, what is missing and what to change; runs nothing."""
    from pipeline.planning import hardware, plan
    from spasemsr.config import load_params

    params = load_params()
    _say(plan.lines(plan.make_plan(params, profile or params.profile, hardware.hardware(gpu, gpus), samples)))


@app.command(rich_help_panel="Tools")
def show(key: Annotated[str, typer.Argument(help="A key of data/patches.jsonl, or its beginning.")]) -> None:
    """Print everything the columns hold about one sample."""
    from pipeline.tools import inspection

    _say(inspection.show(key))


@cache_app.command("stat")
def cache_stat() -> None:
    """Entries and bytes by column."""
    from spasemsr.cache import Cache

    cache = Cache()
    typer.echo(cache.root)
    _say(
        f"{label:<20}{usage.entries:>10} entries {usage.bytes / 1e6:>12.1f} MB" for label, usage in cache.stat().items()
    )


@cache_app.command("prune")
def cache_prune(
    column: Annotated[str | None, typer.Option(help="Delete this column's entries; its tars stay.")] = None,
    max_gb: Annotated[
        float | None, typer.Option(min=0, help="Delete the longest unused until so much is left.")
    ] = None,
) -> None:
    """Delete entries; nothing but time is lost."""
    from spasemsr.cache import Cache

    deleted = Cache().prune(column, None if max_gb is None else int(max_gb * 1e9))
    typer.echo(f"deleted {deleted.entries} entries, {deleted.bytes / 1e6:.1f} MB")


app.add_typer(cache_app, name="cache", rich_help_panel="Tools")
app.add_typer(models.app, name="models", rich_help_panel="Tools")
score.register(app)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


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
