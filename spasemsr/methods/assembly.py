"""A method from the description that lies beside its weights: what training, evaluation and upscaling build alike."""

from pathlib import Path

from pydantic import ValidationError

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import UserError
from spasemsr.methods.folder import CONFIG, read_config
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.protocol import Method, build_method


def build(config: ModelConfig, sample: SampleSpec) -> Method:
    """The method of a description, with freshly drawn weights. Pin threads first where bytes matter."""
    return build_method(
        config.method,
        config.model,
        sample,
        scale=config.scale,
        seed=config.seed,
        lambda_=config.lambda_,
        controlnet_weight=config.controlnet_weight,
        autoencoder=build_autoencoder(config.autoencoder),
        text_encoder=build_text_encoder(config.text_encoder),
        feature_channels=config.feature_channels,
    )


def read_model_config(folder: Path) -> ModelConfig:
    """The description of a model's folder. Raises UserError when it is absent, damaged or of another version."""
    try:
        return ModelConfig.model_validate(read_config(folder))
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, item["loc"])) or "the whole" for item in error.errors()}))
        raise UserError(
            f"{folder / CONFIG} does not describe a model of this version: {wrong}.",
            "Train again (dvc repro train), or use the version of this project that wrote it.",
        ) from None
