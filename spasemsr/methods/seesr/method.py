"""SeeSR: tags are the hard prompt, a recogniser's representation of lr is the soft one.

In training the tags are those of hr and are dropped half of the time; in restoring they are those that were found on
what can be seen. The soft prompt is never dropped and is given to both branches of guidance. Shapes: B batch, L text
rows of width D, R rows of the soft prompt of width K.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spasemsr.methods.guided import TaggedDiffusion
from spasemsr.methods.prompts import tag_prompt
from spasemsr.methods.seesr.network import Encoded, SeeSRNetwork
from spasemsr.methods.view import View

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.methods.seesr.spec import SeeSRSpec
    from spasemsr.methods.shown import ShownFeatures

SOFT = "soft"  # the feature that is the soft prompt


class SeeSR(TaggedDiffusion):
    """The method around one base denoiser; `soft_width` is K."""

    spec: "SeeSRSpec"

    def __init__(
        self,
        spec: "SeeSRSpec",
        features: "ShownFeatures",
        soft_width: int,
        *,
        autoencoder: "Autoencoder",
        text_encoder: "TextEncoder",
    ) -> None:
        super().__init__(spec, features, autoencoder=autoencoder, text_encoder=text_encoder)
        self.spec = spec
        acting = {"tags": spec.prompts != "soft", "soft": spec.prompts != "hard" and spec.rca}
        self.conditions = frozenset(name for name, acts in acting.items() if acts)
        self.condition_features = {"soft": (SOFT,)}
        self.network = SeeSRNetwork(self.base(spec), spec, soft_width)

    def condition(self, batch: "Batch", sampling: "SampleSpec") -> Tensor:
        """(B, L, D): tags with the positive words; these words alone where the soft prompt is to act alone."""
        tagged = self.spec.prompts != "soft"
        words = sampling.positive
        return self.text(batch, [tag_prompt(objects, words) if tagged else words for objects in batch.objects])

    def encode(self, view: View, condition: Tensor) -> Encoded:
        """Nothing to compute: the soft prompt is a column."""
        soft = view.features[SOFT]
        silent = self.spec.prompts == "hard" and not self.training
        return Encoded(view.lr_up_B3HW, condition, torch.zeros_like(soft) if silent else soft)
