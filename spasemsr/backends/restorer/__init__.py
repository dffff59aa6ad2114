"""Restorer: the paper's degradation removal module (DRM), which cleans lr before objects are looked for.

The embedded kind, `aware`, is the network of `experiments/restorers.py`, whose weights lie beside this file;
`compact` is its predecessor, of `experiments/restorer.py`; `filter` needs no weights.
"""

from typing import TYPE_CHECKING, assert_never

from spasemsr.backends.restorer.spec import (
    AwareRestorerSpec,
    BicubicRestorerSpec,
    CompactRestorerSpec,
    FilterRestorerSpec,
    RestorerSpec,
    SpandrelRestorerSpec,
)

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Restorer


def build_restorer(spec: RestorerSpec, device: str = "auto") -> "Restorer":
    """The restorer of a spec; `device` as in `choose_device`, but for what is small enough for a CPU everywhere."""
    match spec:
        case FilterRestorerSpec():
            from spasemsr.backends.restorer.filter import FilterRestorer

            return FilterRestorer()
        case BicubicRestorerSpec():
            from spasemsr.backends.restorer.bicubic import BicubicRestorer

            return BicubicRestorer()
        case AwareRestorerSpec():
            from spasemsr.backends.restorer.aware import AwareRestorer
            from spasemsr.backends.restorer.crisp import CrispRestorer, MeanRestorer

            device = "any" if device == "auto" else device
            if spec.crisp == 1:
                return CrispRestorer(device)
            aware = AwareRestorer(device, sharpness=spec.sharpness)
            return MeanRestorer(aware, CrispRestorer(device), spec.crisp) if spec.crisp else aware
        case CompactRestorerSpec():
            from spasemsr.backends.restorer.mirrored import MirroredRestorer

            return MirroredRestorer(build_restorer(spec.network, "any" if device == "auto" else device))
        case SpandrelRestorerSpec():
            from spasemsr.backends.restorer.spandrel_restorer import SpandrelRestorer

            return SpandrelRestorer(spec, device)
    assert_never(spec)


def bytes_for(spec: RestorerSpec, height: int, width: int) -> int:
    """What a restorer takes for a tile of an image of u x v pixels, where that is more than the small networks take."""
    if isinstance(spec, AwareRestorerSpec) and spec.crisp:
        from spasemsr.backends.restorer import crisp

        return crisp.bytes_for(height, width)
    return 0
