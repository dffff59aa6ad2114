"""Stage report: scores, pictures, curves and the model's conditions -> one page, and the trade-off as a table."""

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import layout
from spasemsr.config import Params
from spasemsr.data.columns import CAPTION, LR, OBJECTS
from spasemsr.data.patches import Patch, read_patches
from spasemsr.data.shards import ColumnReader
from spasemsr.evaluation.intervals import summarize
from spasemsr.evaluation.maps import DEVIATION, LABELS, LR_RESIDUAL, MapScores, picture_of, read_maps
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.pareto import SweepPoint, read_sweep
from spasemsr.evaluation.scores import ScoreTable, merge, read_per_image, write_json
from spasemsr.images.deviation import GAIN
from spasemsr.methods import method as face_of
from spasemsr.methods import names
from spasemsr.methods.compared import RESTORER, label
from spasemsr.methods.stored import read_config
from spasemsr.report.build import build_page
from spasemsr.report.data import Example, MapPicture, MethodRow, ReportData
from spasemsr.training.spec import TrainSpec

log = logging.getLogger(__name__)


def run(params: Params) -> None:
    """Write reports/report.html, reports/tradeoff.csv and reports/summary.json from what evaluation left."""
    readers = {column.name: ColumnReader(layout.SHARDS, column) for column in (LR, OBJECTS, CAPTION)}
    tables = merge(
        table for method in params.methods for table in read_per_image(layout.scores_folder(method) / "per_image.csv")
    )
    metrics = build_metrics(params.active.evaluate.metrics)
    log.info("report    %s · %d images", ", ".join(params.methods), sum(len(table.keys) for table in tables))
    summary = summarize(tables, metrics, params.seed)
    write_json(layout.SUMMARY, summary)
    rows = [name for table in tables for name in table.methods if name != "hr"]
    methods = [MethodRow(name, _label(name), name not in params.methods) for name in dict.fromkeys(rows)]
    spec, steps = params.active, params.active.evaluate.sample.steps
    maps: dict[str, list[MapScores]] = {method: _maps(method) for method in params.methods}
    data = ReportData(
        title=f"×4 restoration of held-out {'photographs' if spec.data.scenes is None else 'scenes'}",
        tables=tables,
        metrics=metrics,
        summary=summary,
        methods=methods,
        examples=[_example(patch, table, params, readers, maps) for table in tables for patch in _patches(table)],
        losses={method: _losses(layout.losses_csv(method)) for method in params.methods},
        validation={
            method: _losses(path) for method in params.methods if (path := layout.validation_csv(method)).exists()
        },
        facts={
            "profile": params.profile,
            "degradation": params.degradation.preset,
            "lambda": str(params.lambda_),
            "training": "; ".join(dict.fromkeys(_training(spec.train_of(name)) for name in params.methods)),
            "sampling": f"{spec.evaluate.sample.solver}, {steps} {'step' if steps == 1 else 'steps'}",
            "seed": str(params.seed),
        },
        provenance={
            "params": {key: value for key, value in params.plain().items() if key != "photographs"},
            "models": {method: _origin(method) for method in params.methods},
        },
        ingest=json.loads(layout.INGEST_REPORT.read_text(encoding="utf-8")),
        sweep=[point for method in params.methods for point in _sweep(method)],
        maps={method: rows for method, rows in maps.items() if rows},
        audits={method: found for method in params.methods if (found := _audit(method))},
    )
    build_page(data, layout.PAGE, layout.TRADEOFF)


def _training(spec: TrainSpec) -> str:
    return f"{spec.steps} steps of {spec.global_batch} patches"


def _label(name: str) -> str:
    """What a method or baseline is called on the page."""
    return face_of(name).label if name in names() else label(name)


def _patches(table: ScoreTable) -> list[Patch]:
    return [patch for patch in read_patches(layout.PATCHES) if patch.key in set(table.keys)]


def _example(
    patch: Patch, table: ScoreTable, params: Params, readers: dict[str, ColumnReader], maps: dict[str, list[MapScores]]
) -> Example:
    """The pictures of one image and the conditions given with it."""
    folders = {method: layout.images_folder(method) for method in params.methods}
    shared = folders[params.methods[0]]
    outputs = {method: folder / f"{patch.key}.{method}.png" for method, folder in folders.items()}
    others = [name for name in table.methods if name not in (*params.methods, "hr")]
    outputs |= {name: shared / f"{patch.key}.{name}.png" for name in others}
    objects = dict(readers[OBJECTS.name].read(patch.key, "objects.json"))
    if objects["source"] == "restored":  # boxes fit lr as well where the restorer is no baseline
        objects["source"] = RESTORER if RESTORER in outputs else "lr"
    return Example(
        split=patch.split,
        key=patch.key,
        name=f"{Path(patch.path).stem} ({patch.x}, {patch.y})",
        lr=shared / f"{patch.key}.lr.png",
        outputs=outputs,
        hr=shared / f"{patch.key}.hr.png",
        caption=readers[CAPTION.name].read(patch.key, "caption.0.json")["text"],
        objects=objects,
        degradation=readers[LR.name].read(patch.key, "degradation.0.json"),
        maps={name: shown for method in params.methods for name, shown in _shown(method, patch.key, maps)},
    )


def _sweep(method: str) -> list[SweepPoint]:
    """What stage dial measured; nothing where the report is made by hand before it."""
    path = layout.sweep_csv(method)
    return read_sweep(path) if path.exists() else []


def _audit(method: str) -> dict[str, Any]:
    """What stage audit found, likewise."""
    path = layout.audit_folder(method) / "audit.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _maps(method: str) -> list[MapScores]:
    """The scores of the maps, likewise."""
    path = layout.maps_folder(method) / "maps.csv"
    return read_maps(path) if path.exists() else []


def _shown(method: str, key: str, maps: dict[str, list[MapScores]]) -> Iterator[tuple[str, MapPicture]]:
    """Both maps of one image, if it is among those that have them."""
    of = f", {_label(method)}" if len(maps) > 1 else ""
    for row in maps[method]:
        if row.key == key:
            for name, mean in ((DEVIATION, row.deviation), (LR_RESIDUAL, row.lr_residual)):
                path = picture_of(layout.maps_folder(method), key, name)
                yield (
                    f"{method}.{name}",
                    MapPicture(path, LABELS[name] + of, f"mean {mean:.2f} grey levels, drawn ×{GAIN}"),
                )


def _losses(path: Path) -> list[dict[str, Any]]:
    """The rows of a losses.csv or validation.csv as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _origin(method: str) -> dict[str, Any]:
    """What a model says of itself beyond the params: identities of frozen parts and digests of its columns."""
    config = read_config(layout.model_folder(method))
    return {"identities": config["identities"], "columns": config["columns"]}
