"""An upscaler of tiny widths with random weights, built and saved the project's own way, and pictures for it."""

from pathlib import Path
from typing import Any

import numpy as np
import skimage
from PIL import Image

from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.methods.model_config import InferenceSpec
from spasemsr.methods.spasemsr.face import FACE
from spasemsr.methods.spasemsr.spec import SpaSemConfig
from spasemsr.upscaling.upscaler import Upscaler
from tests.worlds.small_networks import redraw_zeros

SAMPLE = SampleSpec(solver="dpmpp", steps=2, guidance=1.0, start=0.3, colorfix="wavelet", tile=24, tile_overlap=8)

MAX_PIXELS = 100_000  # of a photograph on the tests' page


def tiny_config() -> SpaSemConfig:
    """Small in every number, with the embedded backends."""
    return SpaSemConfig.model_validate(
        {
            "method": "spasemsr",
            "seed": 1,
            "scale": 4,
            "lambda": 0.5,
            "controlnet_weight": 0.05,
            "model": {
                "unet": {
                    "block_out_channels": (16, 16, 16, 16),
                    "attention_heads": (1, 1, 1, 1),
                    "norm_num_groups": 8,
                    "sample_size": 16,
                },
                "schedule": {"prediction": "v_prediction"},
                "encoders": {"hint_channels": (4, 8, 8, 8), "sem_blocks": 1},
                "attention": {"deg": "cross", "spasem": "cross", "semimg": "cross"},
                "objects": {"max": 5, "tokens": 4},
                "fusion_width": 16,
                "train_base": True,
            },
            "autoencoder": {"kind": "block_dct"},
            "text_encoder": {"kind": "hashed", "width": 16, "length": 16},
            "feature_channels": 8,
            "identities": {},
            "columns": {"lr": "0" * 64},
            "inference": InferenceSpec(
                profile="embedded",
                restore={"kind": "filter"},
                ground=GroundSpec(
                    tagger={"kind": "palette"},
                    detector={"kind": "components"},
                    segmenter={"kind": "components"},
                    max_objects=5,
                ),
                caption={"kind": "rules"},
            ).plain(),
        }
    )


def tiny_upscaler(workers: int | None = None, **model: Any) -> Upscaler:
    """Random weights; no zero is left, so every condition changes the result. `model` changes its spec."""
    config = tiny_config()
    config = config.model_copy(update={"model": config.model.model_copy(update=model)})
    method = FACE.build(config)
    redraw_zeros(method.network, 0.05)
    return Upscaler(method, config, SAMPLE, workers=workers)


def photograph(width: int, height: int) -> Image.Image:
    """A part of a real photograph, degraded by nothing but its small size."""
    folder = Path(skimage.__file__).parent / "data"
    with Image.open(folder / "astronaut.png") as image:
        return image.convert("RGB").crop((0, 0, 512, round(512 * height / width))).resize((width, height), Image.BOX)


def pixels(image: Image.Image) -> np.ndarray:
    """An image's values as floats."""
    return np.asarray(image).astype(np.float64)
