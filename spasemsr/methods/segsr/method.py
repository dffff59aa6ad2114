"""SegSR: the image's diffusion (SRDM) and that of its region labels (SegDM) run on one clock and inform each other.

At every step the labels s_tau steer the image and z_t steers the labels; the state that runs beside the latents is
s_tau, one-hot, and what comes back are SegDM's logits of s_0. From these the next, less noisy labels are drawn anew
("free re-noising"). On the first step s_tau is noise, as z_t is: with one step alone the labels carry nothing for the
image, and the result is SRDM's; from two steps on they are what SegDM has made of z_t. B batch, K classes, C
latent channels, h w latent cells.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spasemsr.errors import UserError
from spasemsr.methods.guided import GuidedDiffusion
from spasemsr.methods.latent import MULTIPLE, Carry, Prediction
from spasemsr.methods.segsr.labels import as_carry, draw, keep_probabilities, label_loss, label_time
from spasemsr.methods.segsr.network import Encoded, SegSRNetwork
from spasemsr.methods.view import View

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.methods.noise import Noise
    from spasemsr.methods.segsr.spec import SegSRSpec
    from spasemsr.methods.shown import ShownFeatures

SEGMENTS = "segments"  # the state: (B, K, h, w), one-hot labels in, logits out
LABELS, GUESS, SEEN = "labels", "guess", "lq"  # features: labels of hr, labels of what is shown, F_lq


@dataclass(frozen=True)
class Condition:
    """The empty prompt, and for each sample whether its image is shown the labels."""

    text_BLD: Tensor
    shown_B: Tensor


class SegSR(GuidedDiffusion):
    """The method around one base denoiser; `widths` are the channels of F_lq and the number of classes."""

    reads_lr_latents = True

    def __init__(
        self,
        spec: "SegSRSpec",
        features: "ShownFeatures",
        widths: tuple[int, int],
        *,
        autoencoder: "Autoencoder",
        text_encoder: "TextEncoder",
    ) -> None:
        super().__init__(spec, features, autoencoder=autoencoder, text_encoder=text_encoder)
        self.spec, self.classes = spec, widths[1]
        self.conditions = frozenset({"maps"} if spec.labels in ("lr", "diffusion") and spec.to_image else set())
        self.condition_features = {"maps": (GUESS, SEEN)}
        self.network = SegSRNetwork(self.base(spec), spec, *widths)
        self.keep_T = keep_probabilities(spec.segments.steps)

    # The network's conditions.

    def training_condition(
        self, batch: "Batch", noise: "Noise", noisy_latents_BChw: Tensor, timesteps_B: Tensor
    ) -> Condition:
        """The empty prompt; some samples go without labels."""
        dropped = noise.drop("drop", batch.keys, [self.spec.drop_labels])[:, 0]
        return self._conditioned(batch, torch.from_numpy(~dropped))

    def condition(self, batch: "Batch", sampling: "SampleSpec") -> Condition:
        """The empty prompt and the labels."""
        return self._conditioned(batch, torch.ones(len(batch.keys), dtype=torch.bool))

    def unconditional(self, batch: "Batch", sampling: "SampleSpec") -> Condition:
        """The empty prompt without labels."""
        return self._conditioned(batch, torch.zeros(len(batch.keys), dtype=torch.bool))

    def _conditioned(self, batch: "Batch", shown_B: Tensor) -> Condition:
        return Condition(self.text(batch, [""] * len(batch.keys)), shown_B.to(batch.lr.device))

    def encode(self, view: View, condition: Condition) -> Encoded:
        """z_LR, F_lq, and in two rows of Table 2 labels that no diffusion changes."""
        assert view.lr_latents_BChw is not None, "SegSR reads the latents of lr"
        fixed = {"lr": GUESS, "hr": LABELS}.get(self.spec.labels)
        if fixed is not None and fixed not in view.features:
            raise UserError(
                "model.labels: hr restores only pictures whose original is known, and this one's is not.",
                "Take weights that were trained with labels: diffusion.",
            )
        given = None if fixed is None else self._one_hot(view.features[fixed])
        return Encoded(view.lr_latents_BChw, condition.text_BLD, view.features[SEEN], condition.shown_B, given)

    # The labels' diffusion.

    def begin(
        self, batch: "Batch", noise: "Noise", timesteps_B: Tensor, predicted: Carry | None = None
    ) -> dict[str, Tensor]:
        """s_tau: noise at the start, then predicted labels, noised; in training hr's or a first prediction, noised."""
        if self.spec.labels != "diffusion":
            return {}
        tau_B = label_time(timesteps_B.cpu(), self.num_train_timesteps, self.spec.segments.steps)
        purpose = "segments" if batch.moments is not None else f"segments/{int(timesteps_B[0])}"
        if predicted is not None:
            labels_Bhw = predicted[SEGMENTS].argmax(1)
        elif batch.moments is not None:
            labels_Bhw = self._training_labels(batch, noise, tau_B)
        else:
            cells = MULTIPLE // self.grid.cell
            size = [-(-side * self.scale // MULTIPLE) * cells for side in batch.lr.shape[-2:]]
            labels_Bhw = torch.full((len(batch.keys), *size), self.classes, device=batch.lr.device)
        return {SEGMENTS: self._noised(labels_Bhw, batch, noise, purpose, tau_B)}

    @torch.no_grad()
    def _training_labels(self, batch: "Batch", noise: "Noise", tau_B: Tensor) -> Tensor:
        """s_0: hr's labels at the last tau; elsewhere the network's first prediction, from noise alone.

        That is what sampling starts from ("diffusion on first prediction"): labels it must correct are its own.
        """
        labels_Bhw = batch.features[LABELS][:, 0].long()
        last = self.spec.segments.steps - 1
        unknown = torch.full_like(labels_Bhw, self.classes)
        start = self._noised(unknown, batch, noise, "segments/first", torch.full_like(tau_B, last))
        latents = noise.gaussian("noise", batch.keys, (self.grid.channels, *labels_Bhw.shape[1:])).to(start)
        timesteps_B = torch.full((len(batch.keys),), self.num_train_timesteps - 1, device=start.device)
        logits = self.network.labels(start, latents, timesteps_B, self.num_train_timesteps, batch.features[SEEN])
        first_B = (tau_B == last).to(start.device).view(-1, 1, 1)
        return torch.where(first_B, labels_Bhw, logits.argmax(1))

    def _noised(self, labels_Bhw: Tensor, batch: "Batch", noise: "Noise", purpose: str, tau_B: Tensor) -> Tensor:
        """s_tau ~ q(. | labels), one-hot, from numbers that depend on sample, step and purpose alone."""
        uniform = noise.uniform(purpose, batch.keys, labels_Bhw.shape[1:])
        drawn = draw(labels_Bhw.cpu(), self.keep_T[tau_B], self.classes, uniform)
        return as_carry(drawn, self.classes).to(labels_Bhw.device)

    def _one_hot(self, labels_B1hw: Tensor) -> Tensor:
        return as_carry(labels_B1hw[:, 0].long().clamp(max=self.classes - 1), self.classes)

    # The step of both.

    def predict(
        self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Encoded, carry: Carry, scale: float = 1.0
    ) -> Prediction:
        """SRDM under the labels of this step, and SegDM on the latents of this step."""
        segments = carry.get(SEGMENTS, encoded.given_BKhw)
        sample = self.network.predict(segments, noisy_latents_BChw, timesteps_B, encoded, scale)
        if SEGMENTS not in carry:
            return Prediction(sample)
        logits = self.network.labels(
            segments, noisy_latents_BChw, timesteps_B, self.num_train_timesteps, encoded.features_BFhw
        )
        return Prediction(sample, {SEGMENTS: logits.float()})

    def side_losses(self, prediction: Prediction, latents_ref_BChw: Tensor, batch: "Batch") -> dict[str, Tensor]:
        """The cross-entropy of SegDM's labels against hr's."""
        if SEGMENTS not in prediction.carry:
            return {}
        loss = label_loss(prediction.carry[SEGMENTS], batch.features[LABELS][:, 0].long())
        return {"labels": self.spec.segments.weight * loss}
