"""Which photographs show the same picture: equal pixels in another file, or a near copy (resized, compressed again).

A near copy in training teaches what validation asks. A photograph's look is a perceptual hash, 63 bits that say where
its coarsest structure is above its median (Zauner 2010: the 8x8 lowest terms of a DCT of 32x32 gray levels). Two looks
at most NEAR bits apart are near copies: among 60 photographs every pair differs in 14 bits or more, and each from its
own JPEG at half size and quality 20 in 4 at most.
"""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np

from spasemsr.hashing import sha256_bytes
from spasemsr.pixels import ImageU8

NEAR = 6  # bits
_SIDE, _TERMS = 32, 8
_BAND_BITS = 8  # NEAR + 1 <= 8 bands: looks that are near agree in at least one whole band


def pixels_sha256(pixels: ImageU8) -> str:
    """Of (H, W, 3) pixels and their shape, whatever file they came from."""
    return sha256_bytes(repr(pixels.shape).encode() + pixels.tobytes())


def look_of(pixels: ImageU8) -> int:
    """The perceptual hash of (H, W, 3) pixels, 63 bits; 0 for one colour all over, which is like nothing."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    if float(np.ptp(small)) < 1.0:
        return 0
    terms = cv2.dct(small)[:_TERMS, :_TERMS].ravel()[1:]
    return int("".join("1" if term > np.median(terms) else "0" for term in terms), 2)


def near_copies(looks: Sequence[int]) -> list[list[int]]:
    """Groups, two or more, of the indices whose looks are near each other, directly or through one between them."""
    parent = list(range(len(looks)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for shift in range(0, 64, _BAND_BITS):
        bands: dict[int, list[int]] = {}
        for index, look in enumerate(looks):
            if look:
                bands.setdefault(look >> shift & (1 << _BAND_BITS) - 1, []).append(index)
        for members in bands.values():
            for one, two in combinations(members, 2):
                if (looks[one] ^ looks[two]).bit_count() <= NEAR:
                    parent[max(root(one), root(two))] = min(root(one), root(two))
    groups: dict[int, list[int]] = {}
    for index in range(len(looks)):
        groups.setdefault(root(index), []).append(index)
    return [group for group in groups.values() if len(group) > 1]
