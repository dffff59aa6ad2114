"""What the shipped weights are worth: `python benchmarks/nano.py PHOTOGRAPHS OUT [--preset NAME]...`.

Of every tenth photograph by name the central square of 512 px is degraded to 128 px by each preset and restored by
bicubic, the restorer, and SpaSemSR faithful (also with no boxes, with no caption) and sharp. Prints the tables of the
model card: PSNR-Y, SSIM-Y and NIQE with 95 % bootstrap intervals over photographs, differences to bicubic on the
same photographs, the largest colour cast and the mean grid. OUT gets the pictures, `scores.csv` and contact sheets.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import AwareRestorerSpec, CompactRestorerSpec
from spasemsr.data.degradation import degrade_variant
from spasemsr.data.sources import SUFFIXES
from spasemsr.data.spec import DegradationSpec
from spasemsr.evaluation.artifacts import colour_shift, grid_strength
from spasemsr.evaluation.intervals import summarize
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.scores import Row, ScoreTable, score_image, write_per_image
from spasemsr.images.flat import read_image
from spasemsr.images.picture import from_image
from spasemsr.pixels import bicubic_upsample, to_pixels, to_tensor
from spasemsr.progress import Progress
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.upscaler import Upscaler

SIDE, SCALE, EVERY, SEED = 512, 4, 10, 20260314
FAITHFUL, SHARP = 0.5, 1.0  # dial
METRICS = ("psnr", "ssim", "niqe")
PRESETS = ("camera", "stablesr", "seesr")
TIMED = ("faithful", "aware")
SHOWN = ("bicubic", "aware", "faithful", "sharp")  # on the contact sheets, before the ground truth

Image8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """A photograph's central square and its degraded copy."""

    key: str
    hr: Image8
    lr: Image8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="data/pretrained/nano")
    parser.add_argument("--preset", action="append", choices=PRESETS)
    parser.add_argument("--restorers", action="store_true", help="bicubic and the shipped restorers alone, quickly")
    parser.add_argument("--offset", type=int, default=0, help="which of every ten photographs")
    chosen = parser.parse_args()
    upscaler, metrics = Upscaler.from_pretrained(chosen.weights), build_metrics(METRICS)
    compared = restorers if chosen.restorers else restorations
    paths, tables, artifacts = photographs(chosen.photographs)[chosen.offset :: EVERY], [], {}
    for preset in chosen.preset or PRESETS:
        rows: list[Row] = []
        strips, seconds = [], []
        progress = Progress(f"nano@{preset}", len(paths), 0, "photographs")
        for path in paths:
            pair = make_pair(path, preset)
            shown = []
            for method, restored, took in compared(pair, upscaler):
                save(chosen.out / preset / method / f"{pair.key}.png", restored)
                rows.append(score_image(preset, pair.key, method, restored, pair.hr, metrics))
                found = colour_shift(restored, pair.lr), grid_strength(restored)
                artifacts.setdefault((preset, method), []).append(found)
                shown += [restored] if method in SHOWN else []
                seconds += [took] if method in TIMED else []
            save(chosen.out / preset / "hr" / f"{pair.key}.png", pair.hr)
            strips.append(np.concatenate([*shown, pair.hr], axis=1))
            progress.advance()
        progress.close()
        tables.append(ScoreTable(preset, METRICS, tuple(dict.fromkeys(row.method for row in rows)), tuple(rows)))
        save(chosen.out / f"sheet_{preset}.jpg", np.concatenate(strips))
        print(f"{preset}: {np.median(seconds):.1f} s from 128x128 to 512x512 with all that it needs (median)")
    write_per_image(chosen.out / "scores.csv", tables)
    summary = summarize(tables, metrics, SEED)
    for table in tables:
        print("\n".join(markdown(table, summary, artifacts)))


