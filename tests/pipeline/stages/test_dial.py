"""Sampling-time settings: the sweep's points, the Pareto front, LR consistency, and the map over noise seeds."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import layout
from pipeline.engine.executors import Serial
from pipeline.stages import dial
from pipeline.stages.dial import Setting
from spasemsr.diffusion.consistency import project, reduce, residual
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import UserError
from spasemsr.evaluation.maps import MapScores, means, read_maps, write_maps
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.pareto import SweepPoint, front_of, pareto_front, read_sweep, write_sweep
from spasemsr.evaluation.spec import DialSpec, SweepName
from spasemsr.images.deviation import GAIN, as_picture, luma_deviation
from spasemsr.pixels import bicubic_upsample
from tests.worlds.sample_report import photograph

plane = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=20)


@settings(deadline=None)
@given(plane)
def test_the_front_is_what_nothing_beats(points):
    front = pareto_front(points)
    assert front and front == sorted(front, key=lambda index: points[index])
    for index, (x, y) in enumerate(points):
        beaten = any(a >= x and b <= y and (a, b) != (x, y) for a, b in points)
        assert (index in front) != beaten


def test_the_sweep_round_trips_with_its_front(tmp_path):
    points = [
        SweepPoint("spasemsr", "dial", "0", {"psnr": 25.0, "niqe": 9.0}, 4),
        SweepPoint("spasemsr", "dial", "0.5", {"psnr": 24.0, "niqe": 7.0}, 4),
        SweepPoint("spasemsr", "dial", "1", {"psnr": 23.0, "niqe": 8.0}, 4),
    ]
    write_sweep(tmp_path / "s.csv", points)
    assert read_sweep(tmp_path / "s.csv") == points
    with (tmp_path / "s.csv").open() as file:
        assert [line["front"] for line in csv.DictReader(file)] == ["1", "1", "0"]
    assert front_of([SweepPoint("m", "dial", "0", {"psnr": 1.0}, 1)]) == set()
    (tmp_path / "s.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="not a sweep"):
        read_sweep(tmp_path / "s.csv")


def test_points_vary_one_thing_around_the_base():
    base = SampleSpec(steps=10, start=0.3, guidance=1.0)
    for sweep in get_args(SweepName):
        points = dial.settings(base, [sweep], 1000)
        assert len(points) == len({point.value for point in points}) >= 3
        for point in points:
            changed = {k for k, v in point.sample.plain().items() if v != base.plain()[k]} | (
                {"consistency"} if point.consistency else set()
            )
            assert changed <= ({sweep} if sweep != "dial" else {"start", "guidance", "steps"})
    middle = next(point for point in dial.settings(base, ["dial"], 1000) if point.value == "0.5")
    assert middle.sample == base  # the dial's middle is the model as it was released
    restorers = dial.settings(base, ["dial"], 1000, restorer_dials=True)
    assert [point.sample.share for point in restorers] == [0.25, 0.625, 1, 0.625, 0.25]
    assert [point.dial for point in restorers] == [float(point.value) for point in restorers] == [0, 0.25, 0.5, 0.75, 1]


def pair(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A result that contradicts lr, and lr."""
    hr = torch.from_numpy(photograph("chelsea.png", side=side)).permute(2, 0, 1)[None] / 255
    lr = reduce(hr, 4).clamp(0, 1)
    return (hr * 0.8 + 0.05).clamp(0, 1), lr


def test_projection_removes_what_contradicts_lr():
    restored, lr = pair()
    before = residual(restored, lr, 4).mean()
    values = [float(residual(project(restored, lr, 4, strength), lr, 4).mean()) for strength in (0.0, 0.5, 1.0)]
    assert values[0] == before > values[1] > values[2] and values[2] < 0.05 * before
    assert project(restored, lr, 4, 0.0) is restored
    result = project(restored, lr, 4, 1.0)
    assert result.shape == restored.shape and result.min() >= 0 and result.max() <= 1
    high = (result - bicubic_upsample(reduce(result, 4), 4)).std()  # detail stays
    assert high > 0.7 * (restored - bicubic_upsample(reduce(restored, 4), 4)).std()


def test_residual_is_where_the_contradiction_is():
    restored, lr = pair()
    consistent = project(restored, lr, 4, 1.0)
    consistent[..., :16, :16] = 1.0
    levels = residual(consistent, lr, 4)
    assert levels.shape == (1, 16, 16) and levels[0, :3, :3].mean() > 10 * levels[0, 6:, 6:].mean()


