"""The section `train` of `params.yaml`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from spasemsr.spec import NUMBER, Fraction, Positive, Spec

# What trades time against memory, and how often states and rows are written. `max_skipped` only decides whether a run
# ends; the columns below `shards` are named by their digests.
_CHANGE_NO_RESULT = frozenset(
    (
        *("accumulate", "gradient_checkpointing", "compile", "max_skipped", "save_every", "log_every", "shards"),
        *("validate_every", "keep_every"),
    )
)


class TrainSpec(Spec):
    """The training run; `init` is a folder of weights or null.

    `shards` is the address of a published `data/shards` (HTTP, or any storage fsspec has a package for): its tars are
    verified, kept in the cache and trained on; null is this project's own folder.
    The learning rate rises over `warmup_steps`, stays, and falls to zero over the last `cooldown_steps`, both linearly.
    `accumulate` cuts each process's share of `global_batch` into so many micro-batches; it, `gradient_checkpointing`,
    `optimizer`, `compile` and `channels_last` trade memory for time and change results by rounding at most, except that
    adamw8bit keeps its moments in 8 bits. `gradients` is the precision in which several processes exchange them: bf16
    halves what a network between machines has to carry. Steps whose loss or gradient is not finite change nothing; more
    than `max_skipped` of them end the run.
    `held` samples, whole photographs of them, are not trained on: their loss is taken every `validate_every` steps,
    with the same noise each time. Every `keep_every` steps the averaged weights are kept as a model. 0: never.
    """

    init: Annotated[str, Field(min_length=1)] | None = None
    shards: Annotated[str, Field(pattern=r"^[a-z0-9]+://\S+$")] | None = None
    steps: Positive = 200_000
    global_batch: Positive = 32
    lr: Annotated[float, Field(gt=0.0), NUMBER] = 5e-5
    warmup_steps: Annotated[int, Field(ge=0), NUMBER] = 500
    cooldown_steps: Annotated[int, Field(ge=0), NUMBER] = 0
    weight_decay: Annotated[float, Field(ge=0.0), NUMBER] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0.0), NUMBER] = 1.0
    max_skipped: Annotated[int, Field(ge=0), NUMBER] = 0
    ema_decay: Fraction = 0.0
    precision: Literal["fp32", "bf16"] = "bf16"
    accumulate: Positive = 1
    gradient_checkpointing: bool = False
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    compile: bool = False
    channels_last: bool = False
    gradients: Literal["fp32", "bf16"] = "fp32"
    held: Annotated[int, Field(ge=0), NUMBER] = 0
    validate_every: Annotated[int, Field(ge=0), NUMBER] = 0
    keep_every: Annotated[int, Field(ge=0), NUMBER] = 0
    save_every: Positive = 1000
    log_every: Positive = 10

    def content(self) -> dict[str, Any]:
        """The settings that trained weights depend on.

        A run is named by these, so one that stopped for want of memory goes on with the settings its message advises.
        """
        return {name: value for name, value in self.plain().items() if name not in _CHANGE_NO_RESULT}
