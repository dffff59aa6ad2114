"""The network's conditions for a picture: the same chain as in training, run on the fly.

lr -> restorer -> tags -> boxes, and lr -> caption (the paper's sec. 3.2). Tags and caption given by hand
take the place of found ones; a tag that does not say where it is and that the detector does not find gets the whole
picture as its box.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.extractors.texture_words import TEXTURES
from spasemsr.backends.grounding import build_detector, build_tagger
from spasemsr.backends.grounding.select import select
from spasemsr.backends.grounding.spec import with_what_is_here
from spasemsr.backends.grounding.texture_areas import TextureAreas, below
from spasemsr.backends.protocols import Box, Captioner, Detector, Restorer, Tag, Tagger
from spasemsr.backends.restorer import build_restorer, bytes_for
from spasemsr.backends.restorer.spec import RestorerSpec, dialed
from spasemsr.data.dataset import Objects
from spasemsr.determinism import torch_threads
from spasemsr.methods.model_config import InferenceSpec
from spasemsr.pixels import ImageU8
from spasemsr.upscaling.settings import WHOLE, clean_text, located
from spasemsr.upscaling.windows import Window

SEVERAL = 3  # results of the restorer, of pictures up to LOOKED_AT, that are remembered
LOOKED_AT = 512  # lr pixels of the longer side; objects are looked for in a smaller copy of what is larger


@dataclass(frozen=True)
class Description:
    """Boxes (x0 y0 x1 y1 in [0, 1]), best first, and how the picture is degraded, in one line."""

    boxes: tuple[Box, ...]
    caption: str

    @property
    def objects(self) -> Objects:
        """As methods take them."""
        corners = np.array([box.xyxy for box in self.boxes], np.float32).reshape(-1, 4)
        return Objects([box.tag for box in self.boxes], corners, [box.score for box in self.boxes], "restored")

    def plain(self) -> dict[str, Any]:
        """As JSON-ready values."""
        rows = [
            {"tag": box.tag, "box": [round(side, 4) for side in box.xyxy], "score": round(box.score, 4)}
            for box in self.boxes
        ]
        return {"objects": rows, "caption": self.caption}


@dataclass(frozen=True)
class Seen:
    """A picture's objects as they were found, as a person corrects them or None, and its caption."""

    objects: Objects
    said: Objects | None
    caption: str


