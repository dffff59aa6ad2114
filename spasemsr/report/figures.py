"""The geometry of the page's plots: loss curves, the perception-distortion plane, attention, object boxes.

Places are percentages of the plotting area (y counted downwards, as in SVG and CSS), so the page draws them at any
width with text that stays readable; what the axes and hovers say is text made here. No drawing library, no script.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spasemsr.backends.extractors.texture_words import TEXTURES

MAX_POINTS = 500  # of one curve; more are averaged in equal runs
_SMOOTHING = 0.03  # width (one sigma) of the smoothed curve's window, as a share of its length
_NAMES = {
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "diffusion": "diffusion loss",
    "semdeg_img": "structure loss (eq. 9)",
    "semdeg_sem": "semantics loss (eq. 9)",
    "total": "total loss",
}


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in percent."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point with what its hover says, and what stands beside it.

    `kind` is `mean`, `image`, `setting` or `step`, `group` colours it.
    """

    x: float
    y: float
    text: str
    group: str
    kind: str
    label: str = ""


@dataclass(frozen=True)
class Stroke:
    """An open line through points in percent; `kind` is `curve`, `raw`, `whisker` or `reference`."""

    points: tuple[tuple[float, float], ...]
    group: str
    kind: str

    def path(self) -> str:
        """SVG path data in a viewBox of 100 by 100."""
        return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in self.points)


@dataclass(frozen=True)
class Chart:
    """One plot: axes, strokes, dots; `description` says in words what it shows. `hover` is `x` or `nearest`."""

    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    strokes: tuple[Stroke, ...]
    dots: tuple[Dot, ...]
    hover: str


@dataclass(frozen=True)
class MeanPoint:
    """A method's mean on both axes, with its 95 % intervals (None for a single photograph)."""

    group: str
    label: str
    x: float
    y: float
    x_bounds: tuple[float, float] | None
    y_bounds: tuple[float, float] | None


@dataclass(frozen=True)
class Box:
    """An object over a picture: left, top, width, height in percent, its tag and score."""

    number: int
    left: float
    top: float
    width: float
    height: float
    tag: str
    score: float


def boxes(objects: Mapping[str, Any]) -> list[Box]:
    """`objects.json` (tags, boxes x0 y0 x1 y1 in [0, 1], scores) -> boxes to draw, numbered from 1; no areas."""
    found = []
    rows = zip(objects.get("tags", ()), objects.get("boxes", ()), objects.get("scores", ()), strict=True)
    for number, (tag, (x0, y0, x1, y1), score) in enumerate(rows, start=1):
        if tag in TEXTURES:
            continue
        left, top, right, bottom = (100 * min(max(float(side), 0.0), 1.0) for side in (x0, y0, x1, y1))
        place = (round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2))
        found.append(Box(number, *place, str(tag), float(score)))
    return found


