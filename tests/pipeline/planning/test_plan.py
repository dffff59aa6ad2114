"""Planning: counts, disk, memory and hours, their origins, what is missing and what to change."""

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline import layout
from pipeline.cli import app
from pipeline.engine import training_account
from pipeline.engine.account import Account
from pipeline.planning import hardware as machines
from pipeline.planning import plan as planning
from pipeline.planning import storage
from pipeline.planning.columns import column_costs
from pipeline.planning.counts import Counts, count
from pipeline.planning.hardware import Hardware
from pipeline.planning.recorded import ASSUMED_MFU
from pipeline.planning.step import StepCost, fitting
from pipeline.tools import inspection
from spasemsr.config import load_params
from spasemsr.data.columns import CAPTION, COLUMNS, HR, LR
from spasemsr.data.columns import LATENTS as LATENTS_COLUMN
from spasemsr.data.patches import Patch, write_patches
from spasemsr.errors import UserError
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR
from spasemsr.mounts import Mount
from spasemsr.training.devices import known_device
from spasemsr.training.memory import StateBytes
from spasemsr.training.spec import TrainSpec
from spasemsr.training.spent import Spent
from tests.worlds import ROOT

GB = 10**9
STATE = StateBytes(frozen=7 * GB, weights=4 * GB, gradients=4 * GB, moments=8 * GB, average=0)
STEP = StepCost(967_000_000, 5e12, 2e12, STATE, 3 * GB, 2 * GB, GB // 5, GB // 3)
NANO = replace(STEP, state=StateBytes(0, 50_000_000, 50_000_000, 100_000_000, 0), fixed=0, per_sample=66_000_000)
COUNTS = Counts(1000, 20, 512, 512, 2, "for a test")


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to plan in: params.yaml, no data, no weights, a cache of its own; the network is not traced."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "data/raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPASEMSR_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(planning, "step_cost", lambda face, given, *_: STEP if given.profile == "foundation" else NANO)
    return tmp_path


def a100(number=8):
    return Hardware(known_device("A100"), number, 20 * GB, True)


def described(params, **changes):
    """The plan of the foundation profile on eight A100; `changes` are of the one method it trains."""
    return changed(planning.make_plan(params, "foundation", a100(), 1000), **changes)


def changed(plan, hardware=None, **changes):
    hardware = hardware or plan.hardware
    return replace(plan, hardware=hardware, methods=[replace(plan.methods[0], hardware=hardware, **changes)])


# The step


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(50, (1, False)), (36, (2, False)), (34, (4, False)), (32, (1, True)), (30, (2, True)), (28, None)],
)
def test_the_least_change_that_fits_is_proposed(memory, expected):
    fit = fitting(STEP, TrainSpec(global_batch=32), memory * GB, 8)
    assert fit == expected
    if fit is not None:
        accumulate, checkpointing = fit
        assert STEP.memory(4 // accumulate, checkpointing) <= memory * GB


# Counts


def test_patches_that_exist_are_counted(params, folder):
    sha = "ab" * 32
    patches = [Patch(f"{sha[:16]}_{y:05d}_00000", "train", 0, "folder", "a.png", sha, y, 0, 512) for y in range(5)]
    patches.append(Patch(f"{'cd' * 8}_00000_00000", "val", 0, "folder", "b.png", "cd" * 32, 0, 0, 512))
    write_patches(layout.PATCHES, patches)
    counts = count(params, "foundation")
    assert (counts.train, counts.evaluation, counts.origin) == (5, 1, "data/patches.jsonl")
    assert (counts.units(HR), counts.units(LR), counts.units(CAPTION), counts.units(LATENTS_COLUMN)) == (6, 41, 41, 5)
    assert count(params, "foundation", 100).train == 100
    assert count(params, "embedded").origin.startswith("estimated")  # these are not its sizes


def test_pictures_are_counted_by_their_sizes(params, folder):
    for name, size in (("a", (1100, 1030)), ("b", (512, 512)), ("small", (400, 900))):
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(folder / f"data/raw/{name}.png")
    (folder / "data/raw/broken.png").write_bytes(b"no picture")
    counts = count(params, "foundation")
    assert counts.train == round((4 + 1) * 0.98)
    assert "3 photographs" in counts.origin
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="no photographs"):
        count(params.model_copy(update={"photographs": str(folder / "empty")}), "foundation")


