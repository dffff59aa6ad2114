"""LLaVA: one fixed question about each image, answered greedily; captions of quality, lists of objects.

The model runs here through transformers, or in an engine behind an endpoint (`chat.py`). Here, prompts are padded on
the left, so that every answer begins right after its own prompt whatever the others in the batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from spasemsr.backends.captioner.spec import LlavaCaptionerSpec
from spasemsr.backends.grounding.spec import LlavaTaggerSpec
from spasemsr.backends.networks.answers import CaptionPolicy, tags_of
from spasemsr.backends.networks.runtime import choose_device, dtype_of
from spasemsr.backends.protocols import Tag
from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8
from spasemsr.weights.pretrained import load_pretrained, load_processor
from spasemsr.weights.store import locate


class Answers(Protocol):
    """Images and a question -> one raw answer each."""

    def ask(self, images: Sequence[ImageU8], question: str) -> list[str]:
        """(H, W, 3) u8 images -> answers in order."""
        ...


def answers_of(spec: LlavaCaptionerSpec | LlavaTaggerSpec, device: str) -> Answers:
    """LLaVA on a device of this process, or behind the endpoint that the spec names."""
    if spec.endpoint is not None:
        from spasemsr.backends.networks.chat import ChatEndpoint

        return ChatEndpoint(spec.endpoint, spec.source, spec.max_new_tokens)
    return LlavaAnswers(spec, device)


class LlavaAnswers:
    """LLaVA through transformers. Files are verified at once, the model is loaded when first asked."""

    def __init__(self, spec: LlavaCaptionerSpec | LlavaTaggerSpec, device: str) -> None:
        self._checkpoint = locate(spec.source, spec.revision)
        self._precision, self._max_new_tokens = spec.precision, spec.max_new_tokens
        self._device = device
        self._loaded: _Loaded | None = None

    def ask(self, images: Sequence[ImageU8], question: str) -> list[str]:
        """(H, W, 3) u8 images -> one answer each, special tokens taken out.

        An image that is not square is padded to a square first: LLaVA's processor would cut its sides off.
        """
        import torch
        from PIL import Image

        self._loaded = self._loaded or _load(self._checkpoint.path, self._precision, self._device)
        model, processor = self._loaded.model, self._loaded.processor
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
        prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
        fill = [round(255 * mean) for mean in processor.image_processor.image_mean]
        inputs = processor(
            images=[Image.fromarray(squared(image, fill)) for image in images],
            text=[prompt] * len(images),
            padding=True,
            return_tensors="pt",
        ).to(model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        with torch.inference_mode():
            tokens = model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=self._max_new_tokens,
                pad_token_id=processor.tokenizer.pad_token_id,
            )
        asked = inputs["input_ids"].shape[1]
        return processor.batch_decode(tokens[:, asked:], skip_special_tokens=True)


class _Loaded:
    """A model with its processor, kept as long as somebody uses it."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor


_IN_USE: WeakValueDictionary[tuple[Path, str, str], _Loaded] = WeakValueDictionary()


def _load(folder: Path, precision: str, device_name: str) -> _Loaded:
    """Model and processor; captioner and tagger of one process share them, as they are 14 GB."""
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    device = choose_device(device_name)
    key = (folder, precision, str(device))
    if (found := _IN_USE.get(key)) is not None:
        return found
    options = _four_bit(device) if precision == "nf4" else {"dtype": dtype_of(precision), **_placed(device)}
    model = load_pretrained(LlavaForConditionalGeneration, folder, **options)
    processor = load_processor(LlavaProcessor, folder)
    if not processor.chat_template or not processor.patch_size:
        raise UserError(
            f"{folder} has no chat template or no patch size: its processor files are too old.",
            "Take a newer commit of the model (`revision` in params.yaml).",
        )
    processor.tokenizer.padding_side = "left"
    for name in ("temperature", "top_p", "top_k"):  # of sampling, which is off
        setattr(model.generation_config, name, None)
    _IN_USE[key] = loaded = _Loaded(model, processor)
    return loaded


def squared(image: ImageU8, fill: Sequence[int]) -> ImageU8:
    """(H, W, 3) -> (S, S, 3), S the longer side: the image in the middle of a square of one colour."""
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width:
        return image
    square = np.full((side, side, 3), fill, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _placed(device: Any) -> dict[str, Any]:
    """Load straight onto a GPU: through the host, eight workers would need eight times 14 GB of it at once."""
    return {} if device.type == "cpu" else {"device_map": {"": device}}


def _four_bit(device: Any) -> dict[str, Any]:
    """Options for precision nf4, which needs a package that is not a dependency."""
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise UserError(
            "precision: nf4 needs a GPU and the package bitsandbytes.",
            "pip install bitsandbytes, or use precision: bf16 (14 GB of GPU memory for 7 billion parameters).",
        )
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return {"quantization_config": four_bit, "device_map": {"": device}}


class LlavaCaptioner:
    """One line about the quality of each image."""

    sees: int | None = 336  # pixels a side of CLIP ViT-L/14-336, LLaVA-1.5's eyes

    def __init__(self, spec: LlavaCaptionerSpec, device: str) -> None:
        self._answers = answers_of(spec, device)
        self._policy = CaptionPolicy(spec.max_words, spec.max_content_words)
        self.prompt = spec.question

    @property
    def counts(self) -> dict[str, int]:
        """How many captions there were, and how many were capped, cut or stripped."""
        return dict(self._policy.counts)

    def caption(self, images: Sequence[ImageU8]) -> list[str]:
        """(H, W, 3) u8 images -> captions. Raises UserError for an empty answer."""
        return [self._policy.clean(answer) for answer in self._answers.ask(images, self.prompt)]


class LlavaTagger:
    """The objects of each image as LLaVA lists them; it gives no scores, so all are 1."""

    def __init__(self, spec: LlavaTaggerSpec, device: str) -> None:
        self._answers = answers_of(spec, device)
        self._question, self._max_tags = spec.question, spec.max_tags

    def tag(self, images: Sequence[ImageU8]) -> list[list[Tag]]:
        """(H, W, 3) u8 images -> tags in the order they were said."""
        answers = self._answers.ask(images, self._question)
        return [[Tag(name, 1.0) for name in tags_of(answer, self._max_tags)] for answer in answers]
