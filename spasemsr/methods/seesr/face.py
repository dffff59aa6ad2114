"""What everything else knows of SeeSR: `FACE`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from spasemsr.methods.face import Variant
from spasemsr.methods.guided_face import GuidedFace
from spasemsr.methods.seesr.spec import SeeSRConfig, SeeSRFeaturesSpec, SeeSRSection, SeeSRSpec

if TYPE_CHECKING:
    from spasemsr.data.columns import Column
    from spasemsr.methods.seesr.method import SeeSR
    from spasemsr.methods.shown import ShownFeatures


class SeeSRFace(GuidedFace):
    """Wu et al., CVPR 2024; its ablation is that of Table 7."""

    name, label, version = "seesr", "SeeSR", 1
    section, config = SeeSRSection, SeeSRConfig
    card = """Restores and enlarges degraded photographs four times with a diffusion model that is conditioned on what
is in the picture, by tags and by a recogniser's representation of it, after "SeeSR: Towards Semantics-Aware
Real-World Image Super-Resolution"."""
    switches = ("model.rca", "model.prompts")
    variants = (
        Variant("Ours", (True, "both"), ("SeeSR 7",)),
        Variant("w/o RCA", (False, "both"), ("SeeSR 7",)),
        Variant("hard prompt only", (True, "hard"), ("SeeSR 7",)),
        Variant("soft prompt only", (True, "soft"), ("SeeSR 7",)),
    )
    tables: ClassVar[Mapping[str, str]] = {
        "SeeSR 2": "SeeSR, Table 2 · beside other methods",
        "SeeSR 7": "SeeSR, Table 7 · prompts (without its last two columns)",
    }

    def columns(self) -> "tuple[Column, ...]":
        """The column of the network's conditions."""
        from spasemsr.methods.seesr.features import FEATURES

        return (FEATURES,)

    def shown(self, model: SeeSRSpec, features: SeeSRFeaturesSpec, scale: int) -> "ShownFeatures":
        """The extractors of that column."""
        from spasemsr.methods.seesr.features import shown

        return shown(model, features, scale)

    def around(
        self, model: SeeSRSpec, features: SeeSRFeaturesSpec, shown: "ShownFeatures", frozen: dict[str, Any]
    ) -> "SeeSR":
        """The network is as wide as the soft prompt's rows."""
        from spasemsr.methods.seesr.method import SeeSR

        return SeeSR(model, shown, features.soft.width, **frozen)


FACE = SeeSRFace()
