"""Measured quality and the words for it."""

import numpy as np
import pytest

from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner.rules import VOCABULARY, describe
from spasemsr.backends.captioner.spec import RuleCaptionerSpec
from spasemsr.data.columns import CAPTION
from spasemsr.images.quality import Quality, measure
from tests.worlds.photographs import FLAT, blurred, compressed, noisy, photograph, shrunk

CAPTIONER = build_captioner(RuleCaptionerSpec(kind="rules"))
CRISP = ("astronaut", "coffee", "chelsea", "camera", "china")


def rank(name: str, image: np.ndarray) -> int:
    """Which of the words of a measure an image's caption holds."""
    words = CAPTIONER.caption([image])[0].split(", ")
    (place,) = [i for i, said in enumerate(VOCABULARY[name][1]) if said in words]
    return place


@pytest.mark.parametrize("name", CRISP)
@pytest.mark.parametrize("size", [64, 256])
def test_more_blur_is_never_a_sharper_word(name, size):
    image = shrunk(photograph(name, 256), 256 // size)
    ranks = [rank("sharpness", blurred(image, sigma)) for sigma in (0, 0.5, 0.8, 1.2, 1.8, 2.6, 4)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > ranks[-1] == 0


@pytest.mark.parametrize("name", CRISP)
@pytest.mark.parametrize("size", [64, 256])
def test_more_noise_is_never_a_cleaner_word(name, size):
    image = blurred(shrunk(photograph(name, 256), 256 // size), 0.8)
    ranks = [rank("noise", noisy(image, sigma)) for sigma in (0, 2, 4, 7, 12, 20, 40)]
    assert ranks == sorted(ranks)
    assert ranks[0] <= 1 and ranks[-1] == 3


@pytest.mark.parametrize("name", CRISP)
def test_jpeg_20_is_said_and_none_is_not(name):
    image = photograph(name, 128)
    assert rank("blocking", compressed(image, 20)) >= 1
    assert rank("blocking", image) == 0
    qualities = [measure(compressed(image, quality)).blocking for quality in (90, 60, 30, 10)]
    assert qualities == sorted(qualities)


@pytest.mark.parametrize("sigma", [3, 8, 16, 30])
def test_noise_is_measured_in_grey_levels(sigma):
    gray = np.full((96, 96, 3), 128, np.uint8)
    assert measure(noisy(gray, sigma)).noise == pytest.approx(sigma, rel=0.12)
    assert measure(noisy(blurred(photograph("coffee", 256), 1), sigma)).noise == pytest.approx(sigma, rel=0.35)


def test_contrast_brightness_and_colour_words():
    image = photograph("coffee", 256)
    dim = (image * 0.2).astype(np.uint8)
    assert rank("contrast", dim) < rank("contrast", image)
    assert "dark" in CAPTIONER.caption([dim])[0] and "bright" in CAPTIONER.caption([255 - dim // 2])[0]
    gray = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert rank("colourfulness", gray) == 0 < rank("colourfulness", image)


def test_an_example():
    quality = Quality(noise=12, sharpness=0.3, blocking=1.5, contrast=80, brightness=120, colourfulness=15)
    assert describe(quality) == (
        "moderately blurred, strong noise, slight compression blocking, low contrast, muted colours"
    )


def test_every_caption_is_one_short_line_the_record_takes():
    longest = ", ".join(max(said, key=lambda word: len(word.split())) for _, said in VOCABULARY.values())
    assert len(longest.split()) <= 14  # with BOS and EOS, the 16 rows of the embedded text encoder
    for text in CAPTIONER.caption([photograph(name, 64) for name in CRISP] + list(FLAT.values())):
        CAPTION.member("caption.json").encode({"text": text, "prompt": CAPTIONER.prompt})


@pytest.mark.parametrize(
    "image", [*FLAT.values(), np.zeros((1, 1, 3), np.uint8), np.full((1, 40, 3), 9, np.uint8), photograph("moon", 20)]
)
def test_any_image_has_finite_measures_and_a_caption(image):
    assert all(np.isfinite(value) for value in vars(measure(image)).values())
    assert CAPTIONER.caption([image])[0]


def test_neighbours_in_a_batch_do_not_matter():
    images = [photograph("coffee", 64), FLAT["black"], photograph("camera", 128)]
    assert CAPTIONER.caption(images) == [CAPTIONER.caption([image])[0] for image in images]
    assert CAPTIONER.caption([]) == []
