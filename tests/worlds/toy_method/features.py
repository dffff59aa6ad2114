"""The column `features/toy`: the mean colour of hr in each of a few cells."""

from functools import partial

import cv2

from spasemsr.data.columns import HR, Column, Member
from spasemsr.data.job import ColumnJob, InputRef, Typical

from .spec import COLUMN, ToyFeatures

VERSION = 1
FEATURES = Column(COLUMN, VERSION, "features@toy", (Member("colour.npy", (3, None, None), "float16"),), ("train",))


def job(spec: ToyFeatures) -> ColumnJob:
    """hr -> its column."""
    return ColumnJob(
        FEATURES,
        inputs=(InputRef(HR),),
        worker=partial(MeanColours, spec.cells),
        identity=lambda: {"kind": "mean colour", "version": 1},
        params=spec.content(),
        typical=Typical(rate=100.0, at=128, fixed=6.0 * spec.cells**2),
    )


class MeanColours:
    """hr.png (H, W, 3) -> colour.npy (3, cells, cells)."""

    def __init__(self, cells):
        self.cells = cells

    def __call__(self, samples):
        images = (cv2.resize(s.inputs["hr.png"], (self.cells,) * 2, interpolation=cv2.INTER_AREA) for s in samples)
        return [{"colour.npy": (image.transpose(2, 0, 1) / 255).astype("float16")} for image in images]
