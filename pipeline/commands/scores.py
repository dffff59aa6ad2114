"""Commands about scores, of folders, experiments and test sets; heavy modules load inside them."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.output import say
from pipeline.commands.pictures import DeviceOption, MethodOption, RevisionOption, WeightsOption
from pipeline.commands.tools import ProfileOption

testset_app = typer.Typer(help="The named test sets: what they are, and building DIV2K-Val A.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the `spasemsr` command."""
    for command in (score, baseline, guidance, tables, experiment, compare):
        app.command(rich_help_panel="Scores")(command)
    app.add_typer(testset_app, name="testset", rich_help_panel="Scores")


def score(
    outputs: Annotated[Path, typer.Argument(help="A folder of restored images, made by any code.")],
    hr: Annotated[Path | None, typer.Option(help="The folder of hr images; a key is a file's stem.")] = None,
    test_set: Annotated[
        str | None, typer.Option("--set", help="The named set that the outputs are of, see spasemsr testset list.")
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Metrics to compute, names with commas. Default: psnr,ssim; niqe for a set without hr.")
    ] = "",
    method: Annotated[str, typer.Option(help="What to call these outputs in tables.")] = "outputs",
    strip: Annotated[
        list[str] | None,
        typer.Option(help="An ending of names that is no part of the key, such as _out; give it again for another."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out files that have no partner or no score, and name them.")
    ] = False,
    cut: Annotated[
        bool,
        typer.Option("--cut", help="Where sizes differ by less than 8 px, cut the larger one on the right and below."),
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="The file to write the scores of every image to.")] = None,
    json: Annotated[Path | None, typer.Option(help="The file to write means, intervals and provenance to.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many threads read and compare. Default: one per core.")
    ] = None,
) -> None:
    """Score a folder of outputs: PSNR-Y, SSIM-Y and others, pairs by key, nothing skipped unless --partial says so."""
    from pipeline.tools.score import Request, run

    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    say(run(Request(outputs, hr, test_set, names, method, tuple(strip or ()), csv, json, workers, partial, cut)))


def baseline(
    lr: Annotated[Path, typer.Argument(help="A folder of lr images.")],
    outputs: Annotated[Path, typer.Argument(help="A new folder for the results.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(help="The weights of any x4 network that spandrel knows. Default: none, which is bicubic."),
    ] = None,
    strip: Annotated[
        list[str] | None,
        typer.Option(help="An ending of names that is no part of the key, such as _out; give it again for another."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Restore a folder by bicubic or a GAN's checkpoint, for spasemsr score.

    Exit status: 0 all restored, 2 not begun or not gone on with, 3 some pictures cannot be read.
    """
    from pipeline.tools.baseline import run

    raise typer.Exit(say(run(lr, outputs, checkpoint, tuple(strip or ()), device)))


def guidance(
    photographs: Annotated[Path, typer.Argument(help="A folder; of each photograph the central square is used.")],
    images: Annotated[int, typer.Option(min=1, help="How many photographs to take, the first ones by name.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="How many noise seeds to ask of each photograph.")] = 1,
    side: Annotated[int, typer.Option(min=80, help="The side of the square, in pixels, at most.")] = 256,
    preset: Annotated[
        str, typer.Option(help="How photographs are degraded, as degradation.preset of params.yaml.")
    ] = "seesr",
    metrics: Annotated[str, typer.Option(help="Metrics to compute, names with commas.")] = "psnr,ssim,texture",
    json: Annotated[Path, typer.Option(help="The file to write everything to that was found, with intervals.")] = Path(
        "audit.json"
    ),
    method: MethodOption = None,
    weights: WeightsOption = None,
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Say what guidance does to a model's results: every condition removed, replaced by another's, and found on hr."""
    from pipeline.tools.audit import Request, run
    from pipeline.tools.upscale import load

    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    request = Request(photographs, images, seeds, side, preset, names, json)
    say(run(request, partial(load, method, None, weights, revision, device)))


def tables(
    csv: Annotated[Path | None, typer.Option(help="A file to write every number to as well, one a line.")] = None,
) -> None:
    """Print the tables of all four papers with what was measured here beside what was published.

    Below: scores by lambda, and whether LPIPS and ST-LPIPS put scored methods in the same order.
    """
    from pipeline.tools import experiment
    from pipeline.tools.rankings import rankings
    from spasemsr.evaluation.published import render, write_csv
    from spasemsr.evaluation.scores import require_writable

    if csv:
        require_writable(csv)
    numbers = experiment.numbers()
    say([*render(numbers), "", *experiment.sweep_lines(), *rankings(experiment.scored())])
    if csv:
        write_csv(csv, numbers)


def experiment(
    grid: Annotated[
        str,
        typer.Argument(
            help="What to compare: tables, the ablations of each listed method's paper; readings, the other ways to "
            "read it; or lambda, a sweep of it."
        ),
    ],
    queue: Annotated[
        bool, typer.Option("--queue", help="Queue the experiments for `dvc queue start` instead of running them.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, help="How often each variant is trained, each time with another seed.")
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Training steps of each variant, after the common first phase. Default: the recipe's own."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what the experiments take and what they can tell apart; run nothing.")
    ] = False,
    profile: ProfileOption = None,
) -> None:
    """Train and evaluate variants of the methods as DVC experiments."""
    from pipeline.tools.experiment import run
    from spasemsr.config import load_params

    stated = load_params()
    params = stated.model_copy(update={"profile": profile}) if profile else stated
    say(run(params, grid, queue, seeds, steps, plan, {"profile": params.profile} if params != stated else {}))


def compare(
    before: Annotated[str, typer.Argument(help="A DVC experiment, or several with commas, one for each seed.")],
    after: Annotated[str, typer.Argument(help="The same of the other setting, seeds in the same order.")],
    method: Annotated[str, typer.Option(help="The method whose scores are compared.")] = "spasemsr",
) -> None:
    """Say what one experiment changes against another: every score image by image, with 95 % intervals."""
    from pipeline.tools.experiment import compare

    one, other = ([name.strip() for name in side.split(",")] for side in (before, after))
    say(compare(one, other, method))


@testset_app.command("list")
def testset_list() -> None:
    """Every named set: size, key list, where to get it, what its licence allows."""
    from spasemsr.evaluation.testsets import describe

    say(describe())


@testset_app.command("build")
def testset_build(
    name: Annotated[str, typer.Argument(help="The set to build: div2k-val-a.")],
    source: Annotated[Path, typer.Argument(help="The folder DIV2K_valid_HR, 0801.png to 0900.png.")],
    workers: Annotated[
        int,
        typer.Option(envvar="SPASEMSR_WORKERS", min=1, help="How many processes share the work; never changes a byte."),
    ] = 1,
) -> None:
    """Build DIV2K-Val A: 3,000 crops of 512 px and their lr by preset seesr; the same files wherever it runs."""
    from pipeline.tools.testset import build

    say(build(name, source, workers))
