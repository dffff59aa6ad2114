"""CLIP's text model as Stable Diffusion uses it: all 77 rows of the last hidden state, after the final layer norm.

The mask comes from the tokenizer's attention mask, so its last row is EOS whatever the padding token is (SD 2 pads with
"!", id 0) and whatever the model's pooler believes. The model itself gets no mask, as in Stable Diffusion: it is
causal, so content and EOS rows do not see the padding. B batch, L rows, D width.
"""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spasemsr.backends.networks.runtime import choose_device, dtype_of
from spasemsr.backends.protocols import TextStates
from spasemsr.backends.text_encoder.spec import ClipTextSpec
from spasemsr.errors import UserError
from spasemsr.weights.pretrained import load_pretrained, load_processor, read_config
from spasemsr.weights.store import locate

MODEL, TOKENIZER = ClipTextSpec.parts
REMEMBERED = 2048  # strings: 0.3 GB in bfloat16 at SD 2's width
_AT_ONCE = 8


class ClipText(nn.Module):
    """The `text_encoder` and `tokenizer` folders of a checkpoint; loaded when first used."""

    def __init__(self, spec: ClipTextSpec, device: str) -> None:
        super().__init__()
        found = locate(spec.source, spec.revision, spec.parts)
        self._folder, self._precision = found.path, spec.precision
        config = read_config(self._folder / MODEL)
        self.width = int(config["hidden_size"])
        self.length = int(config.get("max_position_embeddings", 77))
        place = torch.zeros((), device=choose_device(device))
        self.register_buffer("_place", place, persistent=False)  # where the weights will be wanted
        self._model: Any = None
        self._tokenizer: Any = None
        self._remembered: dict[str, tuple[Tensor, Tensor]] = {}  # the longest unused first
        self._turn = threading.Lock()  # tiles may ask in several threads

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TextStates:
        """Strings -> states (B, L, D) float32 and mask (B, L) with 1 for BOS, content and EOS; long texts keep EOS.

        Tags and prompts come again and again: their states are remembered, in the precision in which they are computed.
        """
        with self._turn:
            known = {text: self._remembered.pop(text) for text in dict.fromkeys(texts) if text in self._remembered}
            new = [text for text in dict.fromkeys(texts) if text not in known]
            for start in range(0, len(new), _AT_ONCE):
                known |= self._computed(new[start : start + _AT_ONCE])
            self._remembered |= known
            for text in list(self._remembered)[: max(len(self._remembered) - REMEMBERED, 0)]:
                del self._remembered[text]
        device = self._place.device  # they lie there, unless the encoder was moved since
        states = [known[text][0].to(device, torch.float32) for text in texts]
        return TextStates(torch.stack(states), torch.stack([known[text][1].to(device) for text in texts]))

    def _computed(self, texts: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """States and masks of a few strings, always as many at once: bits must not depend on what else was new."""
        model, tokenizer = self._loaded()
        padded = [*texts, *[""] * (_AT_ONCE - len(texts))]
        tokens = tokenizer(padded, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt")
        device = self._place.device
        with torch.autocast(device.type, enabled=False):  # its own precision, in training as in sampling
            states = model(input_ids=tokens["input_ids"].to(device)).last_hidden_state
        masks = tokens["attention_mask"].to(device, torch.float32)
        return {text: (states[i].clone(), masks[i].clone()) for i, text in enumerate(texts)}

    def _loaded(self) -> tuple[Any, Any]:
        if self._model is None:
            from transformers import CLIPTextModel, CLIPTokenizer

            tokenizer = load_processor(CLIPTokenizer, self._folder / TOKENIZER)
            model = load_pretrained(CLIPTextModel, self._folder / MODEL, dtype=dtype_of(self._precision))
            if len(tokenizer) > model.config.vocab_size:
                raise UserError(
                    f"{self._folder}: the tokenizer has {len(tokenizer)} words, the model {model.config.vocab_size}.",
                    "The two folders belong to different models: correct text_encoder.source in params.yaml.",
                )
            self._tokenizer, self._model = tokenizer, model.to(self._place.device)
        return self._model, self._tokenizer
