"""Modes, depths, profiles and metadata of pictures are kept."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from spasemsr.errors import RejectedSample
from spasemsr.images import writing
from spasemsr.images.flat import upright
from spasemsr.images.picture import Picture, Said, parse_picture
from spasemsr.images.transparency import fill_transparent
from spasemsr.upscaling.description import Description
from spasemsr.upscaling.settings import Settings
from tests.worlds.tiny_upscaler import photograph

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


NOTHING = Description((), "blurred")


# Pictures of every kind.


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_any_mode_comes_back_as_what_it_was(tiny, mode):
    image = photograph(24, 16).convert("L").convert("I;16") if mode == "I;16" else photograph(24, 16).convert(mode)
    large = tiny(image, seed=1)
    assert large.size == (96, 64)
    assert large.mode == {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
    if mode == "I;16":
        assert len(np.unique(np.asarray(large))) > 256


def test_profile_and_exif_travel_with_the_image(tiny):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    photograph(24, 16).save(file, "JPEG", icc_profile=ICC, exif=exif)
    large = tiny(Image.open(file))
    assert large.size == (64, 96) and large.info["icc_profile"] == ICC
    kept = Image.Exif()
    kept.load(large.info["exif"])
    assert kept[0x010F] == "Maker" and 0x0112 not in kept


def test_alpha_is_restored_apart_from_colour(tiny):
    image = photograph(32, 32).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(np.indices((32, 32))[1] < 16, 0, 255).astype(np.uint8)))
    large = np.asarray(tiny(image))
    assert large.shape == (128, 128, 4)
    assert (large[:, :40, 3] == 0).all() and (large[:, 88:, 3] == 255).all()
    opaque = photograph(32, 32).convert("RGBA")
    assert (np.asarray(tiny(opaque))[..., 3] == 255).all()


def test_colour_under_transparency_is_taken_from_around():
    rng = np.random.default_rng(0)
    seen = rng.integers(100, 140, (40, 30, 3)).astype(np.uint8)
    alpha = np.full((40, 30), 255, np.uint8)
    alpha[10:25, 5:20] = 0
    hidden = seen.copy()
    hidden[alpha == 0] = (255, 0, 255)
    filled = fill_transparent(hidden, alpha)
    assert np.array_equal(filled[alpha > 0], seen[alpha > 0])
    assert filled[alpha == 0].min() >= 100 and filled[alpha == 0].max() < 140


def test_a_gray_picture_stays_gray_and_deep(tiny):
    ramp = np.linspace(0, 65535, 24 * 32).reshape(24, 32, 1).astype(np.uint16)
    result = tiny.restore(Picture(ramp, None, "PNG"), Settings(), NOTHING).picture
    assert result.mode == "gray" and result.bits == 16 and result.colour.shape == (96, 128, 1)
    assert len(np.unique(result.colour)) > 1000


PICTURES = [
    (form, bits, gray, alpha) for form in writing.SUFFIXES for bits in (8, 16) for gray in (1, 0) for alpha in (1, 0)
]


@pytest.mark.parametrize(("form", "bits", "gray", "alpha"), PICTURES)
def test_files_keep_depth_alpha_profile_and_exif(form, bits, gray, alpha):
    depth, channels = (np.uint8, np.uint16)[bits == 16], 1 if gray else 3
    top = np.iinfo(depth).max
    values = np.linspace(0, top, 21 * 33 * channels).reshape(21, 33, channels).astype(depth)
    exif = Image.Exif()
    exif[0x010F], exif[0x8769] = "Maker", {0xA002: 7, 0x829A: (1, 50)}
    mask = np.linspace(top, 0, 21 * 33).reshape(21, 33).astype(depth) if alpha else None
    picture = Picture(values, mask, "", None if gray else ICC, Said(exif.tobytes()))
    fitted = writing.fitted(picture, form)
    read = parse_picture(writing.encode(fitted), 10_000)
    assert (read.size, read.mode, read.bits, read.format) == ((33, 21), fitted.mode, fitted.bits, form)
    assert read.bits == (bits if form in ("PNG", "TIFF") else 8)
    assert (read.alpha is not None) == (bool(alpha) and form != "JPEG")
    assert read.icc == fitted.icc and (gray or read.icc == ICC)
    kept = Image.Exif()
    kept.load(read.said.exif)
    inner = kept.get_ifd(0x8769)
    assert kept[0x010F] == "Maker" and inner[0xA002] == 33 and tuple(inner[0x829A]) == (1, 50)
    error = np.abs(read.colour.astype(int) - fitted.colour.astype(int)).max()
    assert error <= {"JPEG": 4, "WEBP": 8}.get(form, 0)
    if read.alpha is not None:
        assert np.array_equal(read.alpha, fitted.alpha)
    assert writing.encode(fitted) == writing.encode(fitted)


def test_what_a_format_cannot_hold_is_said():
    picture = Picture(np.zeros((9, 9, 3), np.uint16), np.zeros((9, 9), np.uint16), "")
    assert writing.fitted(picture, "JPEG").notes == ("reduced_to_8_bit", "alpha_over_white")
    assert (writing.fitted(picture, "JPEG").colour == 255).all()
    with pytest.raises(RejectedSample, match="16383"):
        writing.require_fit("WEBP", 20_000, 100)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation):
    from PIL import ImageOps

    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert np.array_equal(upright(np.asarray(image), orientation), expected)


@pytest.mark.parametrize(("size", "reason"), [((1, 1), "too_small"), ((7, 300), "too_small")])
def test_pictures_without_content_are_refused(tiny, size, reason):
    with pytest.raises(RejectedSample, match=reason):
        tiny(Image.new("RGB", size))


def test_the_smallest_picture_passes(tiny):
    assert tiny(Image.new("RGB", (8, 8), "red")).size == (32, 32)
