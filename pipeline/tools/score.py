"""`spasemsr score`: outputs of any code against hr by the one protocol; means with intervals, CSV and JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.tools import family
from spasemsr.errors import UserError
from spasemsr.evaluation import metrics, testsets
from spasemsr.evaluation.comparison import score_pairs
from spasemsr.evaluation.fid import COLOUR_SPACE, LABEL, RECIPE, Fid
from spasemsr.evaluation.folders import index, left_below
from spasemsr.evaluation.intervals import summarize
from spasemsr.evaluation.metrics import Metric, build_metric
from spasemsr.evaluation.naming import advice
from spasemsr.evaluation.pairing import pair
from spasemsr.evaluation.scores import ScoreTable, check_keys, require_writable, write_json, write_per_image
from spasemsr.hashing import digest_of, sha256_file

METRICS = (*metrics.NAMES, "fid")
_LISTED = 10  # pictures in what is printed
SEED = 0  # of the bootstrap: an interval is a function of the scores


@dataclass(frozen=True)
class Request:
    """What to score and where to write; `test_set` None is a folder without a name."""

    outputs: Path
    hr: Path | None
    test_set: str | None = None
    metrics: tuple[str, ...] = ()
    method: str = "outputs"
    strip: tuple[str, ...] = ()
    csv: Path | None = None
    json: Path | None = None
    workers: int | None = None
    partial: bool = False  # leave out what cannot be scored, and say so
    cut: bool = False  # where sizes differ by a few pixels, cut off what only one has


def run(request: Request) -> Iterator[str]:
    """Score and write; yields the lines to print. Raises UserError before anything is written."""
    known = testsets.named(request.test_set) if request.test_set else None
    for path in filter(None, (request.csv, request.json)):
        require_writable(path)
    if request.csv and request.json and request.csv.resolve() == request.json.resolve():
        raise UserError(f"--csv and --json are one file, {request.csv}.", "Name another for one of them.")
    hr_folder = request.hr or (known.folder("hr") if known and known.paired else None)
    if hr_folder is None and known is None and not request.metrics:
        remedy = "Give --hr FOLDER, --set NAME, or --metrics that need no reference, as niqe."
        raise UserError("There is nothing to compare with.", remedy)
    if known and (request.partial or request.cut):
        raise UserError("A named set is scored whole.", "Leave out --partial and --cut, or score without --set.")
    if known and request.hr and not known.paired:
        raise UserError(f"{known.label} has no hr.", f"Leave out --hr, and put its lr into {known.folder('lr')}.")
    if hr_folder and hr_folder.is_dir() and request.outputs.is_dir() and hr_folder.samefile(request.outputs):
        raise UserError("The results and hr are the same folder.", "Give the folder of hr with --hr.")
    endings = (*request.strip, *(known.strip if known else ()))
    unusable: dict[str, str] = {}
    outputs = index(request.outputs, "outputs", endings, unusable if request.partial else None)
    needed = hr_folder or (known.folder("lr") if known else None)
    if known and needed and not needed.is_dir():
        raise UserError(
            f"{known.label}: there is no folder {needed}.",
            f"It is {known.source} ({known.licence}); put it there{', or say where it is with --hr' * known.paired}.",
        )
    hr = None if hr_folder is None else index(hr_folder, "hr", endings, unusable if request.partial else None)
    if known and hr is not None:
        family.require_size(known, hr)
    checked = testsets.verify(known, hr or _inputs(known, endings)) if known else {}
    if known and hr is None:
        inputs = _inputs(known, endings)
        check_keys(inputs, list(outputs), f"The folder of {request.method}", f" {advice(inputs, outputs)}".rstrip())
    names = request.metrics or (("psnr", "ssim") if hr is not None else ("niqe",))
    metrics, fid, unavailable = available(names, len(outputs))
    if hr is None:
        _require_none_needs_hr(metrics, names)
    pairs = pair(request.method, outputs, hr, metrics, request.partial, request.cut, request.workers)
    if len(pairs.files) < len(outputs):
        metrics, fid, unavailable = available(names, len(pairs.files))
    split = known.name if known else "given"
    table, treatments = score_pairs(split, request.method, pairs, metrics, request.cut, request.workers)
    summary = summarize([table], metrics, SEED)
    if treatments.keys() & {"cut", "hr:cut"}:
        for row in summary["rows"]:
            row["crop"] = "to the size that result and hr have in common"
    if fid and hr is not None:
        value = fid([pairs.files[key][0] for key in table.keys], [hr[key] for key in table.keys])
        summary["rows"].append(fid.row(value, request.method, split, len(table.keys)))
    if hr is None and not known:
        checked = {"checked": "without hr or --set nobody knows whether a result is missing"}
    elif hr is not None and not known:
        checked = {"hr_sha256": digest_of((key, sha256_file(hr[key])) for key in table.keys)}
    below = left_below(request.outputs)
    record = {
        **summary,
        "method": request.method,
        "set": {"name": split, "n": len(table.keys), "keys_sha256": table.keys_sha256, **checked},
        "family": family.describe(table.keys, {key: hr[key] for key in table.keys} if hr else {}, known),
        "treatments": treatments,
        "unavailable": unavailable,
        "left_out": {**pairs.left_out, **unusable, **({"pictures in folders below": below} if below else {})},
        "strange": pairs.strange,
    }
    try:
        if request.csv:
            write_per_image(request.csv, [table])
        if request.json:
            write_json(request.json, record)
    except OSError:  # a full disk: what took hours to compute is said all the same
        yield from _lines(table, metrics, record)
        raise
    yield from _lines(table, metrics, record)


def available(names: Sequence[str], images: int) -> tuple[list[Metric], Fid | None, dict[str, str]]:
    """The metrics of these names that can be computed here on so many images, FID apart, and why the others cannot.

    Raises UserError for a name that no metric has, and where none can be computed.
    """
    metrics, fid, unavailable = [], None, {}
    for name in dict.fromkeys(names):
        if name not in METRICS:
            raise UserError(f"No metric named {name!r}.", f"Choose from: {', '.join(METRICS)}")
        try:
            if name == "fid":
                fid = Fid(images)
            else:
                metrics.append(build_metric(name))
        except UserError as error:
            unavailable[name] = f"{error.what} {error.remedy}"
    if not metrics and not fid:
        reasons = " ".join(f"{name}: {reason}" for name, reason in unavailable.items())
        raise UserError(f"No metric is left to compute. {reasons}", "Name others with --metrics.")
    return metrics, fid, unavailable


def _require_none_needs_hr(metrics: Sequence[Metric], names: Sequence[str]) -> None:
    needy = [metric.name for metric in metrics if metric.needs_reference] + ["fid"] * ("fid" in names)
    if needy:
        what = f"{', '.join(needy)} {'compares' if len(needy) == 1 else 'compare'} with hr, and there is none."
        raise UserError(what, "Give --hr, or --metrics that need no reference.")


def _inputs(known: testsets.TestSet, endings: Sequence[str]) -> dict[str, Path]:
    """The lr of an LR-only set, which is what its key list is made of."""
    return index(known.folder("lr"), f"{known.label}, lr", endings)


def _lines(table: ScoreTable, metrics: Sequence[Metric], record: dict[str, Any]) -> Iterator[str]:
    """What a person wants to see: means to 4 decimals with intervals, then everything that qualifies them."""
    yield f"{record['method']} · {table.split} · {len(table.keys)} images · keys {table.keys_sha256[:16]}"
    about = {metric.name: (metric.label, metric.colour_space, metric.recipe) for metric in metrics}
    about["fid"] = (LABEL, COLOUR_SPACE, RECIPE)
    for row in record["rows"]:
        label, colour_space, recipe = about[row["metric"]]
        mean = "undefined" if row["mean"] is None else f"{row['mean']:.4f}"
        bounds = "" if row["low"] is None else f"  [{row['low']:.4f}, {row['high']:.4f}]"
        left_out = (
            f"  without {len(row['undefined'])}: {', '.join(sorted(row['undefined']))}" if row["undefined"] else ""
        )
        yield f"{label:<8} {mean:>9}{bounds}  n {row['n']}  {colour_space}, {recipe}{left_out}"
    for name, reason in record["unavailable"].items():
        yield f"{name:<8} unavailable: {reason}"
    for name, count in record["treatments"].items():
        yield f"treated  {name} in {count} images"
    for name, remarks in (("strange", record["strange"]), ("left out", record["left_out"])):
        yield from (f"{name:<8} {key}: {reason}" for key, reason in islice(remarks.items(), _LISTED))
        if len(remarks) > _LISTED:
            yield f"{name:<8} {len(remarks)} in all, listed by --json"
    if "checked" in record["set"]:
        yield f"set      {record['set']['checked']}"
    yield f"family   {record['family']}"
