"""The faces of SeeSR, SegSR and MegaSR, but for what differs between them: columns, features and network."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from spasemsr.diffusion.spec import RandomBaseSpec
from spasemsr.methods.face import Face, Ingredients, Traced
from spasemsr.methods.guided_spec import GuidedConfig, GuidedSection
from spasemsr.spec import Spec

if TYPE_CHECKING:
    from spasemsr.data.job import ColumnJob
    from spasemsr.methods.guided import GuidedDiffusion
    from spasemsr.methods.shown import ShownFeatures


class GuidedFace(Face):
    """A method whose network is a `GuidedNetwork` and whose own column holds features of what it is shown."""

    config: ClassVar[type[GuidedConfig]]

    @abstractmethod
    def shown(self, model: Any, features: Any, scale: int) -> "ShownFeatures":
        """Which extractors make the method's column."""

    @abstractmethod
    def around(self, model: Any, features: Any, shown: "ShownFeatures", frozen: dict[str, Any]) -> "GuidedDiffusion":
        """The method of these specs; `frozen` are its autoencoder and text encoder."""

    def jobs(self, given: Ingredients) -> "tuple[ColumnJob, ...]":
        """One column, by the method's extractors."""
        section = GuidedSection.of(given)
        (column,) = self.columns()
        return (self.shown(section.model, section.features, given.scale).job(column, given.patch, given.variants),)

    def describe(self, given: Ingredients, columns: Mapping[str, str]) -> GuidedConfig:
        """From the specs alone; the identities of frozen parts are digests of their files."""
        from spasemsr.backends.autoencoder import spec as autoencoder
        from spasemsr.backends.text_encoder import spec as text_encoder
        from spasemsr.diffusion.pretrained import identity_of

        section = GuidedSection.of(given)
        return self.config(
            method=self.name,
            seed=given.seed,
            scale=given.scale,
            model=section.model,
            features=section.features,
            autoencoder=given.autoencoder,
            text_encoder=given.text_encoder,
            identities={
                "autoencoder": autoencoder.identity_of(given.autoencoder),
                "text_encoder": text_encoder.identity_of(given.text_encoder),
                "base": identity_of(section.model.base),
            },
            columns=dict(columns),
            inference=given.inference,
        )

    def construct(self, config: GuidedConfig) -> "GuidedDiffusion":
        """Around freshly built or loaded frozen parts."""
        from spasemsr.backends.autoencoder import build_autoencoder
        from spasemsr.backends.text_encoder import build_text_encoder

        frozen = {
            "autoencoder": build_autoencoder(config.autoencoder),
            "text_encoder": build_text_encoder(config.text_encoder),
        }
        shown = self.shown(config.model, config.features, config.scale)
        return self.around(config.model, config.features, shown, frozen)

    def trace(self, given: Ingredients) -> Traced:
        """The method's own losses, on its real network."""
        from spasemsr.methods.guided_trace import GuidedTraced

        section = GuidedSection.of(given)
        # the same network, and nothing to load; one image of a few samples is judged, which is not counted
        schedule = section.model.schedule.model_copy(update={"perceptual": 0.0})
        model = section.model.model_copy(update={"base": RandomBaseSpec(), "schedule": schedule})
        shown = self.shown(model, section.features, given.scale)
        return GuidedTraced(given, shown, partial(self.around, model, section.features, shown))

    def card_rows(self, config: GuidedConfig) -> dict[str, str]:
        """The frozen base and text encoder, and the extractors of the conditions."""
        features: Spec = config.features
        return {
            "base denoiser": "trained with the rest" if config.model.train_base else "frozen, not in this file",
            "autoencoder, text encoder": f"{config.autoencoder.kind}, {config.text_encoder.kind}",
            "extractors": ", ".join(f"{name}: {spec['kind']}" for name, spec in sorted(features.plain().items())),
        }
