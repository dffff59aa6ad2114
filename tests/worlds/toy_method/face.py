"""What everything else knows of the toy."""

from spasemsr.methods.face import Face

from .spec import ToyConfig, ToySection


class ToyFace(Face):
    """No ablations, no own checks."""

    name, label, version = "toy", "Toy convolutions", 1
    section, config = ToySection, ToyConfig
    card = "Two convolutions beside bicubic."

    def columns(self):
        from .features import FEATURES

        return (FEATURES,)

    def jobs(self, given):
        from .features import job

        return (job(given.section.features),)

    def describe(self, given, columns):
        return ToyConfig(
            method="toy", seed=given.seed, scale=given.scale, model=given.section.model, identities={},
            columns=dict(columns), inference=given.inference,
        )  # fmt: skip

    def construct(self, config):
        from .method import Toy

        return Toy(config.model, config.scale)

    def trace(self, given):
        from .method import ToyTraced

        return ToyTraced(given.section.model, given.patch)


FACE = ToyFace()
