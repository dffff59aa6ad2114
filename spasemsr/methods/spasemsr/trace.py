"""SpaSemSR's training step on tensors without contents: what `spasemsr plan` counts."""

import torch
from torch import Tensor, nn

from spasemsr.backends.autoencoder.spec import DOWNSCALE
from spasemsr.diffusion.base import build_unet
from spasemsr.methods.face import Ingredients, Traced
from spasemsr.methods.spasemsr.constraint import semantic_degradation_loss
from spasemsr.methods.spasemsr.network import Encoded, SpaSemNetwork
from spasemsr.methods.spasemsr.spec import SpaSemSection


class SpaSemTraced(Traced):
    """The network at its real sizes; texts stand as their states, as the text encoder is no part of it."""

    def __init__(self, given: Ingredients) -> None:
        section = SpaSemSection.of(given)
        self._spec, self._latents, self._cells = section.model, given.autoencoder.channels, given.patch // DOWNSCALE
        self._rows, self._width = given.text_encoder.states
        self._features = section.features.sam.shape(given.patch)[0]
        unet = build_unet(section.model.unet, self._latents, self._width)
        self.network = SpaSemNetwork(unet, section.model, self._features)

    def trainable(self) -> dict[str, nn.Module]:
        """All that is not frozen."""
        return self.network.trainable()

    def checkpoint(self, on: bool) -> None:
        """Position by position."""
        self.network.gradient_checkpointing = on

    def loss(self, samples: int) -> Tensor:
        """L_SD and L_SemDeg."""
        cells, objects = self._cells, self._spec.objects
        spatial = (objects.max + 1) * objects.tokens
        lr_up = torch.rand(samples, 3, DOWNSCALE * cells, DOWNSCALE * cells)
        caption, rows = (torch.randn(samples, count, self._width) for count in (self._rows, spatial))
        mask = torch.ones(samples, spatial, dtype=torch.bool)
        base, base_mask = (rows, mask) if self._spec.base_text == "spa" else (torch.randn_like(caption), None)
        inside = torch.rand(samples, objects.max + 1, cells, cells) if self.network.bound else None
        encoded = Encoded(self.network.see(lr_up), base, caption, rows, mask, inside, base_mask)
        noisy = torch.randn(samples, self._latents, cells, cells)
        prediction = self.network.predict(noisy, torch.zeros(samples, dtype=torch.int64), encoded)
        reference = torch.randn(samples, self._features, cells, cells)
        halves = semantic_degradation_loss(prediction.hybrid, noisy, reference, self.network.heads, 0.5)
        return prediction.sample.float().square().mean() + sum(halves.values())
