"""Captioner: what degraded an image, said in one line about quality and not content (paper, sec. 3.2, eq. 6).

Embedded: blur, noise, blocking, contrast, brightness and colour are measured and said in a fixed vocabulary of four
grades each, so the text encoder meets every word often. At most 14 words.
"""

from bisect import bisect_right
from collections.abc import Sequence

from spasemsr.images.quality import Quality, measure
from spasemsr.pixels import ImageU8

# measure -> thresholds and the words below, between and above them; an empty word is left out
VOCABULARY: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    "sharpness": ((0.2, 0.4, 0.6), ("strongly blurred", "moderately blurred", "slightly blurred", "sharp")),
    "noise": ((2.5, 5.0, 10.0), ("no noise", "slight noise", "moderate noise", "strong noise")),
    "blocking": (
        (1.4, 2.0, 3.5),
        ("no blocking", "slight compression blocking", "moderate compression blocking", "strong compression blocking"),
    ),
    "contrast": ((50.0, 100.0, 180.0), ("very low contrast", "low contrast", "medium contrast", "high contrast")),
    "brightness": ((50.0, 90.0, 170.0), ("very dark", "dark", "", "bright")),
    "colourfulness": ((6.0, 22.0, 50.0), ("gray", "muted colours", "natural colours", "vivid colours")),
}


class RuleCaptioner:
    """Measured blur, noise, blocking, contrast, brightness and colour in fixed words."""

    sees: int | None = None
    prompt = (
        "How sharp, noisy, compressed, contrasty, bright and colourful is this image? "
        "Describe its quality in one line and do not name what it shows."
    )

    def caption(self, images: Sequence[ImageU8]) -> list[str]:
        """One line for each (H, W, 3) u8 image."""
        return [describe(measure(image)) for image in images]


def describe(quality: Quality) -> str:
    """Measures -> words, e.g. "moderately blurred, strong noise, no blocking, low contrast, muted colours"."""
    words = [said[bisect_right(limits, getattr(quality, name))] for name, (limits, said) in VOCABULARY.items()]
    return ", ".join(word for word in words if word)
