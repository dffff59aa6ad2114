"""The report: scores, pictures and curves -> one self-contained HTML page and tradeoff.csv.

The page asks for nothing: styles, script and pictures are inside it, and its content policy forbids every request and
every script but its own. Its bytes are a function of its input (no date, no path of this machine). Captions and tags
come from models, so they are data: escaped wherever they are shown. `page/` holds the template, styles and script.
"""

import base64
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spasemsr.evaluation.scores import write_tradeoff
from spasemsr.report import figures, view
from spasemsr.report.data import Example, ReportData
from spasemsr.report.guidance import guidance, probe
from spasemsr.report.pictures import Embedded, Quality, embed_all

log = logging.getLogger(__name__)

MAX_EXAMPLES = 100
_PAGE = Path(__file__).parent / "page"


def build_page(data: ReportData, page: Path, tradeoff: Path) -> int:
    """Write the page and tradeoff.csv; returns the page's size in bytes.

    Raises UserError where pictures and scores are of different keys or methods, or a picture cannot be read.
    """
    shown = _spread(data.examples, MAX_EXAMPLES)
    pictures, quality = embed_all([path for example in shown for path in _files(example, data).values()])
    style, script = ((_PAGE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    cards = [_card(index, example, data, pictures, page) for index, example in enumerate(shown)]
    html = environment.get_template("report.html").render(
        title=data.title,
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        lede=view.lede(data),
        facts=data.facts,
        methods=data.methods,
        colours=data.colours,
        metrics=data.metrics,
        summary=view.summary(data),
        differences=view.differences(data),
        undefined=view.undefined(data),
        planes=view.planes(data),
        sweeps=view.sweeps(data),
        invented=view.invented(data),
        curves=view.curves(data),
        guidance=guidance(data),
        probe=probe(data),
        cards=cards,
        count=len(data.examples),
        rows=view.score_rows(data, shown),
        several_splits=len(data.tables) > 1,
        picture_note=_picture_note(quality, pictures),
        ingest=view.flat(data.ingest),
        provenance=view.flat(data.provenance),
        sets=data.summary["sets"],
        payload={"first": view.featured(data, shown), "images": _payload(cards)},
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")
    write_tradeoff(tradeoff, data.tables)
    size = page.stat().st_size
    log.info("report    %d images · %.1f MB · pictures %s", len(shown), size / 1e6, quality.describe())
    return size


def _spread(examples: Sequence[Example], most: int) -> list[Example]:
    """At most so many examples, evenly spread over the sorted keys."""
    ordered = sorted(examples, key=lambda example: (example.split, example.key))
    if len(ordered) <= most:
        return ordered
    return [ordered[place * len(ordered) // most] for place in range(most)]


def _files(example: Example, data: ReportData) -> dict[str, Path]:
    """Picture files by name, in the order they stand side by side."""
    files = {"lr": example.lr, **example.outputs, **({"hr": example.hr} if example.hr else {})}
    maps = {name: shown.path for name, shown in example.maps.items()}
    return {**{name: files[name] for name in data.side_by_side if name in files}, **maps}


def _card(
    index: int, example: Example, data: ReportData, pictures: Mapping[Path, Embedded], page: Path
) -> dict[str, Any]:
    """One image with its pictures side by side."""
    table = next(table for table in data.tables if table.split == example.split)
    scores = {row.method: row.values for row in table.rows if row.key == example.key}
    objects = figures.boxes(example.objects)
    files = _files(example, data)
    looked_at = example.objects.get("source", "lr")
    strip = []
    for name, path in files.items():
        picture, shown = pictures[path], example.maps.get(name)
        strip.append(
            {
                "name": name,
                "label": shown.label if shown else data.labels[name],
                "map": shown.score if shown else "",
                "id": f"p{index}-{name}",
                "uri": picture.uri,
                "width": picture.width,
                "height": picture.height,
                "original": _relative(path, page),
                "scores": [
                    (metric.label, view.digits(scores[name][metric.name], metric))
                    for metric in data.metrics
                    if metric.name in scores.get(name, {})
                ],
                "boxes": objects if name == (looked_at if looked_at in files else "lr") else [],
            }
        )
    return {
        "index": index,
        "key": example.key,
        "split": example.split,
        "name": example.name,
        "caption": example.caption,
        "objects": objects,
        "areas": figures.areas(example.objects),
        "strip": strip,
        "degradation": view.flat(example.degradation),
    }


def _payload(cards: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the script needs to know about each image; the pixels stay in the cards."""
    return [
        {
            "key": card["key"],
            "name": card["name"],
            "caption": card["caption"],
            "pictures": [
                {part: picture[part] for part in ("name", "label", "id", "map", "scores", "width", "height")}
                for picture in card["strip"]
            ],
            "boxes": [
                {"tag": box.tag, "left": box.left, "top": box.top, "width": box.width, "height": box.height}
                for box in card["objects"]
            ],
        }
        for card in cards
    ]


def _picture_note(quality: Quality, pictures: Mapping[Path, Embedded]) -> str:
    """How the pictures on the page differ from the files, if they do."""
    reduced = any(max(image.width, image.height) > quality.side for image in pictures.values())
    if quality.webp is None and not reduced:
        return "Pictures on this page are the pixels that were scored, embedded without loss."
    return f"Pictures on this page are {quality.describe()}; scores are of the original files, linked under each."


def _relative(path: Path, page: Path) -> str | None:
    """A link to the original file, if it lies at or under the page's folder."""
    try:
        return path.resolve().relative_to(page.parent.resolve()).as_posix()
    except ValueError:
        return None
