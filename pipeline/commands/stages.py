"""The stages of `dvc.yaml` as commands, each under the lock of its outs: `python -m pipeline STAGE [METHOD]`.

Everything that params and arguments can refuse is refused before the stage's module is imported.
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, Literal

import typer

from spasemsr.errors import UserError

# Stages that build a column, by several workers if asked to, and what they do.
COLUMN_STAGES = {
    "ingest": "Photographs -> list of patches, rejects with reasons, column hr.",
    "synthesize": "Column hr -> lr: degraded as section `degradation` says.",
    "restore": "Column lr -> restored: the degradation removal module.",
    "ground": "Columns hr, restored -> objects: tags, boxes, masks.",
    "caption": "Column lr -> caption: how each image is degraded.",
    "latents": "Column hr -> latents: the autoencoder's moments, training splits only.",
}
# Stages of one student, before the methods that use it.
LEARNER_COLUMN_STAGES = {"teach": "Column hr -> what a frozen teacher makes of it, the target that one student learns."}
LEARNER_STAGES = {"adapt": "Train one student to see in lr what its teacher sees in hr; resumes where it stopped."}
# Stages of one method that several workers can share, before and after it is trained.
METHOD_COLUMN_STAGES = {"features": "What one method reads beyond the common columns -> column features/METHOD."}
METHOD_PICTURE_STAGES = {
    "evaluate": "Restore the evaluation split and score it beside the baselines of params.yaml.",
    "dial": "Score trained weights at other sampling settings, faithful to sharp; map where seeds disagree.",
}
# Stages of one method that no workers share; a launcher starts several processes of `train` (SPASEMSR_LAUNCH).
METHOD_STAGES = {
    "train": "Train one method on the shards; resumes where it stopped.",
    "audit": "What guidance does: each condition removed or replaced; on profile probe, its table too.",
}
BEFORE_RESULTS = {*COLUMN_STAGES, *LEARNER_COLUMN_STAGES, *LEARNER_STAGES, *METHOD_COLUMN_STAGES, "train"}
PLAIN_STAGES = {"report": "All scores, pictures and curves -> reports/report.html."}

Learner = Annotated[str, typer.Argument(help="Which of `learners` in params.yaml.")]
Method = Annotated[str, typer.Argument(help="Which of `methods` in params.yaml.")]
Where = Annotated[
    Literal["serial", "processes", "ray"] | None,
    typer.Option(
        "--executor",
        envvar="SPASEMSR_EXECUTOR",
        help="What workers run on. Default: serial for one worker, else processes.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        envvar="SPASEMSR_WORKERS", min=1, help="How many processes or Ray actors share the work; never changes a byte."
    ),
]


def register(app: typer.Typer) -> None:
    """Add one command for each stage, after those whose results it reads."""
    before = (COLUMN_STAGES, _column), (LEARNER_COLUMN_STAGES, _learner_shared), (LEARNER_STAGES, _learner)
    trained = (METHOD_COLUMN_STAGES, _method_shared), (METHOD_STAGES, _method)
    for stages, command in (*before, *trained, (METHOD_PICTURE_STAGES, _method_shared), (PLAIN_STAGES, _plain)):
        for name, what in stages.items():
            app.command(name, help=what, rich_help_panel="Stages")(command(name))


def _column(name: str) -> Callable[..., None]:
    def command(executor: Where = None, workers: Workers = 1) -> None:
        _run(name, executor=(executor, workers))

    return command


def _learner_shared(name: str) -> Callable[..., None]:
    def command(learner: Learner, executor: Where = None, workers: Workers = 1) -> None:
        _run(name, learner, of="learners", executor=(executor, workers))

    return command


def _learner(name: str) -> Callable[..., None]:
    def command(learner: Learner) -> None:
        _run(name, learner, of="learners")

    return command


def _method_shared(name: str) -> Callable[..., None]:
    def command(method: Method, executor: Where = None, workers: Workers = 1) -> None:
        _run(name, method, executor=(executor, workers))

    return command


def _method(name: str) -> Callable[..., None]:
    def command(method: Method) -> None:
        _run(name, method)

    return command


def _plain(name: str) -> Callable[..., None]:
    def command() -> None:
        _run(name)

    return command


def _run(
    name: str,
    *items: str,
    of: Literal["methods", "learners"] = "methods",
    executor: tuple[str | None, int] | None = None,
) -> None:
    """Run the stage of this name; `items` is its method or student, or nothing for stages of all methods."""
    from pipeline.engine.lock import exclusive
    from spasemsr.config import load_params

    arguments: list[Any] = []
    if executor is not None:
        from pipeline.engine.executors import build_executor

        arguments.append(build_executor(*executor))
    params = load_params()
    listed: tuple[str, ...] = getattr(params, of)
    if unknown := [item for item in items if item not in listed]:
        known = ", ".join(listed) or "none"
        raise UserError(f"No {of.removesuffix('s')} {unknown[0]!r}.", f"Those of params.yaml are: {known}.")
    if "DVC_STAGE" in os.environ and name in BEFORE_RESULTS:  # by hand, other stages may be run on another machine
        from pipeline.tools.inventory import require_there

        require_there(params)
    with exclusive(".".join([name, *items])):
        import_module(f"pipeline.stages.{name}").run(params, *arguments, *items)