# Columns


def costs(params, name="foundation", accounts=None, gpu="A100"):
    found = column_costs(params, name, COUNTS, known_device(gpu) if gpu else None, accounts or {})
    return {cost.column: cost for cost in found}


def test_arrays_take_what_their_shapes_say(params):
    found = costs(params)
    assert set(found) == {*COLUMNS, FEATURES_SPASEMSR.name}
    for column, shape in ((LATENTS_COLUMN, (8, 64, 64)), (FEATURES_SPASEMSR, (256, 64, 64))):
        (member,) = column.members
        encoded = len(member.encode(np.zeros(shape, np.float16)))
        each = found[column.name].bytes / found[column.name].units
        assert found[column.name].units == 1000
        assert encoded < each <= encoded + 1024
    embedded = costs(params, "embedded")
    assert embedded["features/spasemsr"].memory is None and found["features/spasemsr"].memory > 2.5e9


def test_recorded_rates_are_scaled_by_the_peaks_and_named(params):
    slow, fast = costs(params), costs(params, gpu="H100")
    for column in ("features/spasemsr", "latents", "restored"):
        assert slow[column].seconds / fast[column].seconds == pytest.approx(989 / 312)
        assert slow[column].on_gpu and "not measured" in slow[column].origin and slow[column].sources
    assert slow["features/spasemsr"].seconds == pytest.approx(1 / 6.7)
    assert not slow["lr"].on_gpu


def test_the_networks_of_all_four_methods_and_of_their_teachers_are_known(params):
    """As students too, which lie in a folder of the project."""
    learners = ("dape", "segmenter", "edges", "depth", "image")
    every = params.model_copy(update={"methods": ("seesr", "segsr", "megasr")})
    for found in (costs(every), costs(every.model_copy(update={"learners": learners}))):
        for method, operations in (("seesr", 0.208e12), ("segsr", 3 * 0.125e12), ("megasr", 1.972e12)):
            cost = found[f"features/{method}"]
            assert cost.on_gpu and cost.memory > 1e9
            assert cost.seconds == pytest.approx(operations / (312e12 * ASSUMED_MFU))
    assert all(found[f"teacher/{name}"].on_gpu == (name != "edges") for name in learners)


def test_answers_in_words_are_bound_by_memory_and_by_the_batch(params):
    def caption(gpu="A100", **changes):
        spec = params.foundation.caption.model_copy(update={"batch_size": 16, **changes})
        of = params.foundation.model_copy(update={"caption": spec})
        return costs(params.model_copy(update={"foundation": of}), gpu=gpu)["caption"].seconds

    peaks, memories = 989 / 312, 3350 / 2039
    assert memories < caption() / caption("H100") < (memories + peaks) / 2  # all but the question
    question = 9.0e12 / (312e12 * ASSUMED_MFU)
    each = (caption(batch_size=1) - question) / (caption() - question)
    assert 5 < each < 16  # weights are read once for the batch, keys and values for each
    assert caption(max_new_tokens=64) - question == pytest.approx((caption() - question) / 2)
    assert caption(endpoint="http://host:8000") < caption()


def account_of(params, column, rate, workers=1):
    identity = {"kind": "x", "version": 1}
    backend = {"sam": params.foundation.methods["spasemsr"].features.sam.content()}
    return Account("features", column, 1, identity, backend, "w", "serial", workers, 10, 0, computed=10, rate=rate)


def test_what_was_measured_here_comes_first(params):
    active = params.model_copy(update={"profile": "foundation"})
    account = account_of(active, "features/spasemsr", 8.0, workers=2)
    found = costs(active, accounts={"features/spasemsr": account})["features/spasemsr"]
    assert found.seconds == pytest.approx(1 / 4)
    assert found.origin == "measured here (8/s with 2 workers)" and not found.sources
    account.params = {"sam": {"kind": "other"}}
    assert "recorded" in costs(active, accounts={"features/spasemsr": account})["features/spasemsr"].origin


