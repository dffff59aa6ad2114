"""The column `features/spasemsr`: SAM's image features of hr, the semantic reference of eq. 9; for training only."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors.spec import ExtractorSpec, identity_of
from spasemsr.data.columns import HR, Column, Member
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.methods.spasemsr.spec import FEATURES as NAME
from spasemsr.methods.spasemsr.spec import FeaturesSpec

VERSION = 1  # raised when the same hr gets other bytes; what an extractor alone changes is a matter of its own VERSIONS
FEATURES = Column(NAME, VERSION, "features@spasemsr", (Member("sam.npy", (None, None, None), "float16"),), ("train",))


def job(spec: FeaturesSpec, side: int) -> ColumnJob:
    """hr of `side` pixels -> features of one extractor."""
    return ColumnJob(
        FEATURES,
        inputs=(InputRef(HR),),
        worker=partial(ExtractWorker, spec.sam),
        identity=partial(identity_of, spec.sam),
        params={"sam": spec.sam.content()},
        batch_size=spec.sam.batch_size,
        backends=(spec.sam,),
        typical=Typical(rate=62.8, at=128, per_pixel=2 * prod(spec.sam.shape(side)) / side**2),
    )


class ExtractWorker:
    """hr.png (H, W, 3) -> sam.npy (C, h, w) float16."""

    def __init__(self, spec: ExtractorSpec) -> None:
        self._extractor = build_extractor(spec)

    def prepare(self, sample: Sample) -> None:
        """Let a network resize what it will look at."""
        if prepare := getattr(self._extractor, "prepare", None):
            prepare(sample.inputs["hr.png"])

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Extract a batch."""
        features = self._extractor.extract([sample.inputs["hr.png"] for sample in samples])
        return [{"sam.npy": array} for array in features]
