"""What SeeSR is made of: `methods.seesr.model` of `params.yaml`, no torch import. Defaults are the paper's sizes."""

from typing import Literal

from spasemsr.diffusion.spec import BaseSpec, RandomBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.spec import Fraction, Positive, Spec


class SeeSRSpec(Spec):
    """SeeSR around one base denoiser.

    `hint_channels` are the widths of the convs that show lr to the ControlNet. `rca` off is the first row of Table 7:
    no representation cross-attention. `prompts` says what restoring is told, the other two rows: tags alone, the
    representation alone, or both. `drop_tags` is how often training goes without tags, so that guidance has an
    unconditional branch; the representation is always given.
    """

    input: Literal["lr", "restored"] = "lr"
    base: BaseSpec = RandomBaseSpec()
    unet: UNetSpec = UNetSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    hint_channels: tuple[Positive, Positive, Positive, Positive] = (16, 32, 96, 256)
    rca: bool = True
    prompts: Literal["both", "hard", "soft"] = "both"
    drop_tags: Fraction = 0.5
    train_base: bool = False