def test_a_training_that_ran_here_says_its_own_rate(params, folder):
    spent = Spent("NVIDIA A100", 4, 100, 50.0, 80.0, 30 * GB, 5e12, 0.32)
    training_account.record(folder / "cache", folder, "spasemsr", "foundation", spent)
    plan = described(params)
    rate, origin = plan.methods[0].rate
    assert rate == 160.0 and "measured here" in origin and "MFU 32.0%" in origin
    (estimated,) = changed(plan, spent=None).methods
    step = 5e12 + 2 * 0.045e12  # prompt and caption are encoded in every step, tags once
    assert estimated.rate[0] == pytest.approx(0.35 * 312e12 * 8 / step)
    assert "not measured" in estimated.rate[1]
    assert estimated.train_hours == pytest.approx(200_000 * 32 * step / (0.35 * 312e12) / 3600)


def test_gradients_that_take_longer_than_the_backward_are_waited_for(params, folder):
    (within,) = described(params, spent=None).methods
    assert within.waiting_seconds == 0  # NVLink
    (across,) = changed(described(params), Hardware(known_device("A100"), 32, 20 * GB, True), spent=None).methods
    backward = across.compute_seconds * 3 / 5
    exchange = 2 * 31 / 32 * 4 * 967e6 / 12.5e9
    assert across.waiting_seconds == pytest.approx(exchange - backward, rel=1e-3)
    assert across.rate[0] == pytest.approx(32 / (across.compute_seconds + across.waiting_seconds))
    half = replace(across, train=across.train.model_copy(update={"gradients": "bf16"}))
    assert half.exchanged == across.exchanged / 2 and half.rate[0] > 1.4 * across.rate[0]
    fast = replace(across, hardware=replace(across.hardware, network=200e9))
    assert fast.waiting_seconds < 0.02 < half.waiting_seconds
    assert any("ms of waiting for 3.9 GB of gradients at 12 GB/s" in line for line in across.lines(COUNTS))


@pytest.mark.parametrize(
    ("settings", "kind", "copies"),
    [
        ("", "ext4", 3), ("", "xfs", 2), ("[cache]\n    type = hardlink,symlink\n", "ext4", 2),
        ("[cache]\n    type = 'reflink,hardlink'\n", "ext4", 2), ("[cache]\n    type = copy\n", "xfs", 3),
    ],
)  # fmt: skip
def test_what_dvc_links_lies_twice_and_else_three_times(tmp_path, monkeypatch, settings, kind, copies):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n" + settings)
    monkeypatch.setattr(storage, "mount_of", lambda folder: Mount(folder, kind, ()))
    assert storage.copies(tmp_path) == copies
    assert ("dvc config" in storage.remedy(tmp_path)) == (copies == 3)


def test_the_plan_counts_every_copy_of_the_tars(params, folder, monkeypatch):
    plan = described(params)
    tars = sum(cost.bytes for cost in plan.columns)
    assert replace(plan, copies=3).disk - replace(plan, copies=2).disk == tars > 0


# What is missing


def test_weights_that_are_not_here_are_named_with_the_command(params, folder):
    foundation = params.foundation.running(params.methods)
    found = {shortage.what.split(" ")[0]: shortage.remedy for shortage in planning.missing_weights(foundation)}
    assert set(found) == {"bsrnet", "llava-1.5-7b", "grounding-dino-base", "sam-vit-h", "sd-2.1-base"}
    assert found["sam-vit-h"] == "Run: spasemsr models fetch sam-vit-h"
    assert list(planning.missing_weights(params.embedded)) == []
    elsewhere = foundation.restore.model_copy(update={"source": "no/such.pth"})
    profile = foundation.model_copy(update={"restore": elsewhere})
    assert "no/such.pth: no file or folder of that name" in [s.what for s in planning.missing_weights(profile)]


