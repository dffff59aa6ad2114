"""What each degradation preset is, and which one a sample gets: `seesr` and `stablesr` are ranges of the Real-ESRGAN
chain (`degradation.py`), `camera` and `mild` are in `camera.py`, `mixture` draws one of the four for each sample.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from spasemsr.data.spec import DegradationSpec, Range
from spasemsr.randomness import generator


@dataclass(frozen=True)
class Order:
    """Ranges of one of the two passes; probabilities are of up, down and keep for the resize."""

    blur_prob: float
    blur_sigma: Range
    betag_range: Range
    betap_range: Range
    resize_probs: tuple[float, float, float]
    resize_range: Range
    noise_range: Range
    poisson_scale_range: Range
    jpeg_range: Range


@dataclass(frozen=True)
class Chain:
    """The two passes of a second-order degradation, one after the other."""

    first: Order
    second: Order


_UP_DOWN_KEEP, _UP_DOWN_KEEP2 = (0.2, 0.7, 0.1), (0.3, 0.4, 0.3)
PRESETS = {
    # Real-ESRGAN's published x4 options, which SeeSR's data script repeats
    "seesr": Chain(
        Order(1.0, (0.2, 3.0), (0.5, 4.0), (1.0, 2.0), _UP_DOWN_KEEP, (0.15, 1.5), (1, 30), (0.05, 3.0), (30, 95)),
        Order(0.8, (0.2, 1.5), (0.5, 4.0), (1.0, 2.0), _UP_DOWN_KEEP2, (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
    ),
    # StableSR's published 512 px options, milder in every range, the blur's included
    "stablesr": Chain(
        Order(1.0, (0.2, 1.5), (0.5, 2.0), (1.0, 1.5), _UP_DOWN_KEEP, (0.3, 1.5), (1, 15), (0.05, 2.0), (60, 95)),
        Order(0.5, (0.2, 1.0), (0.5, 2.0), (1.0, 1.5), _UP_DOWN_KEEP2, (0.6, 1.2), (1, 12), (0.05, 1.0), (60, 100)),
    ),
}


def preset_of(spec: DegradationSpec, seed: int) -> str:
    """The preset of the sample with this seed: the spec's own, or one drawn by the shares of the mixture."""
    if spec.preset != "mixture":
        return spec.preset
    shares = spec.mixture.plain()
    return str(generator(seed, "preset").choice(list(shares), p=list(shares.values())))


@lru_cache(maxsize=64)
def resolve(spec: DegradationSpec, preset: str) -> Chain:
    """The chain `preset` with the overrides."""
    chain = PRESETS[preset]
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for key, value in spec.override.model_dump(exclude_none=True).items():
        if key == "second_blur_prob":
            second["blur_prob"] = value
            continue
        (second if key.endswith("2") else first)[key.removesuffix("2")] = value
    return Chain(replace(chain.first, **first), replace(chain.second, **second))
