"""What can be read before and after: `python benchmarks/text.py PHOTOGRAPH... [--preset NAME] [--weights FOLDER]`.

Of every photograph the square of 512 px in which most can be read is degraded to 128 px. Lines and what they say are
those of the square itself; the table counts how many of their characters are read again, in the same order and the same
places, after bicubic, the faithful end of the dial, and SpaSemSR with text that is free and safe.
"""

import argparse
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import BicubicRestorerSpec
from spasemsr.backends.text import build_reader
from spasemsr.backends.text.reader import Line, TextReader
from spasemsr.data.degradation import degrade_variant
from spasemsr.data.spec import DegradationSpec
from spasemsr.determinism import single_threaded
from spasemsr.images.flat import read_image
from spasemsr.images.picture import from_image
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.upscaler import Upscaler

SIDE, SCALE, STEP, SEED = 512, 4, 64, 20260314
SURE = 0.8  # mean probability from which on a line of the square itself is taken for what is written
DIALS = (0.5, 1.0)

Image8 = npt.NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--preset", default="camera")
    parser.add_argument("--weights", default="data/pretrained/nano")
    chosen = parser.parse_args()
    reader = build_reader()
    if reader is None:
        parser.exit(2, "the extra `real` is not installed\n")
    compared = methods(Upscaler.from_pretrained(chosen.weights))
    totals = dict.fromkeys(compared, 0)
    characters = 0
    print(f"| photograph | characters | {' | '.join(compared)} |", "|" + "---|" * (len(compared) + 2), sep="\n")
    spec = DegradationSpec.model_validate({"preset": chosen.preset})
    for path in chosen.photographs:
        hr = square(read_image(path, 100_000_000, 40_000_000).pixels, reader)
        lr = degrade_variant(hr, spec, SCALE, SEED, path.stem, 0).lr
        written = truth(hr, reader)
        count = sum(len(letters(line)) for line in written)
        found = {name: recognised(restore(lr), written, reader) for name, restore in compared.items()}
        print(f"| {path.stem} | {count} | {' | '.join(map(str, found.values()))} |", flush=True)
        characters += count
        totals = {name: total + found[name] for name, total in totals.items()}
    print(f"| all | {characters} | {' | '.join(map(str, totals.values()))} |")


def methods(upscaler: Upscaler) -> dict[str, Callable[[Image8], Image8]]:
    """Everything that is compared, by name."""

    def ours(dial: float, text: str) -> Callable[[Image8], Image8]:
        def restore(lr: Image8) -> Image8:
            asked = Settings.model_validate({"dial": dial, "text": text})
            return np.asarray(upscaler.restore(from_image(Image.fromarray(lr)), asked).picture.image().convert("RGB"))

        return restore

    bicubic = build_restorer(BicubicRestorerSpec(kind="bicubic"), "cpu")
    found = {"bicubic": lambda lr: bicubic.restore([lr], SCALE)[0], "dial 0": ours(0.0, "free")}
    for dial in DIALS:
        found |= {f"dial {dial:g}, {text}": ours(dial, text) for text in ("free", "safe")}
    return found


def square(pixels: Image8, reader: TextReader) -> Image8:
    """The square of SIDE px, or less where the photograph is smaller, that holds most characters of whole lines."""
    height, width = pixels.shape[:2]
    side = min(SIDE, min(height, width) // SCALE * SCALE)
    size = [width, height, width, height]
    lines = [(np.array(line.box) * size, len(letters(line))) for line in truth(pixels, reader)]
    places = [
        (y, x)
        for y in sorted({*range(0, height - side, STEP), height - side})
        for x in sorted({*range(0, width - side, STEP), width - side})
    ]

    def held(place: tuple[int, int]) -> int:
        y, x = place
        return sum(
            count for (x0, y0, x1, y1), count in lines if x0 >= x and y0 >= y and x1 <= x + side and y1 <= y + side
        )

    y, x = max(places, key=held)
    return np.ascontiguousarray(pixels[y : y + side, x : x + side])


def truth(hr: Image8, reader: TextReader) -> list[Line]:
    """Lines that are read with certainty."""
    with single_threaded():
        return [line for line in reader.read(hr) if line.score >= SURE and letters(line)]


def recognised(restored: Image8, written: Sequence[Line], reader: TextReader) -> int:
    """How many characters of lines are read in their places, in order."""
    with single_threaded():
        found = reader.read_at(restored, written)
    pairs = zip(map(letters, written), map(letters, found), strict=True)
    matchers = [difflib.SequenceMatcher(None, asked, read, autojunk=False) for asked, read in pairs]
    return sum(block.size for matcher in matchers for block in matcher.get_matching_blocks())


def letters(line: Line) -> str:
    """What counts of a line: letters and digits, in small."""
    return "".join(character for character in line.text.casefold() if character.isalnum())


if __name__ == "__main__":
    main()
