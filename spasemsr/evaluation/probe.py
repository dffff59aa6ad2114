"""The probe's table: whether words and captions act, and where, on scenes whose truth is known.

Each row changes a condition and compares the result with the scene that was asked for. Conditions that a method
does not have make no row, whatever the method; what chance would give stands beside every row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spasemsr.data.dataset import Batch
from spasemsr.evaluation.conditions import exchanged, recaptioned, refeatured, silenced, unplaced, untagged
from spasemsr.evaluation.findings import PROBE_ROWS
from spasemsr.evaluation.metrics import psnr_y
from spasemsr.pixels import ImageU8
from spasemsr.scenes.reading import Agreement, agreement
from spasemsr.scenes.scene import LEVELS, TEXTURES, Scene

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Question:
    """One row's question about one scene: the method's conditions, the scene asked for, and which regions count."""

    row: str
    batch: Batch
    asked: Scene
    regions: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """How far one result is the scene that was asked for; PSNR on Y is against that scene, textures and all."""

    row: str
    agreement: Agreement
    psnr: float
    objects: int
    regions: int


def rows(conditions: frozenset[str]) -> list[str]:
    """The rows that a method with these conditions can be asked."""
    return [row for row, (_, needed) in PROBE_ROWS.items() if needed <= conditions]


@dataclass(frozen=True)
class Maps:
    """The features that are a method's maps, and what a map that is known says of a scene, by name, (1, C, h, w)."""

    names: Sequence[str]
    of: "Callable[[Scene], Mapping[str, Tensor]]"


def questions(batch: Batch, scene: Scene, conditions: frozenset[str], maps: Maps) -> Iterator[Question]:
    """What a method with these conditions is asked about a scene, its batch of one given."""
    everywhere = tuple(range(len(scene.regions)))
    turned = _renamed(scene, [*scene.names[1::-1], *scene.names[2:]])
    for row in rows(conditions):
        match row:
            case "own":
                yield Question(row, batch, scene, everywhere)
            case "exchanged" if len(everywhere) > 1:
                yield Question(row, exchanged(batch, *scene.names[:2]), turned, (0, 1))
            case "remapped" if len(everywhere) > 1 and (known := maps.of(turned)):
                yield Question(row, refeatured(batch, known), turned, (0, 1))
            case "unmapped":
                yield Question(row, silenced(batch, maps.names), scene, everywhere)
            case "unplaced":
                yield Question(row, unplaced(batch), scene, everywhere)
            case "untagged":
                yield Question(row, untagged(batch), scene, everywhere)
            case "recaptioned":
                caption = next(level for level in LEVELS if level != scene.caption)
                yield Question(row, recaptioned(batch, caption), replace(scene, caption=caption), everywhere)


def answer(question: Question, result: ImageU8) -> Answer:
    """Whether a result, (side, side, 3) uint8, shows the textures that the question asked for, where it asked."""
    found = agreement(result, question.asked, question.regions)
    return Answer(
        question.row,
        found,
        psnr_y(result, question.asked.picture()),
        len(question.asked.regions),
        len(question.regions),
    )


def table(answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    """Rows by name: the shares over all regions that count, mean PSNR, and what chance gives.

    `place_by_chance` is 1 in all textures; `place_of_kind_by_chance` 1 in those the scene has, where only they are
    known; `kind_by_chance` the share of all textures that the scene has; `level_by_chance` 1 in the captions.
    """
    found = {}
    for row in PROBE_ROWS:
        own = [answer for answer in answers if answer.row == row]
        if not own:
            continue
        weights = np.array([answer.regions for answer in own], np.float64)
        shares = {name: [asdict(answer.agreement)[name] for answer in own] for name in ("place", "kind", "level")}
        objects = np.array([answer.objects for answer in own], np.float64)
        means = {name: np.average(values, weights=weights) for name, values in shares.items()}
        means["psnr"] = np.mean([answer.psnr for answer in own])
        means["place_by_chance"] = 1 / len(TEXTURES)
        means["place_of_kind_by_chance"] = np.average(1 / objects, weights=weights)
        means["kind_by_chance"] = np.average(objects / len(TEXTURES), weights=weights)
        means["level_by_chance"] = 1 / len(LEVELS)
        found[row] = {name: round(float(value), 4) for name, value in means.items()}
        found[row] |= {"scenes": len(own), "regions": int(weights.sum())}
    return found


def lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The table as it is printed."""
    yield f"{'conditions':<40}{'right place':>12}{'a texture of the scene':>24}{'as strong':>11}{'PSNR-Y':>9}"
    for name, row in found.items():
        yield (
            f"{PROBE_ROWS[name][0]:<40}{row['place']:>12.3f}{row['kind']:>24.3f}{row['level']:>11.3f}{row['psnr']:>9.2f}"
        )


def _renamed(scene: Scene, names: Sequence[str]) -> Scene:
    regions = (replace(region, name=name) for region, name in zip(scene.regions, names, strict=True))
    return replace(scene, regions=tuple(regions))
