"""What everything else knows of SpaSemSR: `FACE`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from spasemsr.methods.face import Face, Ingredients, Reading, Traced, Variant
from spasemsr.methods.spasemsr.spec import SpaSemConfig, SpaSemSection

if TYPE_CHECKING:
    from spasemsr.data.columns import Column
    from spasemsr.data.job import ColumnJob
    from spasemsr.methods.spasemsr.method import SpaSemSR


class SpaSemFace(Face):
    """The paper's method; its ablations are those of Tables 3 and 4."""

    name, label, version = "spasemsr", "SpaSemSR", 1
    section, config = SpaSemSection, SpaSemConfig
    card = """Restores and enlarges degraded photographs four times with a diffusion model conditioned on what is where
in the picture (tags with boxes) and on how it is degraded (a caption), after "Spatial-Semantic guided Super-Resolution"
(SpaSemSR)."""
    smaller = "model.attention: light"
    switches = ("model.constraint.img", "model.constraint.sem", "model.spatial.boxes")
    variants = (
        (_OURS := Variant("Ours", (True, True, True), ("3", "4"))),
        (_SEMANTIC := Variant("Ours-w/o-semantic", (True, False, True), ("3",))),
        Variant("Ours-w/o-vae", (False, True, True), ("3",)),
        (_SPATIAL := Variant("Ours-w/o-spatial", (True, True, False), ("4",))),
    )
    second_readings = (
        Reading("Ours-w/o-semantic, no E_sem", _SEMANTIC, {"model.encoders.sem": False}),
        Reading("Ours-w/o-spatial, no text of objects", _SPATIAL, {"model.text.objects": False}),
        Reading("Ours, base text empty", _OURS, {"model.base_text": "empty"}),
        Reading("Ours, base text spa", _OURS, {"model.base_text": "spa"}),
        Reading("Ours, hyb_tap hidden", _OURS, {"model.hyb_tap": "hidden"}, begun=False),
    )
    first = (False, False, False)
    readings: ClassVar[Mapping[str, tuple[str, ...]]] = {"model.spatial.binding": ("keys", "bias")}
    tables: ClassVar[Mapping[str, str]] = {
        "1-2": "Tables 1 and 2 · SpaSemSR beside other methods",
        "3": "Table 3 · without the semantic constraint, without the VAE constraint",
        "4": "Table 4 · without spatial grounding",
    }

    def check(self, given: Ingredients) -> None:
        """The network has a place for every object that is grounded."""
        section, profile = SpaSemSection.of(given), given.profile
        if section.model.objects.max < given.ground.most:
            raise ValueError(
                f"{profile}.methods.{self.name}.model.objects.max is {section.model.objects.max}, "
                f"but {profile}.ground finds up to {given.ground.most}: the model must take them all"
            )

    def columns(self) -> "tuple[Column, ...]":
        """The column of hr's image features, the reference of eq. 9."""
        from spasemsr.methods.spasemsr.features import FEATURES

        return (FEATURES,)

    def jobs(self, given: Ingredients) -> "tuple[ColumnJob, ...]":
        """One job: image features of hr, by SAM in the paper."""
        from spasemsr.methods.spasemsr.features import job

        return (job(SpaSemSection.of(given).features, given.patch),)

    def describe(self, given: Ingredients, columns: Mapping[str, str]) -> SpaSemConfig:
        """From the specs alone; the identities of frozen parts are digests of their files."""
        from spasemsr.methods.spasemsr.build import describe

        return describe(given, columns)

    def construct(self, config: SpaSemConfig) -> "SpaSemSR":
        """Around freshly built or loaded frozen parts."""
        from spasemsr.methods.spasemsr.build import construct

        return construct(config)

    def trace(self, given: Ingredients) -> Traced:
        """L_SD and L_SemDeg of eq. 12, on the real network."""
        from spasemsr.methods.spasemsr.trace import SpaSemTraced

        return SpaSemTraced(given)

    def card_rows(self, config: SpaSemConfig) -> dict[str, str]:
        """Weights of the losses, and what the network stands on."""
        return {
            "lambda, lambda_ControlNet": f"{config.lambda_:g}, {config.controlnet_weight:g}",
            "base denoiser": "trained with the rest" if config.model.train_base else "frozen, not in this file",
            "autoencoder, text encoder": f"{config.autoencoder.kind}, {config.text_encoder.kind}",
        }


FACE = SpaSemFace()