def test_deviation_is_that_of_luma_whatever_the_depth():
    results = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)
    luma = np.stack([cv2.cvtColor(result, cv2.COLOR_RGB2GRAY) for result in results]).astype(np.float64)
    assert luma_deviation(iter(results)) == pytest.approx(luma.std(axis=0, ddof=1), abs=1e-3)
    assert luma_deviation(results.astype(np.uint16) * 257) == pytest.approx(luma.std(axis=0, ddof=1), abs=0.6)
    assert luma_deviation([results[0]] * 3).max() == 0
    with pytest.raises(ValueError, match="two results"):
        luma_deviation(results[:1])
    assert as_picture(np.array([[0.0, 1.0, 100.0]], np.float32)).tolist() == [[0, GAIN, 255]]


class Swept:
    """Stands for trained weights: the noisier the start, the more is invented, differently for each seed."""

    num_train_timesteps, keys, place = 1000, ("a", "b"), (Path("models"), Path("shards"), {}, None, "fp32", 1)
    restorer_dials = False

    def __init__(self, params, folder) -> None:
        self.metrics = build_metrics(["psnr", "ssim", "niqe"])

    def hr(self, key):
        return photograph("chelsea.png", 0 if key == "a" else 60)

    def restored(self, key, setting: Setting, offset: int = 0):
        noise = np.random.default_rng(offset).normal(0, 40 * setting.sample.start, (192, 192, 3))
        noise[:, :96] = 0  # determined by lr
        picture = np.clip(cv2.GaussianBlur(self.hr(key), (0, 0), 2) + noise, 0, 255).astype(np.uint8)
        return picture, np.full((48, 48), 3.0 - setting.consistency, np.float32)


def test_the_stage_writes_sweep_front_maps_and_their_means(monkeypatch, tmp_path):
    spec = SimpleNamespace(dial=DialSpec(images=0, seeds=3), evaluate=SimpleNamespace(sample=SampleSpec(start=0.3)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dial, "_Swept", Swept)
    stale = layout.maps_folder("spasemsr") / "gone.deviation.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    dial.run(SimpleNamespace(active=spec, seed=1), Serial(), "spasemsr")
    points = read_sweep(layout.sweep_csv("spasemsr"))
    assert [point.value for point in points] == ["0", "0.25", "0.5", "0.75", "1", "0", "0.25", "0.5", "1"]
    psnr = [point.means["psnr"] for point in points[:5]]
    assert psnr == sorted(psnr, reverse=True) and points[-1].means["lr_residual"] == 2.0
    assert {point.n for point in points} == {2}
    names = {path.name for path in stale.parent.iterdir()}
    assert names == {"maps.csv", *(f"{key}.{name}.png" for key in "ab" for name in ("deviation", "lr_residual"))}
    picture = cv2.imread(str(stale.with_name("a.deviation.png")), cv2.IMREAD_GRAYSCALE)
    assert picture.shape == (192, 192) and picture[:, :90].max() == 0 < picture[:, 100:].mean()
    assert cv2.imread(str(stale.with_name("a.lr_residual.png")), cv2.IMREAD_GRAYSCALE)[0, 0] == 3 * GAIN
    rows = read_maps(stale.with_name("maps.csv"))
    assert [row.key for row in rows] == ["a", "b"]
    assert rows[0].deviation > 1 and rows[0].lr_residual == 3.0 and rows[0].error_correlation > 0.3
    scores = json.loads(layout.map_means("spasemsr").read_text())["val"]["spasemsr"]
    assert scores["deviation"] == pytest.approx((rows[0].deviation + rows[1].deviation) / 2, abs=1e-3)


def test_an_image_without_spread_has_no_correlation(tmp_path):
    rows = [MapScores("a", 0.0, 1.0, None), MapScores("b", 2.0, 3.0, 0.5)]
    write_maps(tmp_path / "maps.csv", rows)
    assert read_maps(tmp_path / "maps.csv") == rows
    assert means(rows) == {"deviation": 1.0, "lr_residual": 2.0, "error_correlation": 0.5}
    assert "error_correlation" not in means(rows[:1])
    (tmp_path / "maps.csv").write_text("key,deviation\n")
    with pytest.raises(UserError, match="not a table of maps"):
        read_maps(tmp_path / "maps.csv")
