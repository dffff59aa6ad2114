"""Segment Anything through its own package: masks of boxes, and the image features of the semantic constraint (eq. 9).

Checkpoints are plain state dicts. The network is built for the architecture that `params.yaml` states and filled with
exactly the tensors of the file. B images, n boxes, C channels, h w cells of 16 px of the image resized to 1024 px.
"""

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from spasemsr.backends.extractors.spec import SamFeaturesSpec
from spasemsr.backends.grounding.spec import SamSegmenterSpec
from spasemsr.backends.networks.ahead import Ahead
from spasemsr.backends.networks.runtime import autocast, by_size, choose_device, compute, pixels_of
from spasemsr.backends.networks.spec import SAM_PATCH, SamSizeSpec, size_of
from spasemsr.backends.protocols import Array, Box, MaskU8
from spasemsr.pixels import ImageU8
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import load_strictly, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor, nn

_WINDOW = 14


def build_sam(size: SamSizeSpec) -> "nn.Module":
    """The package's `_build_sam` with the sizes it has fixed left open; random weights."""
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid = size.image_size // SAM_PATCH
    encoder = ImageEncoderViT(
        img_size=size.image_size,
        patch_size=SAM_PATCH,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=4,
        out_chans=size.channels,
        qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=_WINDOW,
        global_attn_indexes=size.global_attention,
    )
    prompt = PromptEncoder(size.channels, (grid, grid), (size.image_size, size.image_size), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=size.channels, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(transformer_dim=size.channels, transformer=transformer)
    for block in encoder.blocks:
        block.attn.forward = partial(fused_attention, block.attn)
    return Sam(encoder, prompt, decoder).eval().requires_grad_(False)


def fused_attention(attention: Any, x_BhwC: "Tensor") -> "Tensor":
    """The package's attention of an image encoder (with relative positions) in one kernel: (B, h, w, C) to the same.

    The package writes scores, their sum with the positions and their softmax to memory, each of 1 GB an image in the
    blocks that see everything. Equal up to rounding.
    """
    from segment_anything.modeling.image_encoder import get_rel_pos
    from torch import einsum
    from torch.nn.functional import scaled_dot_product_attention

    size, h, w, _ = x_BhwC.shape
    query, key, value = (
        attention.qkv(x_BhwC).reshape(size, h * w, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    )
    at_BNhwc = query.unflatten(2, (h, w))
    rows = einsum("bnhwc,hkc->bnhwk", at_BNhwc, get_rel_pos(h, h, attention.rel_pos_h).to(query.dtype))
    columns = einsum("bnhwc,wkc->bnhwk", at_BNhwc, get_rel_pos(w, w, attention.rel_pos_w).to(query.dtype))
    positions = (rows.unsqueeze(-1) + columns.unsqueeze(-2)).reshape(*query.shape[:3], h * w)
    found = scaled_dot_product_attention(query, key, value, positions, scale=attention.scale)
    return attention.proj(found.unflatten(2, (h, w)).permute(0, 2, 3, 1, 4).reshape(size, h, w, -1))


class _Sam:
    """A verified checkpoint, loaded when first used."""

    def __init__(self, spec: SamSegmenterSpec | SamFeaturesSpec, device: str) -> None:
        self._checkpoint = locate(spec.source, spec.revision)
        self._size, self._precision, self._device = size_of(spec.architecture), spec.precision, device
        self._ahead = Ahead(self._enlarged)

    def prepare(self, image: ImageU8) -> None:
        """Resize an image before its turn, in another thread."""
        self._ahead.prepare(image)

    @cached_property
    def _model(self) -> Any:
        model = build_sam(self._size)
        load_strictly(model, read_state_dict(self._checkpoint.path), str(self._checkpoint.path))
        return model.to(choose_device(self._device))

    def _inputs(self, images: Sequence[ImageU8]) -> "Tensor":
        """Images of one size -> (B, 3, S, S): resized to the longest side as the package does, normalised, padded."""
        return self._model.preprocess(pixels_of([self._ahead.take(image) for image in images], self._model.device))

    def _enlarged(self, image: ImageU8) -> ImageU8:
        from segment_anything.utils.transforms import ResizeLongestSide

        return ResizeLongestSide(self._size.image_size).apply_image(image)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """What `ResizeLongestSide` makes of an image size."""
        scale = self._size.image_size / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def _encode(self, images: Sequence[ImageU8]) -> "Tensor":
        """(B, C, h, w) of the padded square."""
        model = self._model
        return compute(model.image_encoder, self._inputs(images), model.device, self._precision, "sam")


class SamSegmenter(_Sam):
    """The best single mask of each box."""

    def segment(self, images: Sequence[ImageU8], boxes: Sequence[list[Box]]) -> list[MaskU8]:
        """(H, W, 3) u8 images and selected boxes -> (H, W) u8; where masks overlap, the better box keeps the pixel."""
        import torch

        masks: list[MaskU8] = [np.zeros(image.shape[:2], np.uint8) for image in images]
        with torch.inference_mode():
            for group in by_size(images):
                if not any(boxes[i] for i in group):
                    continue
                features = self._encode([images[i] for i in group])
                for i, feature in zip(group, features, strict=True):
                    if boxes[i]:
                        masks[i] = self._masks(feature, boxes[i], images[i].shape[:2])
        return masks

    def _masks(self, feature_Chw: "Tensor", boxes: Sequence[Box], size: tuple[int, int]) -> MaskU8:
        import torch

        model, resized = self._model, self._resized(*size)
        scale = torch.tensor([resized[1], resized[0]] * 2, device=model.device, dtype=torch.float32)
        corners_n4 = torch.tensor([box.xyxy for box in boxes], device=model.device, dtype=torch.float32) * scale
        with autocast(model.device, self._precision):
            sparse, dense = model.prompt_encoder(points=None, boxes=corners_n4, masks=None)
            low_n1hw, _ = model.mask_decoder(
                image_embeddings=feature_Chw.unsqueeze(0),
                image_pe=model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
        inside_nHW = model.postprocess_masks(low_n1hw.float(), resized, size)[:, 0] > model.mask_threshold
        index = np.zeros(size, np.uint8)
        for number, inside in reversed(list(enumerate(inside_nHW.cpu().numpy(), start=1))):
            index[inside] = number
        return index


class SamFeatures(_Sam):
    """Image features, float16 (C, h, w): the cells that the image covers, not the padding.

    With `unit_scale` the last layer norm's learned scale and shift are taken off, so that every cell has mean 0 and
    variance 1 over channels: the constants are the model's own, and no statistics of a data set are needed.
    """

    def __init__(self, spec: SamFeaturesSpec, device: str) -> None:
        super().__init__(spec, device)
        self._unit_scale = spec.unit_scale
        self.channels = self._size.channels

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the features of an image of this size."""
        return self.channels, *(math.ceil(side / SAM_PATCH) for side in self._resized(height, width))

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images -> float16 (C, h, w)."""
        import torch

        found: dict[int, Array] = {}
        with torch.inference_mode():
            for group in by_size(images):
                features = self._encode([images[i] for i in group]).to(torch.float16).cpu().numpy()
                rows, columns = self.shape_for(*images[group[0]].shape[:2])[1:]
                found |= {i: np.ascontiguousarray(f[:, :rows, :columns]) for i, f in zip(group, features, strict=True)}
        return [found[i] for i in range(len(images))]

    @cached_property
    def _model(self) -> Any:
        model = super()._model
        if self._unit_scale:
            norm = model.image_encoder.neck[-1]
            norm.weight.fill_(1.0)
            norm.bias.fill_(0.0)
        return model
