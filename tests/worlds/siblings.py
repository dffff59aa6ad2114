"""SeeSR, SegSR and MegaSR of tiny widths with tiny backends, and batches for them."""

from dataclasses import replace

import torch

from spasemsr.backends.extractors.spec import (
    ColourLayoutSpec,
    FilterBankSpec,
    FilterRowsSpec,
    PlainMapSpec,
    TextureClassesSpec,
)
from spasemsr.methods import method
from spasemsr.methods.guided import GuidedDiffusion
from tests.worlds.small_methods import SCALE, PooledAutoencoder, WordEncoder, small_batch
from tests.worlds.small_networks import PICO, redraw_zeros

ROWS = FilterRowsSpec(kind="filter_rows", filters=6, grid=2)
LABELS = TextureClassesSpec(kind="texture_classes")
FEATURES = {
    "seesr": {"soft": ROWS},
    "segsr": {"labels": LABELS, "lq": FilterBankSpec(kind="filter_bank", channels=6)},
    "megasr": {
        "edges": PlainMapSpec(kind="edges"),
        "depth": PlainMapSpec(kind="sharpness"),
        "regions": LABELS,
        "image": ColourLayoutSpec(kind="colour_layout", grid=2),
        "soft": ROWS,
    },
}
MODELS = {
    "seesr": {"hint_channels": (4, 8, 8, 16), "drop_tags": 0.0},
    "segsr": {"segments": {"width": 16, "embedding": 4, "stem": 8}, "drop_labels": 0.0},
    "megasr": {"hint_channels": (4, 8, 8, 16), "drop_tags": 0.0},
}
NAMES = tuple(MODELS)


def sibling(name: str, seed: int = 0, redrawn: bool = True, **changes: object) -> GuidedDiffusion:
    """A method of tiny widths; `changes` replace fields of its model's spec. Redrawn: nothing is zero."""
    face = method(name)
    section = face.section.model_validate(
        {"model": {"unet": PICO["unet"], **MODELS[name], **changes}, "features": FEATURES[name]}
    )
    torch.manual_seed(seed)
    shown = face.shown(section.model, section.features, SCALE)
    frozen = {"autoencoder": PooledAutoencoder(), "text_encoder": WordEncoder()}
    built = face.around(section.model, section.features, shown, frozen)
    if redrawn:
        redraw_zeros(built.network, scale=0.2)
    return built


def sibling_batch(name: str, method_: GuidedDiffusion, training: bool = True, **size: object):
    """A batch with the method's own features, extracted from what it is shown; labels are of the same."""
    batch = replace(small_batch(training=training, **size), features={})
    batch = method_.extractors.completed(batch, method_._lr_up(batch))
    if name == "segsr" and training:
        batch = replace(batch, features={**batch.features, "labels": batch.features["guess"]})
    return batch