def areas(objects: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Textures that fill areas of the picture, and the share of it that each fills, the largest first."""
    shares: dict[str, float] = {}
    for tag, (x0, y0, x1, y1) in zip(objects.get("tags", ()), objects.get("boxes", ()), strict=True):
        if tag in TEXTURES:
            shares[tag] = shares.get(tag, 0.0) + (x1 - x0) * (y1 - y0)
    return sorted(shares.items(), key=lambda item: -item[1])


def curve(rows: Sequence[Mapping[str, Any]], column: str, group: str) -> Chart | None:
    """One column of losses.csv over steps, raw and smoothed (lr is not); None where it holds no numbers."""
    points = [(_number(row.get("step")), _number(row.get(column))) for row in rows]
    kept = _thinned([(step, value) for step, value in points if step is not None and value is not None])
    if not kept:
        return None
    steps, values = [step for step, _ in kept], [value for _, value in kept]
    smooth = _smoothed(values) if column != "lr" else values
    x, y = _Axis.over(steps, exact=True), _Axis.over(values)
    dots = tuple(
        Dot(x.at(step), y.down(value), f"step {step:g}: {value:.4g} (smoothed {mean:.4g})", group, "step")
        for step, value, mean in zip(steps, values, smooth, strict=True)
    )
    return Chart(
        title=_NAMES.get(column, column.replace("_", " ")),
        description=f"{column}: from {smooth[0]:.4g} at step {steps[0]:g} to {smooth[-1]:.4g} at step {steps[-1]:g}",
        x_label="",
        y_label="",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(downwards=True),
        strokes=(
            Stroke(tuple((x.at(step), y.down(value)) for step, value in kept), group, "raw"),
            Stroke(tuple((x.at(step), y.down(mean)) for step, mean in zip(steps, smooth, strict=True)), group, "curve"),
        ),
        dots=dots,
        hover="x",
    )


def tradeoff(
    means: Sequence[MeanPoint],
    images: Sequence[tuple[str, str, float, float]],
    labels: tuple[str, str],
    reference: tuple[str, float] | None = None,
) -> Chart:
    """The perception-distortion plane: x distortion (higher is better), y naturalness (lower is better, drawn down).

    `images` are (method, text, x, y) of single images; `reference` is a level of y, the ground truth's.
    """
    bounds_x = [value for mean in means for value in (mean.x_bounds or ())]
    bounds_y = [value for mean in means for value in (mean.y_bounds or ())]
    x = _Axis.over([*(mean.x for mean in means), *bounds_x, *(image[2] for image in images)])
    levels = [reference[1]] if reference else []
    y = _Axis.over([*(mean.y for mean in means), *bounds_y, *(image[3] for image in images), *levels])
    strokes: list[Stroke] = []
    if reference:
        level = y.down(reference[1])
        strokes.append(Stroke(((0.0, level), (100.0, level)), "hr", "reference"))
    for mean in means:
        at, down = x.at(mean.x), y.down(mean.y)
        if mean.x_bounds:
            strokes.append(Stroke(tuple((x.at(bound), down) for bound in mean.x_bounds), mean.group, "whisker"))
        if mean.y_bounds:
            strokes.append(Stroke(tuple((at, y.down(bound)) for bound in mean.y_bounds), mean.group, "whisker"))
    dots = [Dot(x.at(px), y.down(py), text, group, "image") for group, text, px, py in images]
    for mean in means:
        text = f"{mean.label}: {labels[0]} {mean.x:.2f}, {labels[1]} {mean.y:.2f}"
        dots.append(Dot(x.at(mean.x), y.down(mean.y), text, mean.group, "mean"))
    return Chart(
        title="Perception and distortion",
        description="; ".join(dot.text for dot in dots if dot.kind == "mean"),
        x_label=f"{labels[0]}, more is closer to the truth →",
        y_label=f"{labels[1]}, less looks more natural ↓",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(downwards=True),
        strokes=tuple(strokes),
        dots=tuple(dots),
        hover="nearest",
    )


def sweep(
    runs: Mapping[str, Sequence[tuple[str, float, float]]],
    groups: Mapping[str, str],
    front: Sequence[tuple[float, float]],
    labels: tuple[str, str],
) -> Chart:
    """Sampling-time settings on the same plane: a curve per thing varied, in order, and the front of them all dashed.

    The ends of a curve are named.

    `runs` maps what is varied to (text, x, y); `groups` colours it.
    """
    points = [point for run in runs.values() for point in run]
    x, y = _Axis.over([px for _, px, _ in points]), _Axis.over([py for _, _, py in points])
    strokes = [
        Stroke(tuple((x.at(px), y.down(py)) for _, px, py in run), groups[name], "curve") for name, run in runs.items()
    ]
    strokes.append(Stroke(tuple((x.at(px), y.down(py)) for px, py in front), "hr", "reference"))
    dots = [
        Dot(
            x.at(px),
            y.down(py),
            f"{text}: {labels[0]} {px:.2f}, {labels[1]} {py:.2f}",
            groups[name],
            "setting",
            text if place in (0, len(run) - 1) else "",
        )
        for name, run in runs.items()
        for place, (text, px, py) in enumerate(run)
    ]
    return Chart(
        title="Sampling-time settings of the same weights",
        description="; ".join(dot.text for dot in dots),
        x_label=f"{labels[0]}, more is closer to the truth →",
        y_label=f"{labels[1]}, less looks more natural ↓",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(downwards=True),
        strokes=tuple(strokes),
        dots=tuple(dots),
        hover="nearest",
    )


def _in_order(layer: str) -> list[tuple[int, str]]:
    """ "unet 2" before "unet 10"."""
    return [(int(word), "") if word.isdigit() else (0, word) for word in layer.split()]


def _times(factor: float) -> str:
    """As it is read: 0.125, 2.83, 1024."""
    return f"{factor:.0f}" if factor >= 100 else f"{factor:.3g}"


def attention(ratios: Mapping[str, float], group: str) -> Chart:
    """Attention to an object's words inside its box over outside, layer by layer, on a scale of doublings; 1 dashed.

    Layers are in the network's order, 2 before 10, in whatever order they come: a JSON file sorts them as words.
    """
    layers = sorted(ratios, key=_in_order)
    levels = [math.log2(max(ratios[layer], 1e-6)) for layer in layers]
    x, y = _Axis.over(range(1, len(layers) + 1), exact=True), _Axis.doublings([0.0, *levels])
    places = [(x.at(number), y.down(level)) for number, level in enumerate(levels, start=1)]
    dots = tuple(
        Dot(*place, f"{layer}: {ratios[layer]:.2f} times", group, "setting")
        for place, layer in zip(places, layers, strict=True)
    )
    return Chart(
        title="Attention to an object's words, inside its box over outside",
        description="; ".join(dot.text for dot in dots),
        x_label="layer, in the order of the network",
        y_label="times as strong",
        x_ticks=tuple(tick for tick in x.ticks() if float(tick.text).is_integer()),
        y_ticks=tuple(Tick(tick.at, _times(2 ** float(tick.text))) for tick in y.ticks(downwards=True)),
        strokes=(
            Stroke(tuple(places), group, "curve"),
            Stroke(((0.0, y.down(0.0)), (100.0, y.down(0.0))), "hr", "reference"),
        ),
        dots=dots,
        hover="nearest",
    )


@dataclass(frozen=True)
class _Axis:
    """A range with round ticks."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Sequence[float], exact: bool = False) -> "_Axis":
        """The axis that holds these values; `exact` ends it at the extremes instead of at the next tick."""
        low, high = min(values), max(values)
        if high == low:
            low, high = low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2
        raw = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
        if exact:
            return cls(low, high, step)
        return cls(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step)

    @classmethod
    def doublings(cls, levels: Sequence[float]) -> "_Axis":
        """The axis that holds these logarithms to base 2, its ticks at whole ones."""
        low, high = math.floor(min(levels)), math.ceil(max(levels))
        step = max(math.ceil((high - low) / 6), 1)
        return cls(math.floor(low / step) * step, max(math.ceil(high / step), math.floor(low / step) + 1) * step, step)

    def at(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def down(self, value: float) -> float:
        return round(100 - self.at(value), 3)

    def ticks(self, downwards: bool = False) -> tuple[Tick, ...]:
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        decimals = max(
            0, -math.floor(math.log10(self.step) + 1e-9) + (1 if f"{self.step:.1e}".startswith("2.5") else 0)
        )
        place = self.down if downwards else self.at
        values = [number * self.step for number in range(first, last + 1)]
        return tuple(Tick(place(value), f"{value:.{decimals}f}") for value in values)


def _number(value: Any) -> float | None:
    """A finite number, from CSV text too; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS points: means of equal runs, at the last step of each."""
    size = math.ceil(len(points) / MAX_POINTS)
    if size <= 1:
        return list(points)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(run[-1][0], math.fsum(value for _, value in run) / len(run)) for run in runs]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means in a Gaussian window around each point, cut off at the ends."""
    sigma = max(_SMOOTHING * len(values), 0.5)
    reach = math.ceil(3 * sigma)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-reach, reach + 1)]
    smooth = []
    for place in range(len(values)):
        low, high = max(place - reach, 0), min(place + reach + 1, len(values))
        window = weights[low - place + reach : high - place + reach]
        total = math.fsum(weight * value for weight, value in zip(window, values[low:high], strict=True))
        smooth.append(total / math.fsum(window))
    return smooth
