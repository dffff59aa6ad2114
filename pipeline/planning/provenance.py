"""Which weights a column would be computed with now, compared with those it was computed with.

A column's identity holds the digest of its weights. DVC does not watch them: they lie outside the project, and what the
registry pins cannot change unseen, but a file of the user's, or models.lock.json, can.
"""

from typing import Any

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.grounding import build_detector, build_segmenter, build_tagger
from spasemsr.backends.restorer import build_restorer
from spasemsr.config import Profile
from spasemsr.errors import UserError


def identity_now(column: str, profile: Profile) -> Any:
    """What `column.json` would state as identity, None for a column without models. Loads no weights, hashes them.

    Raises UserError for weights that are not here or are not what was recorded.
    """
    ground = profile.ground
    match column:
        case "restored":
            return build_restorer(profile.restore).identity.plain()
        case "objects":
            models = build_tagger(ground.tagger), build_detector(ground.detector), build_segmenter(ground.segmenter)
            return {"models": [model.identity.plain() for model in models]}
        case "caption":
            return build_captioner(profile.caption).identity.plain()
        case "latents":
            return build_autoencoder(profile.autoencoder).identity.plain()
        case "features/spasemsr":
            return build_extractor(profile.features.spasemsr.sam).identity.plain()
    return None


def made_otherwise(column: str, stated: Any, profile: Profile) -> bool:
    """Whether a column's stated identity is not today's; False where the weights are not here to be compared."""
    try:
        now = identity_now(column, profile)
    except UserError:
        return False
    return now is not None and now != stated
