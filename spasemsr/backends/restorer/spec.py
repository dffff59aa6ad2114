"""Kinds of restorer, the paper's degradation removal module (DRM)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from spasemsr.backends.identity import Identity, identify
from spasemsr.hashing import sha256_file
from spasemsr.spec import NUMBER, Fraction, Positive, Spec, WeightsSpec, later

# raised when the same lr is restored otherwise
VERSIONS = {"filter": 1, "bicubic": 1, "aware": 2, "compact": 1, "spandrel": 1}
AWARE = Path(__file__).parent / "aware.safetensors"  # the weights of AwareRestorerSpec at sharpness 0
AWARE_SHARP = Path(__file__).parent / "aware_sharp.safetensors"  # ... and at 1
CRISP = Path(__file__).parent / "crisp.safetensors"  # the weights of the larger network that `crisp` counts
COMPACT = Path(__file__).parent / "compact.safetensors"  # the weights of CompactRestorerSpec


class FilterRestorerSpec(Spec):
    """A restorer without weights: an edge-preserving filter on lr, then bicubic."""

    kind: Literal["filter"]
    batch_size: Positive = 1


class BicubicRestorerSpec(Spec):
    """No restorer: bicubic alone."""

    kind: Literal["bicubic"]
    batch_size: Positive = 1


class AwareRestorerSpec(Spec):
    """Embedded restorer: a small network that measures how degraded its input is; weights ship with this project.

    `sharpness` leads from the weights that are nearest to hr, 0, to its sharpest, 1. `crisp` is the share of the image
    of a network ten times larger, which looks most like a photograph, in the mean of both.
    """

    kind: Literal["aware"]
    sharpness: Fraction = 0.0
    crisp: Fraction = later(0.0)
    batch_size: Positive = 1


class CompactRestorerSpec(Spec):
    """A Compact network (Real-ESRGAN's) trained on harsh degradations alone; weights ship with this project."""

    kind: Literal["compact"]
    batch_size: Positive = 1

    @property
    def network(self) -> "SpandrelRestorerSpec":
        """The shipped network as what it is, one that spandrel knows."""
        return SpandrelRestorerSpec(kind="spandrel", source=str(COMPACT), precision="fp32")


class SpandrelRestorerSpec(WeightsSpec):
    """Any x4 network that spandrel knows (RRDBNet, SwinIR, ...), in tiles of `tile` lr pixels with a margin."""

    kind: Literal["spandrel"]
    tile: Annotated[int, Field(ge=32), NUMBER] = 512
    margin: Annotated[int, Field(ge=0), NUMBER] = 16
    batch_size: Positive = 1


RestorerSpec = Annotated[
    FilterRestorerSpec | BicubicRestorerSpec | AwareRestorerSpec | CompactRestorerSpec | SpandrelRestorerSpec,
    Field(discriminator="kind"),
]


def identity_of(spec: RestorerSpec) -> Identity:
    """What restores; weights that ship are hashed, and `compact` is its network asked about every mirror image."""
    if isinstance(spec, CompactRestorerSpec):
        return identify(spec.network, {"spandrel": VERSIONS["compact"]}, "mirrored_spandrel")
    if isinstance(spec, AwareRestorerSpec):
        small = [AWARE] * (spec.sharpness < 1) + [AWARE_SHARP] * (spec.sharpness > 0)
        weights = small * (spec.crisp < 1) + [CRISP] * (spec.crisp > 0)
        mixed = {"sharpness": spec.sharpness} if spec.sharpness and spec.crisp < 1 else {}
        mixed |= {"crisp": spec.crisp} if spec.crisp else {}
        return identify(spec, VERSIONS) | {"weights_sha256": " ".join(map(sha256_file, weights))} | mixed
    return identify(spec, VERSIONS)


def has_dial(spec: RestorerSpec) -> bool:
    """Whether this kind leads from faithful to sharp by itself."""
    return isinstance(spec, AwareRestorerSpec)


def dialed(spec: RestorerSpec, dial: float) -> RestorerSpec:
    """The restorer at a dial from faithful, 0, over its own settings, 0.5, to sharp, 1; most kinds have one only."""
    if not isinstance(spec, AwareRestorerSpec):
        return spec
    if dial <= 0.5:
        return spec.model_copy(update={"sharpness": 2 * dial * spec.sharpness, "crisp": 2 * dial * spec.crisp})
    return spec.model_copy(update={"crisp": spec.crisp + (1 - spec.crisp) * (2 * dial - 1)})
