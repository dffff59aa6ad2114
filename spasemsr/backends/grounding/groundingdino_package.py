"""GroundingDINO as its authors wrote it, from the package groundingdino-py, on their own `.pth` files.

The package was written for transformers 4 and fetches BERT while it is built. Three methods that newer transformers no
longer has are given back to BERT here, and it is built from its published sizes: the checkpoint holds its weights.
Prompts, scores and selection of boxes are those of `grounding_dino.py`.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from spasemsr.backends.grounding.grounding_dino import GroundingDino
from spasemsr.backends.grounding.spec import PackagedGroundingDinoSpec
from spasemsr.backends.networks.runtime import choose_device
from spasemsr.weights.pretrained import load_processor
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import load_strictly, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor, nn

_NOT_READ = ("label_enc.", "bert.embeddings.position_ids")  # of training; computed


@dataclass(frozen=True)
class Sizes:
    """What a checkpoint's network is built from: a configuration of the package, and what it is varied by.

    `bert` are sizes of transformers' BertConfig, `swin` replace those of the package's Swin of that name.
    """

    config: str
    changes: Mapping[str, Any]
    bert: Mapping[str, Any]
    swin: Mapping[str, Any]


PUBLISHED = {
    "swin_t": Sizes("GroundingDINO_SwinT_OGC", {}, {}, {}),
    "swin_b": Sizes("GroundingDINO_SwinB_cfg", {}, {}, {}),
}


def build(sizes: Sizes) -> "nn.Module":
    """The package's network with random weights; nothing is fetched."""
    config = importlib.import_module(f"groundingdino.config.{sizes.config}")
    plain = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    arguments = SimpleNamespace(**{**plain, "use_checkpoint": False, "use_transformer_ckpt": False, **sizes.changes})
    with _without_fetching(sizes):
        from groundingdino.models.GroundingDINO.groundingdino import build_groundingdino

        return build_groundingdino(arguments).eval().requires_grad_(False)


@contextmanager
def _without_fetching(sizes: Sizes) -> Iterator[None]:
    """Inside, the package gets a BERT of stated sizes and no tokenizer, since texts come tokenized."""
    from groundingdino.models.GroundingDINO import groundingdino as package
    from groundingdino.models.GroundingDINO.backbone import backbone

    special = SimpleNamespace(convert_tokens_to_ids=lambda tokens: [101, 102, 1012, 1029])  # BERT's [CLS] [SEP] . ?
    swin = backbone.build_swin_transformer
    former = package.get_tokenlizer
    package.get_tokenlizer = SimpleNamespace(
        get_tokenlizer=lambda name: special, get_pretrained_language_model=lambda name: _bert(sizes.bert)
    )
    backbone.build_swin_transformer = lambda name, **options: swin(name, **options, **sizes.swin)
    try:
        yield
    finally:
        package.get_tokenlizer, backbone.build_swin_transformer = former, swin


def _bert(sizes: Mapping[str, Any]) -> Any:
    """transformers' BERT with what the package asks it for and newer versions no longer have."""
    import torch
    from transformers import BertConfig, BertModel

    class Bert(BertModel):
        def get_extended_attention_mask(self, mask_BLL: "Tensor", shape: Any, device: Any = None) -> "Tensor":
            return torch.where(mask_BLL[:, None].bool(), 0.0, torch.finfo(torch.float32).min)

        def invert_attention_mask(self, mask: "Tensor") -> "Tensor":
            raise NotImplementedError("BERT is no decoder here")

        def get_head_mask(self, mask: Any, layers: int) -> list[None]:
            return [None] * layers

    return Bert(BertConfig(**sizes, attn_implementation="eager"))


def load(path: Any, sizes: Sizes) -> "nn.Module":
    """The network of a published file. Raises UserError for tensors that are missing, unknown or of another shape."""
    held = read_state_dict(path)
    state = dict(held["model"]) if isinstance(held.get("model"), Mapping) else held
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    network = build(sizes)
    load_strictly(network, {n: tensor for n, tensor in named.items() if not n.startswith(_NOT_READ)}, str(path))
    return network


class Adapted:
    """The package's network called as transformers' is: tokens and pixels in, logits and boxes out."""

    def __init__(self, network: "nn.Module", device: Any) -> None:
        self._network, self.device = network.to(device), device
        self.config = SimpleNamespace(max_text_len=network.max_text_len)

    def __call__(self, *, pixel_values: "Tensor", pixel_mask: "Tensor", **text: "Tensor") -> Any:
        """Pixels (B, 3, H, W), mask (B, H, W) of 1 in the image, tokens (B, T) -> logits (B, Q, T), boxes (B, Q, 4)."""
        from groundingdino.util.misc import NestedTensor
        from transformers import BatchEncoding

        network = self._network
        special = network.tokenizer
        network.tokenizer = lambda captions, **options: BatchEncoding(text)
        try:
            out = network(NestedTensor(pixel_values, pixel_mask == 0), captions=[""] * len(pixel_values))
        finally:
            network.tokenizer = special
        return SimpleNamespace(logits=out["pred_logits"], pred_boxes=out["pred_boxes"])


class PackagedGroundingDino(GroundingDino):
    """Boxes of the original implementation; tokenizer and image processor are those of a transformers folder."""

    def __init__(self, spec: PackagedGroundingDinoSpec, device: str) -> None:
        super().__init__(spec, device)
        self._sizes = PUBLISHED[spec.architecture]
        self._texts = locate(spec.tokenizer, None)

    @cached_property
    def _model(self) -> Any:
        return Adapted(load(self._checkpoint.path, self._sizes), choose_device(self._device))

    @cached_property
    def _loaded_processor(self) -> Any:
        from transformers import GroundingDinoProcessor

        return load_processor(GroundingDinoProcessor, self._texts.path)
