"""What grounding finds of what people marked: `python benchmarks/grounding.py IMAGES INSTANCES [--preset NAME]...`.

IMAGES is a folder of photographs, INSTANCES their annotations in COCO's format. Two embedded kinds are compared: the
regions alone, and EfficientNet-Lite0's names with regions below them. Prints, for each:

- the share of pictures whose largest marked object is named in the first three tags, and what share of the names given
  is among the marked objects (a lower bound: people marked 80 kinds of things, the network names 540);
- the share of large objects (more than 96x96 px) that one of the selected boxes covers with IoU 0.5, by any name and by
  their own;
- how often the same kind agrees with itself on the central 256 px of a photograph and on their copy degraded and
  restored as by default: of the pictures where hr has a name, those whose copy has the same first name, another or
  none; and boxes that find a partner with IoU 0.5.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spasemsr.backends.grounding import build_detector, build_tagger
from spasemsr.backends.grounding.evidence import classes_of
from spasemsr.backends.grounding.select import iou, select
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.protocols import Box
from spasemsr.backends.restorer import build_restorer
from spasemsr.config import load_params
from spasemsr.data.degradation import degrade_variant
from spasemsr.data.pairs import SCALE, SEED
from spasemsr.data.spec import DegradationSpec
from spasemsr.images.flat import read_image
from spasemsr.pixels import ImageU8

LARGE, IOU, SIDE = 96 * 96, 0.5, 256
SEGMENTER = {"kind": "components"}
REGIONS = {"tagger": {"kind": "palette"}, "detector": {"kind": "components"}}
NAMES = {"tagger": {"kind": "efficientnet_lite"}, "detector": {"kind": "activation"}}
# COCO's words for what ImageNet's classes are called here; every other name is the same in both.
COCO = {
    "couch": "sofa", "tv": "screen", "remote": "remote control", "cell phone": "phone", "stop sign": "street sign",
    "potted plant": "pot", "teddy bear": "toy bear", "suitcase": "purse", "handbag": "purse", "sports ball": "ball",
}  # fmt: skip


@dataclass(frozen=True)
class Marked:
    """One object that a person marked."""

    name: str
    xyxy: tuple[float, float, float, float]
    pixels: float


class Ground:
    """Tagger and detector of a kind, with the pipeline's selection."""

    def __init__(self, parts: dict[str, dict[str, str]]) -> None:
        self._spec = GroundSpec.model_validate({**parts, "segmenter": SEGMENTER, "max_objects": 5})
        self._tagger, self._detector = build_tagger(self._spec.tagger), build_detector(self._spec.detector)

    def __call__(self, image: ImageU8) -> tuple[list[str], list[Box]]:
        """The first three tags and the selected boxes."""
        tags = self._tagger.tag([image])
        boxes = select(self._detector.detect([image], tags)[0], self._spec)
        return [tag.text for tag in tags[0][:3]], boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("instances", type=Path)
    parser.add_argument("--preset", action="append", choices=("seesr", "stablesr", "camera", "mild"))
    chosen = parser.parse_args()
    truth = marked(json.loads(chosen.instances.read_text(encoding="utf-8")))
    pictures = {name: read_image(chosen.images / name, 10**8, 10**8).pixels for name in truth}
    for title, parts in (("regions", REGIONS), ("names", NAMES)):
        ground = Ground(parts)
        print(title, "·", found(ground, pictures, truth))
        for preset in chosen.preset or ("stablesr", "seesr"):
            print(title, "·", preset, "·", agreement(ground, pictures, preset))


def marked(data: dict) -> dict[str, list[Marked]]:
    """File name -> its objects, largest first; crowds are left out."""
    sizes = {image["id"]: (image["file_name"], image["width"], image["height"]) for image in data["images"]}
    words = {category["id"]: category["name"] for category in data["categories"]}
    objects: dict[str, list[Marked]] = defaultdict(list)
    for one in data["annotations"]:
        if one.get("iscrowd"):
            continue
        name, width, height = sizes[one["image_id"]]
        x, y, w, h = one["bbox"]
        word = words[one["category_id"]]
        box = x / width, y / height, (x + w) / width, (y + h) / height
        objects[name].append(Marked(COCO.get(word, word), box, w * h))
    return {name: sorted(found, key=lambda item: -item.pixels) for name, found in sorted(objects.items())}


def found(ground: Ground, pictures: dict[str, ImageU8], truth: dict[str, list[Marked]]) -> str:
    """Names and boxes against what was marked."""
    largest = named = right = large = covered = own = 0
    for name, image in pictures.items():
        tags, boxes = ground(image)
        objects = truth[name]
        words = [tag for tag in tags if tag in classes_of()]
        largest += objects[0].name in words
        named, right = named + len(words), right + sum(any(o.name == word for o in objects) for word in words)
        for thing in (o for o in objects if o.pixels > LARGE):
            hits = [box for box in boxes if iou(box, Box("", thing.xyxy, 0.0)) >= IOU]
            large, covered, own = large + 1, covered + bool(hits), own + any(box.tag == thing.name for box in hits)
    return (
        f"largest object named {share(largest, len(pictures))} · names that were marked {share(right, named)} · "
        f"large objects boxed {share(covered, large)}, by their name {share(own, large)}"
    )


def agreement(ground: Ground, pictures: dict[str, ImageU8], preset: str) -> str:
    """The same kind on hr and on its restored copy."""
    restorer = build_restorer(load_params(Path("params.yaml")).embedded.restore, "cpu")
    same = renamed = with_name = partners = boxes = 0
    for number, image in enumerate(pictures.values()):
        y, x = (np.array(image.shape[:2]) - SIDE) // 2
        hr = np.ascontiguousarray(image[max(y, 0) :, max(x, 0) :][:SIDE, :SIDE])
        lr = degrade_variant(hr, DegradationSpec(preset=preset), SCALE, SEED, f"{number}", 0).lr
        tags, there = ground(hr)
        again, here = ground(restorer.restore([lr], SCALE)[0])
        if tags and tags[0] in classes_of():
            named = bool(again) and again[0] in classes_of()
            with_name, same = with_name + 1, same + (again[:1] == tags[:1])
            renamed += named and again[0] != tags[0]
        boxes += len(there)
        partners += sum(any(iou(box, other) >= IOU for other in here) for box in there)
    return (
        f"the same first name {share(same, with_name)}, another {share(renamed, with_name)} · boxes with a partner "
        f"{share(partners, boxes)}"
    )


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({part / max(whole, 1):.0%})"


if __name__ == "__main__":
    main()
