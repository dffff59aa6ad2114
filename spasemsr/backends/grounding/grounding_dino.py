"""GroundingDINO (transformers): images and tags -> boxes that each carry one of the tags.

A prompt is "cat. dog. red car." and holds 256 tokens, so many tags make several prompts per image. A box belongs to the
tag whose tokens answer it best, its score is that answer; the published code joins whichever tokens pass a threshold,
which can mix two tags into a word that nobody asked for. B batch, Q queries, T tokens.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spasemsr.backends.grounding.spec import GroundingDinoSpec, PackagedGroundingDinoSpec
from spasemsr.backends.networks.ahead import Ahead
from spasemsr.backends.networks.runtime import autocast, by_size, choose_device
from spasemsr.backends.protocols import Box, Tag
from spasemsr.pixels import ImageU8
from spasemsr.weights.pretrained import load_pretrained, load_processor
from spasemsr.weights.store import locate

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """Text of one pass: which tags it asks for, and the tokens [first, last) of each."""

    text: str
    tags: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


class GroundingDino:
    """Boxes of score >= `min_score`, best first, not yet selected."""

    def __init__(self, spec: GroundingDinoSpec | PackagedGroundingDinoSpec, device: str) -> None:
        self._checkpoint = locate(spec.source, spec.revision)
        self._min_score, self._precision = spec.min_score, spec.precision
        self._device = device
        self._ahead, self._loading = Ahead(self._pixels), threading.Lock()

    def prepare(self, image: ImageU8) -> None:
        """Resize and normalise an image before its turn, in another thread."""
        self._ahead.prepare(image)

    def detect(self, images: Sequence[ImageU8], tags: Sequence[list[Tag]]) -> list[list[Box]]:
        """(H, W, 3) u8 images and their tags -> boxes; an image without tags has none."""
        found: list[list[Box]] = [[] for _ in images]
        prompts = [self.prompts([tag.text for tag in asked]) for asked in tags]
        for group in by_size(images):
            # pass n of every image that has one; each pass has the size of the group, which is the batch's
            for n in range(max(len(prompts[i]) for i in group)):
                asked = [prompts[i][n] if n < len(prompts[i]) else None for i in group]
                passes = [prompt or Prompt("", (), ()) for prompt in asked]
                for i, boxes in zip(group, self._pass([images[i] for i in group], passes), strict=True):
                    found[i] += boxes
        return [sorted(boxes, key=lambda box: (-box.score, box.xyxy, box.tag)) for boxes in found]

    def prompts(self, tags: Sequence[str]) -> list[Prompt]:
        """Distinct tags in as few prompts as hold them, in order; a tag longer than a whole prompt is left out."""
        tokenizer, room = self._processor.tokenizer, self._model.config.max_text_len - 2  # [CLS], [SEP]
        prompts: list[Prompt] = []
        chosen: list[str] = []
        spans: list[tuple[int, int]] = []
        place = 1
        for tag in dict.fromkeys(text.strip().lower() for text in tags):
            length = len(tokenizer(tag, add_special_tokens=False)["input_ids"])
            if not 0 < length < room:
                continue
            if place - 1 + length + 1 > room:
                prompts.append(_prompt(chosen, spans))
                chosen, spans, place = [], [], 1
            chosen.append(tag)
            spans.append((place, place + length))
            place += length + 1  # the full stop
        return [*prompts, _prompt(chosen, spans)] if chosen else prompts

    def _pass(self, images: Sequence[ImageU8], prompts: Sequence[Prompt]) -> list[list[Box]]:
        """One prompt per image. Text is padded to one length, so that no image depends on its neighbours' tags."""
        import torch

        model = self._model
        text = self._processor.tokenizer(
            [prompt.text for prompt in prompts],
            padding="max_length",
            max_length=model.config.max_text_len,
            truncation=True,
            return_token_type_ids=True,
            return_tensors="pt",
        )
        taken = [self._ahead.take(image) for image in images]
        pixels = {name: torch.cat([one[name] for one in taken]) for name in taken[0]}
        with torch.inference_mode(), autocast(model.device, self._precision):
            out = model(**{name: value.to(model.device) for name, value in {**text, **pixels}.items()})
        scores_BQT, boxes_BQ4 = out.logits.float().sigmoid().cpu(), out.pred_boxes.float().cpu()
        return [
            self._boxes(scores, boxes, prompt)
            for scores, boxes, prompt in zip(scores_BQT, boxes_BQ4, prompts, strict=True)
        ]

    def _boxes(self, scores_QT: "Tensor", boxes_Q4: "Tensor", prompt: Prompt) -> list[Box]:
        """Queries -> boxes; centre and size become corners inside the image."""
        import torch

        if not prompt.tags:
            return []
        by_tag = torch.stack([scores_QT[:, first:last].amax(dim=1) for first, last in prompt.spans], dim=1)
        best, which = by_tag.max(dim=1)
        half = boxes_Q4[:, 2:] / 2
        corners = torch.cat([boxes_Q4[:, :2] - half, boxes_Q4[:, :2] + half], dim=1).clamp(0.0, 1.0)
        found = []
        for score, tag, (x0, y0, x1, y1) in zip(best.tolist(), which.tolist(), corners.tolist(), strict=True):
            if score >= self._min_score and x0 < x1 and y0 < y1:
                found.append(Box(prompt.tags[tag], (x0, y0, x1, y1), score))
        return found

    def _pixels(self, image: ImageU8) -> dict[str, "Tensor"]:
        """What the model reads of one image; images of one size need no padding to be stacked."""
        return dict(self._processor.image_processor(images=[image], return_tensors="pt"))

    @cached_property
    def _model(self) -> Any:
        from transformers import GroundingDinoForObjectDetection

        model = load_pretrained(GroundingDinoForObjectDetection, self._checkpoint.path)
        return model.to(choose_device(self._device))

    @property
    def _processor(self) -> Any:
        with self._loading:  # several lanes ask for it at once
            return self._loaded_processor

    @cached_property
    def _loaded_processor(self) -> Any:
        from transformers import GroundingDinoProcessor

        return load_processor(GroundingDinoProcessor, self._checkpoint.path)


def _prompt(tags: Sequence[str], spans: Sequence[tuple[int, int]]) -> Prompt:
    return Prompt(" ".join(f"{tag}." for tag in tags), tuple(tags), tuple(spans))
