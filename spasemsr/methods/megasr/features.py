"""The column `features/megasr`: three maps and two sets of rows of each degraded version of a patch."""

from spasemsr.data.columns import Column, Member
from spasemsr.methods.megasr.spec import FEATURES as NAME
from spasemsr.methods.megasr.spec import MegaSRFeaturesSpec, MegaSRSpec
from spasemsr.methods.shown import ShownFeatures

VERSION = 1  # raised when the same picture gets other bytes; what an extractor changes is a matter of its own VERSIONS
FEATURES = Column(
    NAME,
    VERSION,
    "features@megasr",
    (
        Member("edges.{k}.npy", (1, None, None), "float16"),
        Member("depth.{k}.npy", (1, None, None), "float16"),
        Member("regions.{k}.npy", (1, None, None), "uint8"),
        Member("image.{k}.npy", (None, None), "float16"),
        Member("soft.{k}.npy", (None, None), "float16"),
    ),
)


def shown(model: MegaSRSpec, features: MegaSRFeaturesSpec, scale: int) -> ShownFeatures:
    """All five are of what the network is shown."""
    seen = {name: getattr(features, name) for name in ("edges", "depth", "regions", "image", "soft")}
    return ShownFeatures(seen, {}, model.input, scale)
