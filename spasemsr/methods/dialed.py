"""The dial of a method that adds to the image of a restorer with a dial of its own, from faithful to sharp."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import dialed, has_dial
from spasemsr.data.dataset import Batch
from spasemsr.pixels import to_pixels, to_tensor

if TYPE_CHECKING:
    from spasemsr.methods.model_config import ModelConfig
    from spasemsr.methods.protocol import Method


def restorer_dials(method: "Method", config: "ModelConfig") -> bool:
    """Whether the dial from faithful to sharp moves the restorer of this model."""
    return method.adds_to_restored and has_dial(config.inference.restore)


def at_dial(batch: Batch, method: "Method", config: "ModelConfig", dial: float) -> Batch:
    """The batch with lr restored anew at another dial than 0.5, which is what column `restored` holds.

    Features are those of the new image, as where a picture is upscaled; tags and caption are the same at every dial.
    """
    if dial == 0.5:
        return batch
    restorer = build_restorer(dialed(config.inference.restore, dial))
    restored = to_tensor(np.stack(restorer.restore(list(to_pixels(batch.lr)), config.scale)))
    return method.seeing(replace(batch, restored=restored), restored)
