"""MegaSR: what degradation-aware extractors saw in lr guides every block of the diffusion.

Edges, depth and region labels are maps at latent size; the image embedding and the recogniser's representation are
rows. Tags are the text prompt, as in SeeSR. Shapes: B batch, L text rows of width D, P image rows of width E, R rows of
the representation of width K, h w latent cells.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from spasemsr.methods.guided import TaggedDiffusion
from spasemsr.methods.megasr.network import Encoded, Guides, MegaSRNetwork
from spasemsr.methods.view import View

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.methods.megasr.spec import MegaSRSpec
    from spasemsr.methods.shown import ShownFeatures


class MegaSR(TaggedDiffusion):
    """The method around one base denoiser; `widths` are E, K and the number of region labels."""

    def __init__(
        self,
        spec: "MegaSRSpec",
        features: "ShownFeatures",
        widths: tuple[int, int, int],
        *,
        autoencoder: "Autoencoder",
        text_encoder: "TextEncoder",
    ) -> None:
        super().__init__(spec, features, autoencoder=autoencoder, text_encoder=text_encoder)
        self.spec = spec
        acting = {"tags": True, "maps": spec.edges or spec.regions, "soft": spec.cism2 or spec.rca}
        self.conditions = frozenset(name for name, acts in acting.items() if acts)
        self.condition_features = {"maps": ("edges", "depth", "regions"), "soft": ("image", "soft")}
        self.network = MegaSRNetwork(self.base(spec), spec, *widths)

    def encode(self, view: View, condition: Tensor) -> Encoded:
        """F^r of eq. 8, once per image."""
        seen = view.features
        guides = Guides(seen["edges"], seen["depth"], seen["regions"][:, 0].long(), seen["image"], seen["soft"])
        return self.network.encode(view.lr_up_B3HW, condition, guides)
