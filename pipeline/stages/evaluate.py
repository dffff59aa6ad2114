"""Stage evaluate: a trained method restores the evaluation split and is scored beside the baselines of params.yaml."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.engine.executors import Executor
from pipeline.engine.restoring import ToRestore, restoration, restore_ahead
from spasemsr.backends.identity import Identity
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import HR, LR, RESTORED
from spasemsr.data.dataset import Dataset
from spasemsr.data.shards import ColumnReader
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.evaluation.intervals import interval
from spasemsr.evaluation.metrics import Metric, build_metrics
from spasemsr.evaluation.restoration import SPLIT, CachedRestoration
from spasemsr.evaluation.scores import Row, ScoreTable, score_image, write_metrics, write_per_image
from spasemsr.methods.columns import columns_of
from spasemsr.methods.compared import BICUBIC, RESTORER, network_of, networks, row_name
from spasemsr.methods.noise import Noise
from spasemsr.methods.stored import read_model_config
from spasemsr.pixels import ImageU8, to_pixels, write_png
from spasemsr.progress import Progress

if TYPE_CHECKING:
    from spasemsr.evaluation.constraints import ConstraintErrors
    from spasemsr.methods.protocol import Method

log = logging.getLogger(__name__)


def run(params: Params, executor: Executor, method_name: str) -> None:
    """Restore and score every evaluation image; pictures, per-image scores and their means are written together."""
    spec = params.active.evaluate
    folder = layout.model_folder(method_name)
    config = read_model_config(folder)
    metrics, others = build_metrics(spec.metrics), networks(spec.baselines)
    readers = {column.name: ColumnReader(layout.SHARDS, column) for column in (HR, LR)}
    count = len(readers[LR.name].keys(SPLIT))
    names = tuple(metric.name for metric in metrics)
    log.info("evaluate  %s · %d images · %s", method_name, count, ", ".join(names))

    place = folder, layout.SHARDS, columns_of(params.sections()), Cache(), spec.precision, spec.batch_size
    own = cache(partial(restoration, *place))
    keys = sorted(readers[LR.name].keys(SPLIT))
    restore_ahead([ToRestore(key, spec.sample, params.seed) for key in keys], own, executor, *place, stage="evaluate")
    trained, baselines = own(), _baselines(spec.baselines, others, config.scale)
    dataset = trained.dataset

    images = layout.images_folder(method_name)
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    progress, rows = Progress("evaluate", len(dataset.keys), unit="images"), []
    constraints = _constraints(params, method_name, trained.method)
    for key in dataset.keys:
        hr = readers[HR.name].read(key, "hr.png")
        batch = dataset.batch([key])
        outputs: dict[str, ImageU8] = {method_name: trained.restore(batch, params.seed, spec.sample)}
        outputs |= {row: picture_of(key) for row, picture_of in baselines.items()}
        for name, picture in {**outputs, "lr": readers[LR.name].read(key, "lr.0.png"), "hr": hr}.items():
            write_png(images / f"{key}.{name}.png", picture)
        rows += [score_image(SPLIT, key, name, picture, hr, metrics) for name, picture in outputs.items()]
        rows += _ground_truth(key, hr, metrics)
        constraints.add(batch, hr)
        progress.advance()
    progress.close()
    errors = constraints.errors()
    rows = [
        replace(row, values={**row.values, **errors[row.key]}) if row.method == method_name else row for row in rows
    ]
    names += constraints.names
    known = ["hr"] if any(row.method == "hr" for row in rows) else []  # every metric may need a reference
    table = ScoreTable(SPLIT, names, (*outputs, *known), tuple(rows))
    scores = layout.scores_folder(method_name)
    write_per_image(scores / "per_image.csv", [table])
    bounds = {name: interval(table.values(method_name, name), params.seed, name) for name in constraints.names}
    write_metrics(scores / "metrics.json", [table], bounds)
    for name in table.methods:
        means = (f"{metric} {table.mean(name, metric):.4f}" for metric in names if table.has(name, metric))
        log.info("evaluate  %-9s %s", name, "  ".join(means))


def _constraints(params: Params, method_name: str, method: "Method") -> "ConstraintErrors":
    """How far the method is from what its own loss holds it to; features of hr are made as its column has them."""
    from spasemsr.backends.extractors import build_extractor
    from spasemsr.evaluation.constraints import ConstraintErrors

    spec, features = params.active.evaluate, params.sections()[method_name].features
    compared = {name for names in method.constraints.values() for name in names}
    extractors = {name: build_extractor(getattr(features, name)) for name in sorted(compared)}
    return ConstraintErrors(method, extractors, params.seed, spec.sample, spec.precision)


def _baselines(names: Sequence[str], known: Mapping[str, Identity], scale: int) -> dict[str, Callable[[str], ImageU8]]:
    """Row of the tables -> what gives its picture of a key; a network restores an image once, then the cache has it."""
    from spasemsr.backends.restorer import build_restorer
    from spasemsr.methods.baselines import Bicubic, Restored

    dataset, drm, bicubic = Dataset(layout.SHARDS, [LR], SPLIT), ColumnReader(layout.SHARDS, RESTORED), Bicubic(scale)
    found: dict[str, Callable[[str], ImageU8]] = {}

    def through(restore: CachedRestoration) -> Callable[[str], ImageU8]:
        return lambda key: restore(dataset.batch([key]), 0, SampleSpec())  # no baseline draws noise or samples

    for name in names:
        if name == BICUBIC:
            found[name] = lambda key: to_pixels(bicubic.restore(dataset.batch([key]), Noise(0, 0), SampleSpec()))[0]
        elif name == RESTORER:
            found[name] = lambda key: drm.read(key, "restored.0.png")
        elif name in known:
            method = Restored(build_restorer(network_of(name), "any"), scale)
            found[row_name(name)] = through(CachedRestoration(method, Cache(), ["baseline", known[name]]))
    return found


def _ground_truth(key: str, hr: ImageU8, metrics: list[Metric]) -> list[Row]:
    """The level of the ground truth itself, for metrics that need no reference."""
    alone = [metric for metric in metrics if not metric.needs_reference]
    return [score_image(SPLIT, key, "hr", hr, hr, alone)] if alone else []
