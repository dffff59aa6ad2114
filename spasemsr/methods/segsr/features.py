"""The column `features/segsr`: labels of hr, and labels and features of each degraded version of a patch."""

from spasemsr.data.columns import Column, Member
from spasemsr.methods.segsr.spec import FEATURES as NAME
from spasemsr.methods.segsr.spec import SegSRFeaturesSpec, SegSRSpec
from spasemsr.methods.shown import ShownFeatures

VERSION = 1  # raised when the same picture gets other bytes; what an extractor changes is a matter of its own VERSIONS
FEATURES = Column(
    NAME,
    VERSION,
    "features@segsr",
    (
        Member("labels.npy", (1, None, None), "uint8"),
        Member("guess.{k}.npy", (1, None, None), "uint8"),
        Member("lq.{k}.npy", (None, None, None), "float16"),
    ),
)


def shown(model: SegSRSpec, features: SegSRFeaturesSpec, scale: int) -> ShownFeatures:
    """The segmenter looks at hr and at what the network is shown; its features are of the latter."""
    seen = {"guess": features.guess, "lq": features.lq}
    return ShownFeatures(seen, {"labels": features.labels}, model.input, scale)
