"""What the shipped weights are worth: `python benchmarks/nano.py PHOTOGRAPHS OUT [--preset NAME] [--method NAME]...`.

Of every tenth photograph by name the central square of 512 px is degraded to 128 px by each preset and restored by
bicubic, the restorers, Real-ESRGAN x4plus, and SpaSemSR at three dials: faithful, default (also with no boxes, with no
caption) and sharp.
Prints the tables of the model card: PSNR-Y, SSIM-Y, NIQE, LPIPS and ST-LPIPS with 95 % bootstrap intervals over
photographs, differences to bicubic on the same photographs, the largest colour cast and the mean grid; then how LPIPS
and ST-LPIPS rank the methods. OUT gets the pictures, `scores.csv` and contact sheets.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.tools.rankings import COMPARED, rankings
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import (
    BicubicRestorerSpec,
    CompactRestorerSpec,
    RestorerSpec,
    SpandrelRestorerSpec,
    dialed,
)
from spasemsr.data.pairs import SCALE, SEED, Pair, make_pair
from spasemsr.evaluation.artifacts import colour_shift, grid_strength
from spasemsr.evaluation.folders import index
from spasemsr.evaluation.intervals import summarize
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.scores import Row, ScoreTable, score_image, write_per_image
from spasemsr.images.picture import from_image
from spasemsr.progress import Progress
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.upscaler import Upscaler

SIDE, EVERY = 512, 10
FAITHFUL, DEFAULT, SHARP = 0.0, 0.5, 1.0  # dial
METRICS = ("psnr", "ssim", "niqe", "lpips", "stlpips")
DIGITS = (2, 3, 2, 3, 3)
PRESETS = ("camera", "stablesr", "seesr")
SHOWN = (
    "bicubic",
    "realesrgan-x4plus",
    "faithful",
    "default",
    "sharp",
)  # on the contact sheets, before the ground truth

Image8 = npt.NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="data/pretrained/nano")
    parser.add_argument("--preset", action="append", choices=PRESETS)
    parser.add_argument("--method", action="append", help="of the tables' first column; bicubic is always there")
    parser.add_argument("--offset", type=int, default=0, help="which of every ten photographs")
    chosen = parser.parse_args()
    paths = every_tenth(chosen.photographs, chosen.offset)
    upscaler, metrics = Upscaler.from_pretrained(chosen.weights), build_metrics(METRICS)
    compared = {
        name: restore
        for name, restore in methods(upscaler).items()
        if not chosen.method or name in ("bicubic", *chosen.method)
    }
    tables, artifacts = [], {}
    for preset in chosen.preset or PRESETS:
        rows: list[Row] = []
        strips, seconds = [], dict.fromkeys(compared, 0.0)
        progress = Progress(f"nano@{preset}", len(paths), 0, "photographs")
        for path in paths:
            pair = make_pair(path, preset, SIDE)
            shown = []
            for method, restore in compared.items():
                start = time.perf_counter()
                restored = restore(pair)
                seconds[method] += (time.perf_counter() - start) / len(paths)
                save(chosen.out / preset / method / f"{pair.key}.png", restored)
                rows.append(score_image(preset, pair.key, method, restored, pair.hr, metrics))
                found = colour_shift(restored, pair.lr), grid_strength(restored)
                artifacts.setdefault((preset, method), []).append(found)
                shown += [restored] if method in SHOWN else []
            save(chosen.out / preset / "hr" / f"{pair.key}.png", pair.hr)
            strips.append(np.concatenate([*shown, pair.hr], axis=1))
            progress.advance()
        progress.close()
        tables.append(ScoreTable(preset, METRICS, tuple(dict.fromkeys(row.method for row in rows)), tuple(rows)))
        save(chosen.out / f"sheet_{preset}.jpg", np.concatenate(strips))
        said = ", ".join(f"{method} {mean:.2f}" for method, mean in seconds.items())
        print(f"{preset}, seconds from 128x128 to 512x512, all that a method needs included: {said}")
    write_per_image(chosen.out / "scores.csv", tables)
    summary = summarize(tables, metrics, SEED)
    for table in tables:
        print("\n".join(markdown(table, summary, artifacts)))
    print()
    for table in tables:
        print("\n".join(ranks(table, summary)))


def every_tenth(folder: Path, offset: int) -> list[Path]:
    """Every tenth photograph by name. Raises UserError as `spasemsr score` does, as for two files of one key."""
    return sorted(index(folder, "photographs").values())[offset::EVERY]


def methods(upscaler: Upscaler) -> dict[str, Callable[[Pair], Image8]]:
    """Everything that can be compared, by name."""

    def restorer(spec: RestorerSpec) -> Callable[[Pair], Image8]:
        built = build_restorer(spec, "cpu")
        return lambda pair: built.restore([pair.lr], SCALE)[0]

    def ours(dial: float, boxes: bool = True, caption: bool = True) -> Callable[[Pair], Image8]:
        def restore(pair: Pair) -> Image8:
            picture = from_image(Image.fromarray(pair.lr))
            seen = upscaler.describe(picture)
            seen = replace(seen, boxes=seen.boxes if boxes else (), caption=seen.caption if caption else "")
            return np.asarray(
                upscaler.restore(picture, Settings(dial=dial, text="free"), seen).picture.image().convert("RGB")
            )

        return restore

    return {
        "bicubic": restorer(BicubicRestorerSpec(kind="bicubic")),
        "compact": restorer(CompactRestorerSpec(kind="compact")),
        "restorer, faithful": restorer(dialed(upscaler.config.inference.restore, FAITHFUL)),
        "restorer, default": restorer(upscaler.config.inference.restore),
        "restorer, sharp": restorer(dialed(upscaler.config.inference.restore, SHARP)),
        "realesrgan-x4plus": restorer(
            SpandrelRestorerSpec(kind="spandrel", source="realesrgan-x4plus-ncnn", precision="fp32")
        ),
        "faithful": ours(FAITHFUL),
        "default": ours(DEFAULT),
        "default, no boxes": ours(DEFAULT, boxes=False),
        "default, no caption": ours(DEFAULT, caption=False),
        "sharp": ours(SHARP),
    }


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
    names = " | ".join(("PSNR-Y", "SSIM-Y", "NIQE", "LPIPS", "ST-LPIPS"))
    yield f"| | {names} | minus bicubic: {names} | cast, at most | grid, mean |"
    yield "|---" * (2 * len(METRICS) + 3) + "|"
    for method in table.methods:
        cells = [spread(rows[method, metric], digits) for metric, digits in zip(METRICS, DIGITS, strict=True)]
        for metric, digits in zip(METRICS, DIGITS, strict=True):
            gain = gains.get(("bicubic", method, metric))
            bounds = () if gain is None else (-gain["mean"], -gain["high"], -gain["low"])
            cells.append("{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*bounds, d=digits) if bounds else "")
        casts, grids = zip(*artifacts[table.split, method], strict=True)
        cells += [f"{max(casts):.2f}", f"{np.mean(grids):.2f}"]
        yield f"| {method} | " + " | ".join(cells) + " |"


def ranks(table: ScoreTable, summary: dict) -> Iterator[str]:
    """The methods by mean LPIPS and by mean ST-LPIPS, and on how many single photographs two of them change places."""
    rows = [row for row in summary["rows"] if row["split"] == table.split]
    yield from rankings(
        [
            {"rows": [row for row in rows if row["method"] == method], "method": method, "set": {"name": table.split}}
            for method in table.methods
        ]
    )
    scores = [{(row.key, row.method): row.values[metric] for row in table.rows} for metric in COMPARED]
    signs = [
        [np.sign(one[key, a] - one[key, b]) for key in table.keys for a, b in combinations(table.methods, 2)]
        for one in scores
    ]
    apart = sum(a * b < 0 for a, b in zip(*signs, strict=True))
    yield f"On single photographs {apart} of {len(signs[0])} pairs are the other way round.\n"


def spread(row: dict, digits: int) -> str:
    """Mean with its interval."""
    return f"{row['mean']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def save(path: Path, pixels: Image8) -> None:
    """Write an RGB picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


if __name__ == "__main__":
    main()
