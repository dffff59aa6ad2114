"""What everything else knows of SegSR: `FACE`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from spasemsr.methods.face import Variant
from spasemsr.methods.guided_face import GuidedFace
from spasemsr.methods.segsr.spec import SegSRConfig, SegSRFeaturesSpec, SegSRSection, SegSRSpec

if TYPE_CHECKING:
    from spasemsr.data.columns import Column
    from spasemsr.methods.segsr.method import SegSR
    from spasemsr.methods.shown import ShownFeatures


class SegSRFace(GuidedFace):
    """Xiao et al., "Semantic Segmentation Prior for Diffusion-Based Real-World Super-Resolution"; ablation: Table 2."""

    name, label, version = "segsr", "SegSR", 1
    section, config = SegSRSection, SegSRConfig
    card = """Restores and enlarges degraded photographs four times with two diffusions, of the image and of its region
labels, that inform each other at every step, after "Semantic Segmentation Prior for Diffusion-Based
Real-World Super-Resolution" (SegSR)."""
    switches = ("model.labels", "model.to_labels")
    variants = (
        Variant("Ours", ("diffusion", True), ("SegSR 2",)),
        Variant("SRDM", ("none", False), ("SegSR 2",)),
        Variant("SRDM + Segformer", ("lr", False), ("SegSR 2",)),
        Variant("SRDM + SegDM, w/o DMB", ("diffusion", False), ("SegSR 2",)),
        Variant("HQ-Seg", ("hr", False), ("SegSR 2",)),
    )
    tables: ClassVar[Mapping[str, str]] = {
        "SegSR 2": "SegSR, Table 2 · labels and bridge (its Table 1 is not transcribed)"
    }

    def columns(self) -> "tuple[Column, ...]":
        """The column of the network's conditions."""
        from spasemsr.methods.segsr.features import FEATURES

        return (FEATURES,)

    def shown(self, model: SegSRSpec, features: SegSRFeaturesSpec, scale: int) -> "ShownFeatures":
        """The extractors of that column."""
        from spasemsr.methods.segsr.features import shown

        return shown(model, features, scale)

    def around(
        self, model: SegSRSpec, features: SegSRFeaturesSpec, shown: "ShownFeatures", frozen: dict[str, Any]
    ) -> "SegSR":
        """The network reads these features and knows these classes."""
        from spasemsr.methods.segsr.method import SegSR

        widths = (features.lq.shape(64)[0], features.labels.classes)
        return SegSR(model, shown, widths, **frozen)


FACE = SegSRFace()
