"""Stage dial: sampling-time settings of trained weights swept on the evaluation split, nothing trained again.

Beside the scores at each setting with their Pareto front, each image gets the maps of what the network makes up
(deviation over noise seeds) and of what contradicts lr. Restored images come from the sample cache.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import cv2
import numpy as np

from pipeline import layout
from pipeline.engine.executors import Executor
from pipeline.engine.restoring import ToRestore, restoration, restore_ahead
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import HR
from spasemsr.data.dataset import Batch
from spasemsr.data.shards import ColumnReader
from spasemsr.diffusion.consistency import project, residual
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.evaluation.intervals import by_turns
from spasemsr.evaluation.maps import DEVIATION, LR_RESIDUAL, MapScores, means, picture_of, write_maps
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.pareto import SweepPoint, front_of, write_sweep
from spasemsr.evaluation.restoration import SPLIT
from spasemsr.evaluation.scores import ScoreTable, score_image, write_json
from spasemsr.evaluation.spec import SweepName
from spasemsr.images.deviation import as_picture, luma_deviation
from spasemsr.methods.columns import columns_of
from spasemsr.methods.stored import read_model_config
from spasemsr.pixels import ImageU8, to_pixels, to_tensor, write_png
from spasemsr.progress import Progress
from spasemsr.upscaling.settings import Settings, sampling_for

log = logging.getLogger(__name__)

_DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
_STARTS, _GUIDANCE, _CONSISTENCY = (0.1, 0.2, 0.3, 0.5, 1.0), (1.0, 2.0, 3.0, 4.5, 5.5), (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Setting:
    """One point of a sweep."""

    sweep: str
    value: str
    sample: SampleSpec
    consistency: float = 0.0
    dial: float = 0.5  # of the restorer


def settings(
    base: SampleSpec, sweeps: Sequence[SweepName], num_train_timesteps: int, restorer_dials: bool = False
) -> list[Setting]:
    """The points of the named sweeps around `base`, each varying one thing.

    With `restorer_dials` the dial moves the restorer.
    """
    found: list[Setting] = []
    for sweep in sweeps:
        match sweep:
            case "dial":
                for value in _DIALS:
                    sample = sampling_for(base, Settings(dial=value), num_train_timesteps, restorer_dials)
                    found.append(Setting(sweep, f"{value:g}", sample, dial=value if restorer_dials else 0.5))
            case "start":
                changed = _STARTS if base.lre else (base.start,)
                found += [_changed(base, sweep, value) for value in changed]
            case "guidance":
                found += [_changed(base, sweep, value) for value in _GUIDANCE]
            case "steps":
                steps = sorted({max(base.steps // 4, 1), max(base.steps // 2, 1), base.steps, base.steps * 2})
                found += [_changed(base, sweep, value) for value in steps]
            case "colorfix":
                found += [_changed(base, sweep, value) for value in ("none", "adain", "wavelet")]
            case "consistency":
                found += [Setting(sweep, f"{value:g}", base, value) for value in _CONSISTENCY]
            case _:
                assert_never(sweep)
    return found


def run(params: Params, executor: Executor, method_name: str) -> None:
    """Sweep the settings, then draw the maps; both on the first images of the split, in the order of keys."""
    spec, base = params.active.dial, params.active.evaluate.sample
    folder = layout.model_folder(method_name)
    log.info("dial      %s · sweeps of %s", method_name, ", ".join(spec.sweeps))
    swept = _Swept(params, folder)
    points = settings(base, spec.sweeps, swept.num_train_timesteps, swept.restorer_dials)
    keys = by_turns(swept.keys)[: spec.images or None]  # of as many photographs as there are
    wanted = [ToRestore(key, point.sample, params.seed, point.dial) for point in points for key in keys]
    wanted += [ToRestore(key, base, params.seed + offset) for key in keys for offset in range(spec.seeds)]
    restore_ahead(list(dict.fromkeys(wanted)), lambda: swept.trained, executor, *swept.place, stage="dial")
    progress, found = Progress("dial", (len(points) + spec.seeds) * len(keys), unit="images"), []
    for setting in points:
        rows, residuals = [], []
        for key in keys:
            picture, difference = swept.restored(key, setting)
            rows.append(score_image(SPLIT, key, method_name, picture, swept.hr(key), swept.metrics))
            residuals.append(float(difference.mean()))
            progress.advance()
        table = ScoreTable(SPLIT, tuple(metric.name for metric in swept.metrics), (method_name,), tuple(rows))
        scores = {m: table.mean(method_name, m) for m in table.metrics if table.values(method_name, m)}
        scores[LR_RESIDUAL] = float(np.mean(residuals))
        found.append(SweepPoint(method_name, setting.sweep, setting.value, scores, len(keys)))
    maps = layout.maps_folder(method_name)
    shutil.rmtree(maps, ignore_errors=True)
    maps.mkdir(parents=True)
    drawn = []
    for key in keys:
        drawn.append(_draw(swept, key, Setting("map", "0", base), spec.seeds, maps))
        progress.advance(spec.seeds)
    progress.close()
    write_sweep(layout.sweep_csv(method_name), found)
    write_maps(maps / "maps.csv", drawn)
    write_json(layout.map_means(method_name), {SPLIT: {method_name: means(drawn)}})
    for line in _lines(found, means(drawn)):
        log.info("dial      %s", line)


class _Swept:
    """A trained method at any setting of a sweep, and hr beside its results."""

    def __init__(self, params: Params, folder: Path) -> None:
        spec = params.active.evaluate
        self.seed, self.scale = params.seed, read_model_config(folder).scale
        self.metrics = build_metrics(spec.metrics)
        self.place = folder, layout.SHARDS, columns_of(params.sections()), Cache(), spec.precision, spec.batch_size
        self.trained = trained = restoration(*self.place)
        self.num_train_timesteps, self.keys = trained.num_train_timesteps, trained.dataset.keys
        self.restorer_dials, self._hr = trained.restorer_dials, ColumnReader(layout.SHARDS, HR)

    def hr(self, key: str) -> ImageU8:
        """Ground truth."""
        return self._hr.read(key, "hr.png")

    def restored(self, key: str, setting: Setting, offset: int = 0) -> tuple[ImageU8, np.ndarray]:
        """The result at a setting with noise seed `seed + offset`, and its LR residual (u, v) in grey levels."""
        batch = self.trained.batch(key, setting.dial)
        picture = self.trained.restore(batch, self.seed + offset, setting.sample)
        if setting.consistency:
            picture = to_pixels(project(to_tensor(picture), batch.lr, self.scale, setting.consistency))[0]
        return picture, self._residual(picture, batch)

    def _residual(self, picture: ImageU8, batch: Batch) -> np.ndarray:
        return 255 * residual(to_tensor(picture), batch.lr, self.scale)[0].numpy()


def _draw(swept: _Swept, key: str, setting: Setting, seeds: int, folder: Path) -> MapScores:
    """Write both maps of an image; their means, and how the first correlates with the error that is really made."""
    results = [swept.restored(key, setting, offset) for offset in range(seeds)]
    deviation, difference = luma_deviation(picture for picture, _ in results), results[0][1]
    large = cv2.resize(difference, deviation.shape[::-1], interpolation=cv2.INTER_NEAREST)
    for name, levels in ((DEVIATION, deviation), (LR_RESIDUAL, large)):
        write_png(picture_of(folder, key, name), as_picture(levels))
    error = np.abs(results[0][0].astype(np.float32) - swept.hr(key)).mean(axis=2)
    flat = deviation.std() == 0 or error.std() == 0
    correlation = None if flat else float(np.corrcoef(_blurred(deviation), _blurred(error))[0, 1])
    return MapScores(key, float(deviation.mean()), float(difference.mean()), correlation)


def _blurred(levels: np.ndarray) -> np.ndarray:
    """A map at the scale at which a person reads it, flattened."""
    return cv2.GaussianBlur(levels, (0, 0), 4).ravel()


def _changed(base: SampleSpec, name: str, value: float | int | str) -> Setting:
    return Setting(
        name, f"{value:g}" if isinstance(value, float) else str(value), base.model_copy(update={name: value})
    )


def _lines(points: Sequence[SweepPoint], mapped: Mapping[str, float]) -> Iterator[str]:
    front = front_of(points)
    for index, point in enumerate(points):
        scores = "  ".join(f"{name} {value:.4f}" for name, value in point.means.items())
        yield f"{point.sweep:<12}{point.value:<8}{scores}{'  on the front' if index in front else ''}"
    yield f"{len(front)} of {len(points)} settings are on the Pareto front of PSNR and NIQE"
    yield "maps: " + "  ".join(f"{name} {value:.4f}" for name, value in mapped.items())
