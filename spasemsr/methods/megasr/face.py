"""What everything else knows of MegaSR: `FACE`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from spasemsr.methods.face import Variant
from spasemsr.methods.guided_face import GuidedFace
from spasemsr.methods.megasr.spec import MegaSRConfig, MegaSRFeaturesSpec, MegaSRSection, MegaSRSpec

if TYPE_CHECKING:
    from spasemsr.data.columns import Column
    from spasemsr.methods.megasr.method import MegaSR
    from spasemsr.methods.shown import ShownFeatures


class MegaSRFace(GuidedFace):
    """Li et al., 2025; its ablations are those of Tables 3 and 4."""

    name, label, version = "megasr", "MegaSR", 1
    section, config = MegaSRSection, MegaSRConfig
    card = """Restores and enlarges degraded photographs four times with a diffusion model whose every block is
conditioned on the picture's own semantics, and which edge, depth and region maps guide, after "MegaSR: Mining
Customized Semantics and Expressive Guidance for Real-World Image Super-Resolution"."""
    switches = ("model.cism2", "model.edges", "model.regions")
    variants = (
        Variant("Ours", (True, True, True), ("MegaSR 3", "MegaSR 4")),
        Variant("w/o CISM2", (False, True, True), ("MegaSR 3",)),
        Variant("H", (True, True, False), ("MegaSR 4",)),
        Variant("D&S", (True, False, True), ("MegaSR 4",)),
        Variant("none", (True, False, False), ("MegaSR 4",)),
    )
    tables: ClassVar[Mapping[str, str]] = {
        "MegaSR 1": "MegaSR, Table 1 · beside other methods",
        "MegaSR 2": "MegaSR, Table 2 · extractors that were not fine-tuned (GEs)",
        "MegaSR 3": "MegaSR, Table 3 · without CISM2",
        "MegaSR 4": "MegaSR, Table 4 · maps of MS-GAM: edges (H), depth and regions (D&S)",
    }

    def columns(self) -> "tuple[Column, ...]":
        """The column of the network's conditions."""
        from spasemsr.methods.megasr.features import FEATURES

        return (FEATURES,)

    def shown(self, model: MegaSRSpec, features: MegaSRFeaturesSpec, scale: int) -> "ShownFeatures":
        """The extractors of that column."""
        from spasemsr.methods.megasr.features import shown

        return shown(model, features, scale)

    def around(
        self, model: MegaSRSpec, features: MegaSRFeaturesSpec, shown: "ShownFeatures", frozen: dict[str, Any]
    ) -> "MegaSR":
        """The network is as wide as its rows, and knows as many regions as there are labels."""
        from spasemsr.methods.megasr.method import MegaSR

        widths = (features.image.width, features.soft.width, features.regions.classes)
        return MegaSR(model, shown, widths, **frozen)


FACE = MegaSRFace()