def test_disk_memory_and_device_that_do_not_suffice(params, folder, monkeypatch):
    plan = described(params)
    enough = [shortage.what for shortage in planning.shortages(plan)]
    assert not any(what.startswith(("train", "No GPU", "objects")) for what in enough)
    small = changed(plan, Hardware(known_device("RTX 3090"), 8, 20 * GB, True))
    found = {shortage.what.split(":")[0]: shortage.remedy for shortage in planning.shortages(small)}
    assert "objects" in found and "larger GPUs" in found["train spasemsr"]
    medium = changed(plan, Hardware(known_device("A100-SXM4-40GB"), 8, 20 * GB, True))
    (remedy,) = [s.remedy for s in planning.shortages(medium) if s.what.startswith("train")]
    assert remedy == "Set train.accumulate: 2, train.gradient_checkpointing: false."
    medium = changed(medium, train=plan.profile.train.model_copy(update={"accumulate": 2}))
    assert not any(shortage.what.startswith("train") for shortage in planning.shortages(medium))
    seven = changed(plan, a100(7))
    assert any("does not divide among 7 devices" in shortage.what for shortage in planning.shortages(seven))
    bare = changed(plan, Hardware(None, 1, 20 * GB, False))
    assert next(iter(planning.shortages(bare))).what.startswith("No GPU here")
    monkeypatch.setattr(planning, "free_disk", lambda folder: 10**6)
    assert any(shortage.what.startswith("disk: ") for shortage in planning.shortages(plan))


def test_unknown_gpus_are_refused():
    with pytest.raises(UserError, match="Nothing is known of a GPU 'Voodoo'"):
        machines.hardware("Voodoo")
    assert machines.hardware("H200", 4).gpu.memory == 141 * GB


def test_more_gpus_of_a_machine_that_has_none_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(machines, "_DRIVER", tmp_path / "none")
    assert machines.hardware().gpu is None
    with pytest.raises(UserError, match="no GPU of which there could be more"):
        machines.hardware(count=4)


def test_free_disk_is_asked_of_the_nearest_folder_there_is(tmp_path):
    assert machines.free_disk(tmp_path / "a/b/c") == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.05)


# Commands


def test_the_command_prints_cost_origin_and_what_to_change(folder):
    arguments = ["plan", "--profile", "foundation", "--gpu", "A100", "--gpus", "8", "--samples", "85000"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    text = result.output
    assert "profile foundation on 8 x A100 (80 GB), as named" in text
    assert "85000 training patches of 512 px x 8 variants" in text
    for column in (*COLUMNS, FEATURES_SPASEMSR.name):
        assert f"\n{column}" in text
    assert "recorded, not measured in this folder" in text and "MFU 35% assumed, not measured" in text
    assert "!!  sd-2.1-base (5.2 GB): not here\n    Run: spasemsr models fetch sd-2.1-base" in text


def test_check_lists_what_a_profile_lacks_and_fails(folder, monkeypatch):
    Image.fromarray(np.zeros((600, 600, 3), np.uint8)).save(folder / "data/raw/a.png")
    lines = []
    with pytest.raises(UserError, match=r"Profile foundation lacks \d+ things"):
        lines.extend(line for line in _gathered(inspection.check(Path("params.yaml"), "foundation"), lines))
    assert any(line.startswith("!!  llava-1.5-7b") for line in lines)
    embedded = "\n".join(inspection.check(Path("params.yaml")))
    assert "ok  weights: efficientnet-lite0, realesrgan-x4plus-ncnn" in embedded
    assert "ok  disk: " in embedded and "ok  memory: " in embedded
    monkeypatch.setattr(importlib.metadata, "distribution", _without_weights)
    without = "\n".join(inspection.check(Path("params.yaml")))
    assert "--  efficientnet-lite0: its package is not installed" in without and "ok  weights: none needed" in without


_installed = importlib.metadata.distribution


def _without_weights(name):
    if name.startswith(("efficientnet", "realesrgan")):
        raise importlib.metadata.PackageNotFoundError(name)
    return _installed(name)


def _gathered(source, lines):
    """Keeps what was said before the error."""
    for line in source:
        lines.append(line)
    return []
