"""Stage caption: lr -> column caption, one line about how each variant is degraded."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline import layout
from pipeline.engine.build import InputRef, Sample, build_column, units_of
from pipeline.engine.executors import Executor
from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner.spec import CaptionerSpec
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import CAPTION, LR
from spasemsr.data.patches import read_patches


def run(params: Params, executor: Executor) -> None:
    """Describe the quality of every lr."""
    spec = params.active.caption
    build_column(
        CAPTION,
        units_of(CAPTION, read_patches(layout.PATCHES), variants=params.active.data.variants),
        inputs=[InputRef(LR)],
        make_worker=partial(CaptionWorker, spec),
        identity=build_captioner(spec).identity.plain(),
        params={"caption": spec.content()},
        batch_size=spec.batch_size,
        executor=executor,
        cache=Cache(),
        shards_root=layout.SHARDS,
    )


class CaptionWorker:
    """lr.png -> caption.json {"text", "prompt"}."""

    def __init__(self, spec: CaptionerSpec) -> None:
        self._captioner = build_captioner(spec)

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Caption a batch."""
        texts = self._captioner.caption([sample.inputs["lr.png"] for sample in samples])
        return [{"caption.json": {"text": text, "prompt": self._captioner.prompt}} for text in texts]
