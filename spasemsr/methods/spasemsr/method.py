"""SpaSemSR: latent diffusion guided by located tags, a degradation caption and the features of lr.

Turns the strings and boxes of a batch into the tensors `SpaSemNetwork` takes (model of sections 3.2 and 3.3 of the
paper), decides what training drops, and adds L_SemDeg. Shapes: B batch, N objects with the null object at 0, G text
rows per object, L text tokens, D text width, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from spasemsr.data.dataset import new
from spasemsr.diffusion.attention import text_attention
from spasemsr.diffusion.guided import attentions_of
from spasemsr.diffusion.tiling import Tile, boxes_in_tile
from spasemsr.methods.guided import AroundBase
from spasemsr.methods.latent import Carry, Prediction
from spasemsr.methods.prompts import tag_prompt
from spasemsr.methods.spasemsr.conditioning import Conditioning
from spasemsr.methods.spasemsr.constraint import readings, semantic_degradation_loss
from spasemsr.methods.spasemsr.network import Encoded, SpaSemNetwork
from spasemsr.methods.view import View

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.data.dataset import Batch, Objects
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.methods.noise import Noise
    from spasemsr.methods.spasemsr.spec import DropSpec, ModelSpec

FEATURE = "sam"  # the member of features/spasemsr
WHOLE = (0.0, 0.0, 1.0, 1.0)
HALVES = {"img": "structure", "sem": "semantics"}  # of eq. 9


@dataclass(frozen=True)
class Drops:
    """What a sample goes without, so that guidance has an unconditional branch: bool, (B,) and (B, objects.max)."""

    text: np.ndarray
    caption: np.ndarray
    boxes: np.ndarray
    objects: np.ndarray

    @classmethod
    def draw(cls, noise: Noise, keys: Sequence[str], spec: DropSpec, max_objects: int) -> Drops:
        """Independent per sample, in this order from one stream: text, caption, boxes, each single object, together."""
        single = [spec.text, spec.caption, spec.boxes, *[spec.object] * max_objects]
        flags = noise.drop("drop", keys, [*single, spec.together])
        both = flags[:, -1]
        return cls(flags[:, 0] | both, flags[:, 1] | both, flags[:, 2], flags[:, 3:-1])

    @classmethod
    def none(cls, batch_size: int, max_objects: int) -> Drops:
        """Everything is kept."""
        flags = np.zeros((batch_size, 3 + max_objects), dtype=bool)
        return cls(flags[:, 0], flags[:, 1], flags[:, 2], flags[:, 3:])


class SpaSemSR(AroundBase):
    """The paper's method around one base denoiser; `lambda_` of eq. 9, `controlnet_weight` of eq. 12."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        scale: int,
        lambda_: float,
        controlnet_weight: float,
        autoencoder: Autoencoder,
        text_encoder: TextEncoder,
        feature_channels: int,
    ) -> None:
        super().__init__(spec, scale, autoencoder=autoencoder, text_encoder=text_encoder)
        self.spec = spec
        had = {"tags": spec.text.objects or spec.base_text == "tags", "boxes": spec.places, "caption": True}
        self.conditions = frozenset(name for name, there in had.items() if there)
        halves = {"img": (spec.constraint.img, ()), "sem": (spec.constraint.sem, (FEATURE,))}
        self.constraints = {HALVES[half]: compared for half, (on, compared) in halves.items() if on}
        self.object_rows = spec.objects.tokens
        self.lambda_ = lambda_
        self.controlnet_weight = controlnet_weight
        self.network = SpaSemNetwork(self.base(spec), spec, feature_channels)

    def attentions(self) -> dict[str, nn.Module]:
        """SpaAtten of the ControlNet and SpaTextAtten of the UNet, in walking order."""
        parts = {"controlnet": attentions_of(self.network.control.backbone), "unet": self.network.spatext}
        return {
            f"{part} {place}": text_attention(block)
            for part, blocks in parts.items()
            for place, block in enumerate(blocks)
        }

    # The calls of LatentDiffusion.

    def training_condition(
        self, batch: Batch, noise: Noise, noisy_latents_BChw: Tensor, timesteps_B: Tensor
    ) -> Conditioning:
        """Tags, boxes and caption of the batch after the drops of this step; no quality words in training."""
        drops = Drops.draw(noise, batch.keys, self.spec.drop, self.spec.objects.max)
        return self._conditioning(batch, self._prompts(batch, ""), batch.captions, drops)

    def condition(self, batch: Batch, sampling: SampleSpec) -> Conditioning:
        """Tags with the positive words, boxes, caption."""
        prompts = self._prompts(batch, sampling.positive)
        return _shortened(batch, self._conditioning(batch, prompts, batch.captions, self._keep_all(batch)))

    def unconditional(self, batch: Batch, sampling: SampleSpec) -> Conditioning:
        """The negative words, the null object alone, the empty caption."""
        bare = replace(batch, objects=[_without_objects(objects) for objects in batch.objects])
        size = len(batch.keys)
        prompts, captions = [sampling.negative] * size, [""] * size
        return _shortened(batch, self._conditioning(bare, prompts, captions, self._keep_all(batch)))

    def encode(self, view: View, condition: Conditioning) -> Encoded:
        """E_img, E_sem and the fused object text."""
        return self.network.encode(view.lr_up_B3HW, condition)

    def predict(
        self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Encoded, carry: Carry, scale: float = 1.0
    ) -> Prediction:
        """ControlNet and guided UNet; the hybrid features of eq. 8 are what the losses need."""
        found = self.network.predict(noisy_latents_BChw, timesteps_B, encoded, scale)
        return Prediction(found.sample, carry, found.hybrid)

    def side_losses(self, prediction: Prediction, latents_ref_BChw: Tensor, batch: Batch) -> dict[str, Tensor]:
        """lambda_ControlNet * L_SemDeg (eq. 9, 12), its two halves apart."""
        halves = semantic_degradation_loss(
            prediction.aux, latents_ref_BChw, batch.features[FEATURE], self.network.heads, self.lambda_
        )
        return {f"semdeg_{half}": self.controlnet_weight * loss for half, loss in halves.items()}

    @torch.no_grad()
    def read_off(
        self, batch: Batch, hr_B3HW: Tensor, noise: Noise, sampling: SampleSpec
    ) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """What the two halves of the hybrid features say of hr, by their heads, layer by layer (eq. 8, 9)."""
        latents = self._lr_latents(hr_B3HW)
        timesteps = torch.full((len(batch.keys),), self.num_train_timesteps - 1, device=latents.device)
        eps = noise.gaussian("noise", batch.keys, latents.shape[1:]).to(latents)
        encoded = self.encode(View(self._lr_up(batch), None, batch.features), self.condition(batch, sampling))
        hybrid = self.network.hybrid(self.schedule.add_noise(latents, eps, timesteps), timesteps, encoded)
        found = readings(hybrid, latents, batch.features.get(FEATURE), self.network.heads)
        return {HALVES[half]: pairs for half, pairs in found.items()}

    def in_tile(self, batch: Batch, tile: Tile, height: float, width: float) -> Batch:
        """Boxes clipped to the tile and renormalised; objects it hardly shows are left out.

        What a person says of a place holds in every part of it, so that is left out of no tile for being large.
        """
        found = [_objects_in_tile(objects, tile, height, width) for objects in batch.objects]
        pairs = zip(batch.said, batch.objects, strict=bool(batch.said))
        said = [_objects_in_tile(told, tile, height, width, new(told, objects)) for told, objects in pairs]
        return replace(batch, objects=found, said=said)

    # Strings and boxes -> tensors.

    def _prompts(self, batch: Batch, words: str) -> list[str]:
        """What the base's own text attention reads: tags and words, or the words alone."""
        tagged = self.spec.base_text == "tags"
        return [tag_prompt(objects, words) if tagged else words for objects in batch.objects]

    def _keep_all(self, batch: Batch) -> Drops:
        return Drops.none(len(batch.keys), self.spec.objects.max)

    def _conditioning(
        self, batch: Batch, prompts: Sequence[str], captions: Sequence[str], drops: Drops
    ) -> Conditioning:
        """Encode every distinct string once and lay out its rows; their number is fixed, absent objects masked."""
        prompts = ["" if dropped else text for text, dropped in zip(prompts, drops.text, strict=True)]
        captions = ["" if dropped else text for text, dropped in zip(captions, drops.caption, strict=True)]
        objects = [self.selected(objects) for objects in batch.objects]
        texts = sorted({"", *prompts, *captions, *(tag for chosen in objects for tag in chosen.tags)})
        device = batch.lr.device
        with torch.no_grad():
            states = self.text_encoder.encode(texts)
        # Laid out in host memory and moved once: a copy for each object would wait for a GPU each time.
        rows = zip(states.states_BLD.cpu(), states.mask_BL.cpu(), strict=True)
        rows_by_text = dict(zip(texts, rows, strict=True))

        size, count, group = len(batch.keys), self.spec.objects.max + 1, self.spec.objects.tokens
        width = self.text_encoder.width
        tokens_BNGD = torch.zeros(size, count, group, width)
        token_mask_BNG = torch.zeros(size, count, group, dtype=torch.bool)
        pooled_BND = torch.zeros(size, count, width)
        boxes_BN4 = torch.zeros(size, count, 4)
        for b, chosen in enumerate(objects):
            boxes = [WHOLE, *chosen.boxes.tolist()]
            for n, (tag, box) in enumerate(zip(["", *chosen.tags], boxes, strict=True)):
                if n > 0 and (drops.text[b] or drops.objects[b, n - 1]):
                    continue
                rows, pooled = object_rows(*rows_by_text[tag], group, with_bos=n == 0)
                tokens_BNGD[b, n, : len(rows)] = rows
                token_mask_BNG[b, n, : len(rows)] = True
                pooled_BND[b, n] = pooled
                boxes_BN4[b, n] = torch.tensor(box)
        located_B = torch.tensor([chosen.located for chosen in objects])
        use_boxes_B = torch.from_numpy(~drops.boxes) & located_B & self.spec.places
        return Conditioning(
            base_BLD=torch.stack([rows_by_text[text][0] for text in prompts]).to(device),
            caption_BLD=torch.stack([rows_by_text[text][0] for text in captions]).to(device),
            tokens_BNGD=tokens_BNGD.to(device),
            token_mask_BNG=token_mask_BNG.to(device),
            pooled_BND=pooled_BND.to(device),
            boxes_BN4=boxes_BN4.to(device),
            use_boxes_B=use_boxes_B.to(device),
        )

    def selected(self, objects: Objects) -> Objects:
        """The first objects.max objects; without boxes (Table 4) equal tags say nothing new and are merged.

        With `text.objects` off, none.
        """
        kept = list(range(len(objects.tags))) if self.spec.text.objects else []
        if not self.spec.spatial.boxes:
            kept = [index for index in kept if objects.tags.index(objects.tags[index]) == index]
        return _take(objects, kept[: self.spec.objects.max], objects.boxes)


