"""Stage caption: lr -> column caption, one line about how each variant is degraded."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner.spec import CaptionerSpec, identity_of
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import CAPTION, LR
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.data.patches import read_patches


def job(params: Params) -> ColumnJob:
    """Describe the quality of every lr."""
    spec = params.active.caption
    return ColumnJob(
        CAPTION,
        inputs=(InputRef(LR),),
        worker=partial(CaptionWorker, spec),
        identity=partial(identity_of, spec),
        params={"caption": spec.content()},
        batch_size=spec.batch_size,
        variants=params.active.data.variants,
        backends=(spec,),
        typical=Typical(rate=481.0, at=128, fixed=600),
    )


def run(params: Params, executor: Executor) -> None:
    """Build the column."""
    build_column(job(params), read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)


class CaptionWorker:
    """lr.png -> caption.json {"text", "prompt"}."""

    def __init__(self, spec: CaptionerSpec) -> None:
        self._captioner = build_captioner(spec)

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Caption a batch."""
        texts = self._captioner.caption([sample.inputs["lr.png"] for sample in samples])
        return [{"caption.json": {"text": text, "prompt": self._captioner.prompt}} for text in texts]
