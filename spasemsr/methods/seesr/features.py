"""The column `features/seesr`: the soft prompt, what a recogniser sees in each degraded version of a patch."""

from spasemsr.data.columns import Column, Member
from spasemsr.methods.seesr.spec import FEATURES as NAME
from spasemsr.methods.seesr.spec import SeeSRFeaturesSpec, SeeSRSpec
from spasemsr.methods.shown import ShownFeatures

VERSION = 1  # raised when the same picture gets other bytes; what an extractor changes is a matter of its own VERSIONS
FEATURES = Column(NAME, VERSION, "features@seesr", (Member("soft.{k}.npy", (None, None), "float16"),))


def shown(model: SeeSRSpec, features: SeeSRFeaturesSpec, scale: int) -> ShownFeatures:
    """The soft prompt is of what the network is shown."""
    return ShownFeatures({"soft": features.soft}, {}, model.input, scale)