def object_rows(states_LD: Tensor, mask_L: Tensor, group: int, with_bos: bool = False) -> tuple[Tensor, Tensor]:
    """One string's text states -> at most `group` rows (content, then EOS) and the EOS row, which is t_k.

    The null object has no content; its rows are BOS and EOS, the BOS row being the sink SD's attention knows.
    """
    last = int(mask_L.sum().item()) - 1  # EOS; row 0 is BOS
    content = [0] if with_bos else list(range(1, last))[: group - 1]
    return states_LD[[*content, last]], states_LD[last]


def _objects_in_tile(
    objects: Objects, tile: Tile, height: float, width: float, parts_N: np.ndarray | None = None
) -> Objects:
    boxes, kept = boxes_in_tile(objects.boxes, tile, height, width, parts_N)
    full = np.zeros((len(objects.tags), 4), dtype=np.float32)
    full[kept] = boxes
    return _take(objects, kept.tolist(), full)


def _shortened(batch: Batch, conditioning: Conditioning) -> Conditioning:
    """Without rows that no tile of the picture has an object for; where there are several pictures, as it is.

    A sum's last bits depend on how many rows are masked in it: no picture's may depend on what its neighbours show.
    """
    alone = len(batch.lr) == 1  # however many tiles of it the strings and boxes are of
    return conditioning.present() if alone else conditioning


def _without_objects(objects: Objects) -> Objects:
    return _take(objects, [], objects.boxes)


def _take(objects: Objects, indices: Sequence[int], boxes_N4: np.ndarray) -> Objects:
    """Some of the objects, with their boxes taken from `boxes_N4`."""
    return replace(
        objects,
        tags=[objects.tags[index] for index in indices],
        scores=[objects.scores[index] for index in indices],
        boxes=boxes_N4[list(indices)].reshape(-1, 4),
    )
