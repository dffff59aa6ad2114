"""Stage latents: hr -> column latents, the autoencoder's posterior moments of training patches."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.autoencoder.spec import DOWNSCALE, AutoencoderSpec, identity_of
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import HR, LATENTS
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.data.patches import read_patches
from spasemsr.pixels import to_tensor


def job(params: Params) -> ColumnJob:
    """Encode every training patch once; training never runs the encoder."""
    spec = params.active.autoencoder
    return ColumnJob(
        LATENTS,
        inputs=(InputRef(HR),),
        worker=partial(EncodeWorker, spec),
        identity=partial(identity_of, spec),
        params={"autoencoder": spec.content()},
        batch_size=spec.batch_size,
        backends=(spec,),
        typical=Typical(rate=333.0, at=128, per_pixel=2 * 2 * spec.channels / DOWNSCALE**2),
    )


def run(params: Params, executor: Executor) -> None:
    """Build the column."""
    build_column(job(params), read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)


class EncodeWorker:
    """hr.png (H, W, 3) -> moments.npy (2C, H/f, W/f) float16, unscaled."""

    def __init__(self, spec: AutoencoderSpec) -> None:
        self._autoencoder = build_autoencoder(spec)

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Encode a batch of equally large patches."""
        import torch

        pixels = np.stack([sample.inputs["hr.png"] for sample in samples])
        with torch.inference_mode():
            moments = self._autoencoder.moments(to_tensor(pixels)).to(torch.float16).numpy()
        return [{"moments.npy": sample} for sample in moments]