def photographs(folder: Path) -> list[Path]:
    """The image files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def make_pair(path: Path, preset: str) -> Pair:
    """The central square of 512 px, or the largest whose side is a multiple of 4, reduced to 512, and its lr."""
    pixels = read_image(path, 100_000_000, 40_000_000).pixels
    side = min(SIDE, min(pixels.shape[:2]) // SCALE * SCALE)
    y, x = ((length - side) // 2 for length in pixels.shape[:2])
    hr = np.ascontiguousarray(pixels[y : y + side, x : x + side])
    spec = DegradationSpec.model_validate({"preset": preset})
    return Pair(path.stem, hr, degrade_variant(hr, spec, SCALE, SEED, path.stem, 0).lr)


def bicubic(pair: Pair) -> Image8:
    """lr enlarged by the project's bicubic."""
    return to_pixels(bicubic_upsample(to_tensor(pair.lr), SCALE))[0]


def restorers(pair: Pair, _: Upscaler) -> Iterator[tuple[str, Image8, float]]:
    """(method, restored, seconds) of bicubic and of the restorers whose weights ship."""
    yield "bicubic", bicubic(pair), 0.0
    for spec in (CompactRestorerSpec(kind="compact"), AwareRestorerSpec(kind="aware")):
        restorer, start = build_restorer(spec, "cpu"), time.perf_counter()
        yield spec.kind, restorer.restore([pair.lr], SCALE)[0], time.perf_counter() - start


def restorations(pair: Pair, upscaler: Upscaler) -> Iterator[tuple[str, Image8, float]]:
    """(method, restored, seconds) of everything compared."""
    picture = from_image(Image.fromarray(pair.lr))

    def ours(settings: Settings, boxes: bool = True, caption: bool = True) -> tuple[Image8, float]:
        start = time.perf_counter()
        seen = upscaler.describe(picture)
        seen = replace(seen, boxes=seen.boxes if boxes else (), caption=seen.caption if caption else "")
        restored = upscaler.restore(picture, settings, seen).picture
        return np.asarray(restored.image().convert("RGB")), time.perf_counter() - start

    yield "bicubic", bicubic(pair), 0.0
    yield "restorer", build_restorer(upscaler.config.inference.restore, "cpu").restore([pair.lr], SCALE)[0], 0.0
    yield "faithful", *ours(Settings(dial=FAITHFUL))
    yield "faithful, no boxes", *ours(Settings(dial=FAITHFUL), boxes=False)
    yield "faithful, no caption", *ours(Settings(dial=FAITHFUL), caption=False)
    yield "sharp", *ours(Settings(dial=SHARP))


Artifacts = dict[tuple[str, str], list[tuple[float, float]]]


def markdown(table: ScoreTable, summary: dict, artifacts: Artifacts) -> Iterator[str]:
    """One preset's table: means with their intervals, differences to bicubic, and artifacts in grey levels."""
    rows = {(row["method"], row["metric"]): row for row in summary["rows"] if row["split"] == table.split}
    gains = {
        (row["method"], row["baseline"], row["metric"]): row
        for row in summary["differences"]
        if row["split"] == table.split
    }
    yield f"\n**{table.split}**, {len(table.keys)} photographs\n"
    yield "| | PSNR-Y | SSIM-Y | NIQE | PSNR-Y minus bicubic | SSIM-Y | NIQE | cast, at most | grid, mean |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for method in table.methods:
        cells = [spread(rows[method, metric], digits) for metric, digits in zip(METRICS, (2, 3, 2), strict=True)]
        for metric, digits in zip(METRICS, (2, 3, 2), strict=True):
            gain = gains.get(("bicubic", method, metric))
            bounds = () if gain is None else (-gain["mean"], -gain["high"], -gain["low"])
            cells.append("{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*bounds, d=digits) if bounds else "")
        casts, grids = zip(*artifacts[table.split, method], strict=True)
        cells += [f"{max(casts):.2f}", f"{np.mean(grids):.2f}"]
        yield f"| {method} | " + " | ".join(cells) + " |"


def spread(row: dict, digits: int) -> str:
    """Mean with its interval."""
    return f"{row['mean']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def save(path: Path, pixels: Image8) -> None:
    """Write an RGB picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


if __name__ == "__main__":
    main()
