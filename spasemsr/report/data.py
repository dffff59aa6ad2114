"""What the report is made of: scores, pictures and the model's conditions, as the stage hands them over.

The contract between `pipeline/stages/report.py`, which knows where everything lies, and the page, which does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spasemsr.errors import UserError
from spasemsr.evaluation.maps import MapScores
from spasemsr.evaluation.metrics import Metric
from spasemsr.evaluation.pareto import SweepPoint
from spasemsr.evaluation.scores import ScoreTable, check_keys


@dataclass(frozen=True)
class MethodRow:
    """How a method of the score tables is called on the page; the project's methods come before the baselines."""

    name: str
    label: str
    baseline: bool = True


@dataclass(frozen=True)
class MapPicture:
    """A map over an image, in grey levels times `deviation.GAIN`, with what it shows and its mean in words."""

    path: Path
    label: str
    score: str


@dataclass(frozen=True)
class Example:
    """One evaluated image: its pictures, the conditions given with it, and how it was degraded.

    `outputs` maps a method to its picture; `objects` is `objects.json`, whose `source` names the picture (a method,
    "hr" or "lr") that was looked at; `degradation` is the trace of the drawn parameters; `maps` by name, if any, show
    what the project's method makes up and what contradicts lr.
    """

    split: str
    key: str
    name: str
    lr: Path
    outputs: Mapping[str, Path]
    hr: Path | None = None
    caption: str = ""
    objects: Mapping[str, Any] = field(default_factory=dict)
    degradation: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, MapPicture] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows.

    `tables` list the project's methods before the baselines, `methods` names them; one called "hr" in the tables is
    the ground truth's own level and needs no name. `summary` is `intervals.summarize` of `tables`; `losses` maps a
    method to the rows of its losses.csv, `validation` to those of its validation.csv if it has one; `facts` are the few
    settings a reader wants first; `provenance` is anything nested (params, digests, revisions), `ingest` the counts of
    reports/ingest.json, `sweep` and `maps` (scores by method) what stage dial wrote, `audits` what stage audit did, by
    method.
    """

    title: str
    tables: Sequence[ScoreTable]
    metrics: Sequence[Metric]
    summary: Mapping[str, Any]
    methods: Sequence[MethodRow]
    examples: Sequence[Example]
    losses: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    validation: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    ingest: Mapping[str, Any] = field(default_factory=dict)
    sweep: Sequence[SweepPoint] = ()
    maps: Mapping[str, Sequence[MapScores]] = field(default_factory=dict)
    audits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Pictures and scores are of the same keys and methods, or a UserError names what differs."""
        for table in self.tables:
            given = [example.key for example in self.examples if example.split == table.split]
            check_keys(table.keys, given, f"The list of pictures of split {table.split!r}")
            scored = [method for method in table.methods if method != "hr"]
            if unknown := [method for method in scored if method not in self.labels]:
                raise UserError(f"Scored methods without a name on the page: {', '.join(unknown)}.", "Name them.")
            for example in self.examples:
                missing = [method for method in scored if method not in example.outputs]
                if missing and example.split == table.split:
                    raise UserError(f"{example.key} has no picture of {', '.join(missing)}.", "Run: dvc repro evaluate")

    @property
    def labels(self) -> dict[str, str]:
        """What each picture and method is called on the page."""
        return {"lr": "LR", **{row.name: row.label for row in self.methods}, "hr": "Ground truth"}

    @property
    def colours(self) -> dict[str, str]:
        """The CSS class that colours each method."""
        names = {row.name: f"m{place % 8}" for place, row in enumerate(self.methods)}
        return {**names, "hr": "mhr", "lr": "mlr"}

    @property
    def ours(self) -> MethodRow:
        """The method the page is about: the first that is no baseline, or else the first."""
        return next((row for row in self.methods if not row.baseline), self.methods[0])

    @property
    def side_by_side(self) -> list[str]:
        """The order of pictures from worst known to best known: lr, baselines, the project's methods, hr."""
        baselines = [row.name for row in self.methods if row.baseline]
        return ["lr", *baselines, *(row.name for row in self.methods if not row.baseline), "hr"]
