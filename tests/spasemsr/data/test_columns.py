"""The record's schema: any value survives, and nothing else gets in."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spasemsr.data.columns import CAPTION, COLUMNS, HR, LATENTS, LR, OBJECTS, Member, common_columns
from spasemsr.hashing import sha256_bytes
from tests.worlds.odd_pictures import chunk

RGB, GRAY, LATENT = HR.member("hr.png"), OBJECTS.member("masks.png"), LATENTS.member("moments.npy")
BOXES, TEXT = OBJECTS.member("objects.json"), CAPTION.member("caption.json")
SIDES = st.integers(1, 12)


def objects(**changes):
    return {"tags": ["sky", "tree"], "boxes": [[0.0, 0.0, 1.0, 0.5], [0.25, 0.5, 0.5, 1.0]], "scores": [0.9, 0.3],
            "source": "hr", **changes}  # fmt: skip


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def png(width, height, depth=8, colour=2, rows=None) -> bytes:
    """A PNG written by hand, whatever it claims."""

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = bytes((width * 3 + 1) * height) if rows is None else rows
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_images_and_arrays_come_back_equal_and_encode_to_the_same_bytes(data):
    height, width = data.draw(SIDES), data.draw(SIDES)
    rgb = data.draw(hnp.arrays(np.uint8, (height, width, 3)))
    gray = data.draw(hnp.arrays(np.uint8, (height, width)))
    finite = st.floats(-60000, 60000, width=16)
    latent = data.draw(hnp.arrays(np.float16, (2, height, width), elements=finite))
    for member, value in ((RGB, rgb), (GRAY, gray), (LATENT, latent)):
        encoded = member.encode(value)
        back = member.decode(encoded)
        assert back.dtype == value.dtype and back.shape == value.shape and (back == value).all()
        assert member.encode(back) == member.encode(np.asfortranarray(value)) == encoded


def test_json_is_canonical():
    assert BOXES.decode(BOXES.encode(objects())) == objects()
    assert TEXT.encode({"text": "blur", "prompt": "?"}) == b'{"prompt":"?","text":"blur"}'
    assert BOXES.decode(BOXES.encode(objects(tags=[], boxes=[], scores=[])))["tags"] == []


def test_encoders_still_write_what_they_wrote():
    # If this fails after an upgrade, bump the version of every column with such members: their bytes have moved.
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    encoded = RGB.encode(pixels), GRAY.encode(pixels[..., 0]), LATENT.encode(pixels.astype(np.float16))
    assert [sha256_bytes(data)[:16] for data in encoded] == GOLDEN


GOLDEN = ["14b430214c45ce75", "6a9999723a6fb393", "35990e8877bfe299"]


@pytest.mark.parametrize(
    "member, value, words",
    [
        (RGB, np.zeros((4, 4), np.uint8), "expected shape (any, any, 3), got (4, 4)"),
        (RGB, np.zeros((0, 4, 3), np.uint8), "expected shape"),
        (RGB, np.zeros((4, 4, 3), np.float32), "expected dtype uint8, got float32"),
        (RGB, [[1]], "expected an array, got list"),
        (LATENT, np.full((1, 2, 2), np.inf, np.float16), "NaN or infinity"),
        (LATENT, np.zeros((1, 2, 2), np.float32), "expected dtype float16"),
        (TEXT, {"text": "two\nlines", "prompt": ""}, "one line"),
        (TEXT, {"text": "x" * 5000, "prompt": ""}, "at most 4096"),
        (TEXT, {"text": 3, "prompt": ""}, "expected text"),
        (TEXT, {"text": ""}, "keys text, prompt"),
        (BOXES, objects(scores=[0.3, 0.9]), "scores must fall"),
        (BOXES, objects(scores=[0.9]), "1 scores"),
        (BOXES, objects(scores=[1.5, 0.1]), "in [0, 1]"),
        (BOXES, objects(scores=[True, 0.1]), "list of numbers"),
        (BOXES, objects(boxes=[[0, 0, 1, 1], [0.5, 0, 0.5, 1]]), "x0 < x1"),
        (BOXES, objects(boxes=[[0, 0, 1], [0, 0, 1, 1]]), "x0 < x1"),
        (BOXES, objects(tags=["a\x1b[0m", "b"]), "control characters"),
        (BOXES, objects(extra=1), "keys tags"),
        (BOXES, objects(tags=["t"] * 256, boxes=[[0, 0, 1, 1]] * 256, scores=[0.5] * 256), "256 tags"),
    ],
)
def test_values_that_break_the_schema_are_refused(member, value, words):
    with pytest.raises(ValueError) as error:
        member.encode(value)
    assert words in str(error.value)


def test_nan_in_json_is_refused_both_ways():
    with pytest.raises(ValueError):
        LR.member("degradation.json").encode({"sigma": float("nan")})
    for text in (b'{"sigma": NaN}', b'{"sigma": Infinity}', b"[" * 100_000, b"\xff", b"", b"[]"):
        with pytest.raises(ValueError, match=r"degradation\.json"):
            LR.member("degradation.json").decode(text)


class Bomb:
    """Unpickling this would leave a trace."""

    def __reduce__(self):
        return (exec, ("open('/tmp/spasemsr-pickle-was-run', 'w')",))


@pytest.mark.parametrize(
    "data, words",
    [
        (npy(np.array([Bomb()], dtype=object)), "refused pickled objects"),
        (npy(np.zeros((1, 2, 2), np.float32)), "dtype <f4"),
        (npy(np.zeros((1, 2, 2), ">f2")), "dtype >f2"),
        (npy(np.zeros((2, 2), np.float16)), "expected shape (any, any, any)"),
        (npy(np.zeros((2, 3, 4), np.float16, order="F")), "C order"),
        (npy(np.zeros((1, 2, 2), np.float16)) + b"x", "do not hold"),
        (npy(np.zeros((1, 2, 2), np.float16))[:-1], "do not hold"),
        (npy(np.zeros((1, 2, 2), [("a", "f2")])), "not an npy array"),
        (npy(np.full((1, 2, 2), np.nan, np.float16)), "NaN or infinity"),
        (npy(np.zeros((1, 2, 2), np.float16)).replace(b"(1, 2, 2)", b"(9, 9, 9)"), "do not hold"),
        (b"\x93NUMPY\x02\x00" + npy(np.zeros((1, 2, 2), np.float16))[8:], "not an npy array"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': __import__('os')}", "not an npy array"),
        (npy(np.float16(1)), "not an npy array"),
        (b"", "not an npy array"),
        (b"\x80\x04K\x01.", "not an npy array"),
    ],
)
def test_arrays_of_another_kind_are_refused_before_they_are_made(data, words):
    with pytest.raises(ValueError) as error:
        LATENT.decode(data)
    assert "moments.npy" in str(error.value) and words in str(error.value)


def encoded(image, *flags) -> bytes:
    return cv2.imencode(".png", image, list(flags))[1].tobytes()


@pytest.mark.parametrize(
    "data, words",
    [
        (png(100_000, 100_000, rows=b"\0"), "100000x100000 pixels"),
        (png(0, 4), "pixels"),
        (png(4, 4, depth=16), "bit depth 16"),
        (png(4, 4, colour=3), "colour type 3"),
        (encoded(np.zeros((4, 4, 4), np.uint8)), "colour type 6"),
        (encoded(np.zeros((4, 4), np.uint8)), "got (4, 4)"),
        (encoded(np.zeros((4, 4, 3), np.uint8))[:-20], "truncated or damaged"),
        (png(4, 400, rows=bytes(13 * 4)), "truncated or damaged"),
        (cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1].tobytes(), "not a PNG"),
        (b"", "not a PNG"),
    ],
)
def test_pictures_of_another_kind_are_refused_before_they_are_decoded(data, words):
    with pytest.raises(ValueError) as error:
        RGB.decode(data)
    assert "hr.png" in str(error.value) and words in str(error.value)


def test_names():
    member = Member("lr.{k}.png", (None, None, 3))
    assert (member.kind, member.base, member.stem, member.name(3)) == ("png", "lr.png", "lr", "lr.3.png")
    assert HR.member("hr.png").name(None) == HR.member("hr.png").name(2) == "hr.png"
    with pytest.raises(KeyError, match=r"column 'hr' has no member 'lr\.png'"):
        HR.member("lr.png")
    for name, column in COLUMNS.items():
        assert column.name == name and column.remedy == f"Run: dvc repro {column.stage}"
        assert len({member.base for member in column.members}) == len(column.members)


def test_training_holds_restored_images_only_for_a_model_that_is_shown_them():
    splits = {shown: common_columns({shown})["restored"].splits for shown in ("lr", "restored")}
    assert "train" in splits["restored"] and set(splits["restored"]) - set(splits["lr"]) == {"train"}
    assert all(common_columns({"lr"})[name] == column for name, column in COLUMNS.items() if name != "restored")
