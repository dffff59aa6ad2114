"""What methods state alike, all of them or SeeSR, SegSR and MegaSR: sections of `params.yaml` and `config.json`.

No torch import.
"""

from typing import Literal

from spasemsr.backends.autoencoder.spec import AutoencoderSpec
from spasemsr.backends.text_encoder.spec import TextEncoderSpec
from spasemsr.diffusion.spec import BaseSpec, RandomBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.methods.face import Section
from spasemsr.methods.model_config import MethodSpec, ModelConfig
from spasemsr.spec import Fraction, Positive, Spec


class AroundBaseSpec(MethodSpec):
    """A method around one base denoiser; defaults are SD 2.1-base's sizes.

    `input` is what the network is shown: lr enlarged by bicubic, as in the papers, or the restorer's image, as in
    DiffBIR. With `train_base` the base is trained together with what stands beside it.
    """

    input: Literal["lr", "restored"] = "lr"
    base: BaseSpec = RandomBaseSpec()
    unet: UNetSpec = UNetSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    train_base: bool = False


class GuidedSpec(AroundBaseSpec):
    """A method whose own column holds features of what the network is shown."""

    @property
    def own_column(self) -> str:
        """The name of the method's own column."""
        raise NotImplementedError

    @property
    def reads_tags(self) -> bool:
        """Whether the text prompt is made of tags."""
        return True

    @property
    def columns(self) -> frozenset[str]:
        """The columns whose samples training reads, joined by key."""
        return self.restore_columns | {"latents"}

    @property
    def restore_columns(self) -> frozenset[str]:
        """What restoring reads; the restorer's image only where the network is shown it."""
        optional = {"objects": self.reads_tags, "restored": self.input == "restored"}
        return frozenset({"lr", self.own_column, *(name for name, read in optional.items() if read)})


class TaggedSpec(GuidedSpec):
    """A method whose text prompt is the tags.

    `hint_channels` are the widths of the convs that show lr to the ControlNet. `drop_tags` is how often training goes
    without tags, so that guidance has an unconditional branch.
    """

    hint_channels: tuple[Positive, Positive, Positive, Positive] = (16, 32, 96, 256)
    drop_tags: Fraction = 0.5


class GuidedSection(Section):
    """A method's part of a profile; a method narrows both."""

    model: GuidedSpec
    features: Spec


class GuidedConfig(ModelConfig):
    """`config.json` beside the weights: the frozen parts, and the extractors of its conditions."""

    model: GuidedSpec
    features: Spec
    autoencoder: AutoencoderSpec
    text_encoder: TextEncoderSpec
