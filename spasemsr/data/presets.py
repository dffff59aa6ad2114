"""What each degradation preset is, and which one a sample gets: `seesr` and `stablesr` are ranges of the Real-ESRGAN
chain (`degradation.py`), `camera` and `mild` are in `camera.py`, `mixture` draws one of the four for each sample.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from spasemsr.data.spec import DegradationSpec, Range
from spasemsr.errors import UserError
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
DOMAINS = {  # field -> what a range must lie in, and what that means
    "resize_range": (0.1, 4.0, "factors from 0.1 to 4"),
    "noise_range": (0.0, 255.0, "standard deviations in grey levels, 0 to 255"),
    "poisson_scale_range": (0.0, 10.0, "factors from 0 to 10"),
    "jpeg_range": (1.0, 100.0, "JPEG qualities from 1 to 100"),
}


def preset_of(spec: DegradationSpec, seed: int) -> str:
    """The preset of the sample with this seed: the spec's own, or one drawn by the shares of the mixture."""
    if spec.preset != "mixture":
        return spec.preset
    shares = spec.mixture.plain()
    return str(generator(seed, "preset").choice(list(shares), p=list(shares.values())))


@lru_cache(maxsize=64)
def resolve(spec: DegradationSpec, preset: str) -> Chain:
    """The chain `preset` with the overrides; UserError names a range that is upside down or makes no sense."""
    chain = PRESETS[preset]
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for key, value in spec.override.model_dump(exclude_none=True).items():
        if key == "second_blur_prob":
            second["blur_prob"] = value
            continue
        field = key.removesuffix("2")
        _check_range(key, value, field)
        (second if key.endswith("2") else first)[field] = value
    return Chain(replace(chain.first, **first), replace(chain.second, **second))


def require_sound(spec: DegradationSpec) -> None:
    """Refuse, before any work, overrides that make no sense in a chain: UserError as `resolve` raises it."""
    for preset in PRESETS:
        resolve(spec, preset)


def _check_range(key: str, value: Range, field: str) -> None:
    low, high, meaning = DOMAINS[field]
    where = f"degradation.override.{key} = {list(value)}"
    if not low <= value[0] <= value[1] <= high:
        raise UserError(f"{where}: not a range of {meaning}.", "Give [low, high] with low <= high in these bounds.")
    if field == "resize_range" and not value[0] <= 1.0 <= value[1]:
        raise UserError(f"{where}: must hold 1.", "Down draws from [low, 1] and up from [1, high].")
    if field == "jpeg_range" and value[0] >= 100.0:
        raise UserError(f"{where}: basicsr's JPEG divides by zero at 100.", "Let the range begin below 100.")
