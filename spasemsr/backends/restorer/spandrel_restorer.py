"""The paper's degradation removal module with weights: any x4 network that spandrel recognises by its tensors.

Files are read by our own restricted reader (tensors only); spandrel then recognises the architecture and builds it.
Images larger than a tile go through in tiles of 512 px with 16 px around them, as FaithDiff does: less than the
receptive field of an RRDBNet, so tiles agree closely but not exactly. B images, u v pixels of lr.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spasemsr.backends.networks.runtime import by_size, choose_device, compute, pixels_of
from spasemsr.backends.restorer.spec import SpandrelRestorerSpec
from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8, to_pixels
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import read_state_dict

if TYPE_CHECKING:
    from torch import Tensor

_TENSOR = re.compile(r"(?:size mismatch for |(?:Missing|Unexpected) key\(s\) in state_dict: \")([\w.]+)")
_REMEDY = "Name a x4 RGB checkpoint of an architecture that spandrel supports: restore.source in params.yaml."


class SpandrelRestorer:
    """lr -> a clean image `scale` times larger."""

    def __init__(self, spec: SpandrelRestorerSpec, device: str) -> None:
        self._checkpoint = locate(spec.source, spec.revision)
        self._tile, self._margin = spec.tile, spec.margin
        self._precision, self._device = spec.precision, device

    def restore(self, images: Sequence[ImageU8], scale: int) -> list[ImageU8]:
        """(u, v, 3) u8 images -> (scale u, scale v, 3) u8. Raises UserError for a network of another scale."""
        import torch

        model = self._model
        if model.scale != scale:
            raise UserError(
                f"{self._checkpoint.path} enlarges {model.scale} times, the pipeline {scale} times.",
                "Name another checkpoint: restore.source in params.yaml.",
            )
        restored: dict[int, ImageU8] = {}
        with torch.inference_mode():
            for group in by_size(images):
                large = self._tiled(pixels_of([images[i] for i in group], model.device) / 255, scale)
                restored |= dict(zip(group, to_pixels(large), strict=True))
        return [restored[i] for i in range(len(images))]

    def _tiled(self, lr_B3uv: "Tensor", scale: int) -> "Tensor":
        """The network on tiles of `tile` px with `margin` px around; an image that fits one tile goes through whole."""
        height, width = lr_B3uv.shape[-2:]
        out = lr_B3uv.new_empty((*lr_B3uv.shape[:2], height * scale, width * scale))
        for top in range(0, height, self._tile):
            for left in range(0, width, self._tile):
                bottom, right = min(top + self._tile, height), min(left + self._tile, width)
                y, x = max(top - self._margin, 0), max(left - self._margin, 0)
                window = lr_B3uv[..., y : bottom + self._margin, x : right + self._margin]
                large = compute(self._model, window, self._model.device, self._precision, "restorer")
                rows = slice((top - y) * scale, (bottom - y) * scale)
                columns = slice((left - x) * scale, (right - x) * scale)
                out[..., top * scale : bottom * scale, left * scale : right * scale] = large[..., rows, columns]
        return out

    @cached_property
    def _model(self) -> Any:
        """spandrel's descriptor, on the device. Raises UserError with a tensor's name for what spandrel cannot use."""
        import spandrel

        path = self._checkpoint.path
        state = spandrel.canonicalize_state_dict(read_state_dict(path))
        try:
            model = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
        except spandrel.UnsupportedModelError:
            first = next(iter(state), "none")
            what = f"{path}: spandrel knows no architecture with these {len(state)} tensors, the first being {first}."
            raise UserError(what, _REMEDY) from None
        except (RuntimeError, KeyError, ValueError, IndexError, AttributeError) as error:
            name = _TENSOR.search(str(error))
            first = name[1] if name else str(error).strip().splitlines()[0][:120]
            raise UserError(f"{path} is damaged or another model; first wrong tensor: {first}.", _REMEDY) from None
        is_image_model = isinstance(model, spandrel.ImageModelDescriptor)
        if not is_image_model or (model.input_channels, model.output_channels) != (3, 3):
            raise UserError(f"{path} holds {model.architecture.name}, which does not map RGB to RGB.", _REMEDY)
        model.model.requires_grad_(False)
        return model.eval().to(choose_device(self._device))
