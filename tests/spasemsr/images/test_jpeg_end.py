"""A JPEG without its last bytes is read where nothing of the picture is missing, and refused where anything is."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from spasemsr.errors import RejectedSample
from spasemsr.images.flat import decode
from spasemsr.images.picture import parse_picture
from spasemsr.images.stored import read_scored
from tests.worlds.odd_pictures import encoded

LIMIT = 1_000_000
KINDS = [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}, {"subsampling": 0}]
RESTARTS = range(0xD0, 0xD8)
MODES = ["RGB", "L", "CMYK"]


def jpeg(kind: dict[str, object], mode: str) -> bytes:
    """Detail down to the last corner, and sides that fill no whole block."""
    pixels = np.random.default_rng(0).integers(0, 256, (67, 91, 3)).astype(np.uint8)
    return encoded(Image.fromarray(pixels).convert(mode), quality=70, **kind)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_only_the_end_marker_may_be_missing(tmp_path, kind, mode):
    """Some pictures end in a byte of padding, which may be missing too: no pixel depends on it."""
    whole = jpeg(kind, mode)
    pixels = decode(whole, LIMIT).pixels
    pairs = pairwise(whole)
    markers = [place for place, (first, second) in enumerate(pairs) if first == 0xFF and second in (*RESTARTS, 0xDA)]
    ends = {*range(len(whole) - 40, len(whole) - 2), *(place + more for place in markers for more in (0, 1, 2))}
    for end in sorted(ends - {len(whole) - 2, len(whole) - 1, len(whole)}):
        try:
            assert np.array_equal(decode(whole[:end], LIMIT).pixels, pixels) and end > len(whole) - 5, end
        except RejectedSample as error:
            assert error.reason in ("truncated", "corrupt")
    for missing in (1, 2):
        cut = whole[:-missing]
        assert np.array_equal(decode(cut, LIMIT).pixels, pixels)
        if mode != "CMYK":
            (tmp_path / "a.jpg").write_bytes(cut)
            assert np.array_equal(read_scored(tmp_path / "a.jpg").pixels, pixels)
            assert np.array_equal(parse_picture(cut, LIMIT).rgb8(), pixels)


def test_a_scan_that_is_missing_as_a_whole_is_missed():
    """Such a file ends where a scan ends, and what follows it changes no pixel."""
    whole = jpeg({"progressive": True}, "RGB")
    places = [place for place in range(len(whole)) if whole[place : place + 2] == b"\xff\xda"]
    assert len(places) > 5
    for place in places[1:]:
        with pytest.raises(RejectedSample, match="truncated"):
            decode(whole[:place], LIMIT)