class Describer:
    """The annotating models of a profile; each is built when it is first needed."""

    def __init__(self, spec: InferenceSpec, scale: int, device: str = "cpu", threads: int = 1) -> None:
        """`threads` of what looks at every pixel, which do not change a bit."""
        self._spec, self._scale, self._device, self._threads = spec, scale, device, threads
        self._ground = with_what_is_here(spec.ground)
        self._restorers: dict[RestorerSpec, Restorer] = {}
        self._last: dict[RestorerSpec, tuple[ImageU8, ImageU8]] = {}

    def restorer(self, dial: float = 0.5) -> Restorer:
        """The degradation removal module at a dial from faithful to sharp, where its kind has one."""
        spec = dialed(self._spec.restore, dial)
        if spec not in self._restorers:
            self._restorers[spec] = build_restorer(spec, self._device)
        return self._restorers[spec]

    def restored(self, lr: ImageU8, dial: float = 0.5) -> ImageU8:
        """(u, v, 3) uint8 -> (scale u, scale v, 3).

        The last picture is remembered, which objects, text and network share; a small one at several dials.
        """
        spec, restorer = dialed(self._spec.restore, dial), self.restorer(dial)
        if spec not in self._last or not np.array_equal(self._last[spec][0], lr):
            shown = [lr, *(seen for seen, _ in self._last.values())]
            if len(shown) > SEVERAL or any(max(seen.shape[:2]) > LOOKED_AT for seen in shown):
                self._last.clear()
            with torch_threads(self._threads):
                self._last[spec] = lr.copy(), restorer.restore([lr], self._scale)[0]
        return self._last[spec][1]

    def bytes_for(self, dials: Sequence[float], height: int, width: int) -> int:
        """What the restorer takes for a tile of (u, v) pixels, at that of the dials where it takes most."""
        return max((bytes_for(dialed(self._spec.restore, dial), height, width) for dial in dials), default=0)

    def looked_at(self, lr: ImageU8) -> ImageU8:
        """lr (u, v, 3) -> the restored picture, four times larger, in which things and text are looked for.

        Of a large one that is a smaller copy's, see LOOKED_AT.
        """
        return self.restored(_small(lr))

    @cached_property
    def _tagger(self) -> Tagger:
        return build_tagger(self._ground.tagger, self._device)

    @cached_property
    def _detector(self) -> Detector:
        return build_detector(self._ground.detector, self._device)

    def seen(self, description: Description, lr: ImageU8, windows: Sequence[Window]) -> Seen:
        """What the network is given of a picture (u, v, 3): its objects with areas of like texture, found and said.

        A box that says a texture is a person's, where a profile knows such words: nothing else writes one into a
        description.
        """
        found = description
        if self._textures is not None and any(box.tag in TEXTURES for box in description.boxes):
            found = replace(description, boxes=tuple(box for box in description.boxes if box.tag not in TEXTURES))
        said = None if found is description else self.with_areas(description, lr, windows).objects
        return Seen(self.with_areas(found, lr, windows).objects, said, description.caption)

    def with_areas(self, description: Description, lr: ImageU8, windows: Sequence[Window]) -> Description:
        """The description with the areas of like texture of a picture (u, v, 3), which are looked for in each window.

        An area is of the window in which its centre counts most. Where a box says a texture, as a person may, the areas
        below it go: those of which it covers more than half.
        """
        if self._textures is None:
            return description
        said = [box for box in description.boxes if box.tag in TEXTURES]
        found: list[Box] = []
        for window in windows:
            restored = self.restored(np.ascontiguousarray(window.crop(lr)))
            with torch_threads(self._threads):
                areas = self._textures.recognised(restored)
            for area in areas:
                box = replace(area, xyxy=window.in_picture(area.xyxy, lr.shape[:2]))
                if window.owns(*_centre(box, lr)) and all(_covered(box, hand) <= 0.5 for hand in said):
                    found.append(box)
        return replace(description, boxes=tuple(below(description.boxes, sorted(found, key=lambda box: -box.score))))

    @cached_property
    def _textures(self) -> TextureAreas | None:
        return TextureAreas(self._ground.textures, self._device) if self._ground.textures else None

    @cached_property
    def _captioner(self) -> Captioner:
        return build_captioner(self._spec.caption, self._device)

    def describe(self, lr: ImageU8, tags: tuple[str, ...] | None = None, caption: str | None = None) -> Description:
        """(u, v, 3) uint8 -> objects and caption; no object is a value, not an error."""
        if caption is None:
            caption = self._captioner.caption([_closely(lr, self._captioner.sees)])[0]
        boxes = () if tags == () else self._locate(lr, tags)
        return Description(tuple(boxes), clean_text(caption))

    def _locate(self, lr: ImageU8, tags: tuple[str, ...] | None) -> list[Box]:
        restored = [self.looked_at(lr)]
        given = [] if tags is None else [located(tag) for tag in tags]
        names = dict.fromkeys(clean_text(name) for name, box in given if box is None)
        asked = self._tagger.tag(restored) if tags is None else [[Tag(name, 1.0) for name in names]]
        boxes = select(self._detector.detect(restored, asked)[0], self._ground)
        if tags is None:
            return boxes
        placed = [Box(clean_text(name), box, 1.0) for name, box in given if box is not None]
        found = {box.tag for box in [*placed, *boxes]}
        missing = [Box(tag.text, WHOLE, 1.0) for tag in asked[0] if tag.text not in found]
        return [*placed, *missing, *boxes][: self._ground.max_objects]


def _centre(box: Box, lr: ImageU8) -> tuple[float, float]:
    """Row and column of the middle of a box, in lr pixels."""
    x0, y0, x1, y1 = box.xyxy
    return (y0 + y1) / 2 * lr.shape[0], (x0 + x1) / 2 * lr.shape[1]


def _covered(box: Box, by: Box) -> float:
    """The share of a box that another one covers."""
    (x0, y0, x1, y1), (left, top, right, bottom) = box.xyxy, by.xyxy
    return max(min(x1, right) - max(x0, left), 0.0) * max(min(y1, bottom) - max(y0, top), 0.0) / box.area


def _small(lr: ImageU8) -> ImageU8:
    factor = LOOKED_AT / max(lr.shape[:2])
    if factor >= 1:
        return lr
    size = max(round(lr.shape[1] * factor), 8), max(round(lr.shape[0] * factor), 8)
    return cv2.resize(lr, size, interpolation=cv2.INTER_AREA)


def _closely(lr: ImageU8, side: int | None) -> ImageU8:
    """What a captioner is shown that reduces whatever is larger than `side`: the most detailed window of that size.

    In a reduced copy noise, blur and blocks are gone, and in training it saw whole patches.
    """
    if side is None or max(lr.shape[:2]) <= side:
        return lr
    height, width = (min(side, length) for length in lr.shape[:2])
    detail = np.abs(cv2.Laplacian(cv2.cvtColor(lr, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    sums = cv2.integral(detail)
    rows, columns = ([*range(0, n - w, w), n - w] for n, w in zip(lr.shape[:2], (height, width), strict=True))
    places = [(y, x) for y in rows for x in columns]
    totals = [sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x] for y, x in places]
    y, x = places[int(np.argmax(totals))]
    return np.ascontiguousarray(lr[y : y + height, x : x + width])
