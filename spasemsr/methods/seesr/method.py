"""SeeSR: tags are the hard prompt, a recogniser's representation of lr is the soft one.

In training the tags are those of hr and are dropped half of the time; in restoring they are those that were found on
what can be seen. The soft prompt is never dropped and is given to both branches of guidance. Shapes: B batch, L text
rows of width D, R rows of the soft prompt of width K.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spasemsr.methods.guided import GuidedDiffusion
from spasemsr.methods.latent import Carry, Prediction, View
from spasemsr.methods.prompts import tag_prompt
from spasemsr.methods.seesr.network import Encoded, SeeSRNetwork

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.methods.noise import Noise
    from spasemsr.methods.seesr.spec import SeeSRSpec
    from spasemsr.methods.shown import ShownFeatures

SOFT = "soft"  # the feature that is the soft prompt


class SeeSR(GuidedDiffusion):
    """The method around one base denoiser; `soft_width` is K."""

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

    def training_condition(
        self, batch: "Batch", noise: "Noise", noisy_latents_BChw: Tensor, timesteps_B: Tensor
    ) -> Tensor:
        """(B, L, D): the tags of hr, or nothing, without quality words."""
        dropped = noise.drop("drop", batch.keys, [self.spec.drop_tags])[:, 0]
        prompts = [tag_prompt(objects) for objects in batch.objects]
        return self.text(batch, ["" if drop else prompt for drop, prompt in zip(dropped, prompts, strict=True)])

    def condition(self, batch: "Batch", sampling: "SampleSpec") -> Tensor:
        """(B, L, D): tags with the positive words; these words alone where the soft prompt is to act alone."""
        tagged = self.spec.prompts != "soft"
        words = sampling.positive
        return self.text(batch, [tag_prompt(objects, words) if tagged else words for objects in batch.objects])

    def unconditional(self, batch: "Batch", sampling: "SampleSpec") -> Tensor:
        """(B, L, D): the negative words."""
        return self.text(batch, [sampling.negative] * len(batch.keys))

    def encode(self, view: View, condition: Tensor) -> Encoded:
        """Nothing to compute: the soft prompt is a column."""
        soft = view.features[SOFT]
        silent = self.spec.prompts == "hard" and not self.training
        return Encoded(view.lr_up_B3HW, condition, torch.zeros_like(soft) if silent else soft)

    def predict(
        self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Encoded, carry: Carry, scale: float = 1.0
    ) -> Prediction:
        """ControlNet and guided UNet."""
        return Prediction(self.network.predict(noisy_latents_BChw, timesteps_B, encoded, scale))
