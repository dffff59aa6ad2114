"""What MegaSR is made of: `methods.megasr.model` of `params.yaml`, no torch import. Defaults are the paper's sizes."""

from typing import Literal

from spasemsr.diffusion.spec import BaseSpec, RandomBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.spec import Fraction, Positive, Spec


class MegaSRSpec(Spec):
    """MegaSR around one base denoiser.

    The ablations are switches: `cism2` off is Table 3, `edges` (H) and `regions` (D and S) are Table 4; `rca` is the
    cross-attention to the recogniser's representation that MegaSR takes over from SeeSR. `drop_tags` is how often
    training goes without tags, so that guidance has an unconditional branch.
    """

    input: Literal["lr", "restored"] = "lr"
    base: BaseSpec = RandomBaseSpec()
    unet: UNetSpec = UNetSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    hint_channels: tuple[Positive, Positive, Positive, Positive] = (16, 32, 96, 256)
    cism2: bool = True
    rca: bool = True
    edges: bool = True
    regions: bool = True
    drop_tags: Fraction = 0.5
    train_base: bool = False
