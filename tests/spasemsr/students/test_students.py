"""Students of every kind: taught by a column, they learn, and are stored as their extractor reads them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from spasemsr.backends.extractors import build_extractor
from spasemsr.config import load_params
from spasemsr.data.job import Sample
from spasemsr.data.patches import Patch
from spasemsr.methods import method
from spasemsr.methods.noise import Noise
from spasemsr.pixels import bicubic_upsample, to_tensor
from spasemsr.students import columns
from spasemsr.students.build import TeachWorker, build_pupil
from spasemsr.students.columns import bytes_of, teacher_column
from spasemsr.students.spec import AnyLearner, with_students
from spasemsr.students.student import Student
from tests.worlds import ROOT
from tests.worlds.photographs import photograph, shrunk
from tests.worlds.small_methods import small_batch
from tests.worlds.strict_gpu import StrictGpu
from tests.worlds.tiny_vision import vision_features, write_vision

NOISE = Noise(0, 0)
PATCH = Patch("ab_0_0", "train", 0, "folder", "x", "ab", 0, 0, 96)
EMBEDDED = {
    "dape": {"kind": "filter_rows", "filters": 6, "grid": 2},
    "segmenter": {"kind": "texture_classes"},
    "edges": {"kind": "edges"},
    "depth": {"kind": "sharpness"},
    "image": {"kind": "colour_layout", "grid": 2},
}
GIVES = {"dape": ["soft"], "segmenter": ["guess", "lq", "regions"], "edges": ["edges"], "depth": ["depth"]}
GIVES["image"] = ["image"]


@pytest.fixture(scope="module")
def features_of(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Sections `features` of methods on tiny checkpoints."""
    return vision_features(write_vision(tmp_path_factory.mktemp("vision")))


@pytest.fixture(params=[*(f"small {name}" for name in EMBEDDED), "dape", "segmenter", "depth", "image"])
def learner(request, features_of) -> AnyLearner:
    """A learner of each kind, and of each sort of answer of the small one."""
    name = request.param.removeprefix("small ")
    if request.param.startswith("small"):
        return _learner(kind="small", teacher=EMBEDDED[name], gives=GIVES[name], channels=8)
    teacher = {**features_of["megasr"], **features_of["segsr"]}[{"dape": "soft", "segmenter": "labels"}.get(name, name)]
    extra = {"every": 1} if name == "image" else {}
    return _learner(kind=name, teacher=teacher, gives=GIVES[name], **extra)


def _learner(**values: Any) -> AnyLearner:
    return TypeAdapter(AnyLearner).validate_python(values)


def _batch(learner: AnyLearner):
    """lr of a photograph, and what the teacher says of hr, as the column holds it."""
    hr = photograph("astronaut")[64:160, 192:288].copy()
    (said,) = TeachWorker(learner)([Sample(PATCH, None, {"hr.png": hr})])
    members = {member.base: member for member in teacher_column("x", learner).members}
    assert said.keys() == members.keys()
    read = {member.stem: member.decode(member.encode(said[base])) for base, member in members.items()}
    features = {stem: torch.from_numpy(np.array(value))[None].float() for stem, value in read.items()}
    return replace(small_batch(["a"]), lr=to_tensor(shrunk(hr, 4)), features=features)


def test_a_plan_counts_the_bytes_that_a_teacher_says(learner, monkeypatch):
    hr = photograph("astronaut")[64:160, 192:288].copy()
    (said,) = TeachWorker(learner)([Sample(PATCH, None, {"hr.png": hr})])
    if learner.kind == "depth":
        monkeypatch.setattr(columns, "DEPTH_WIDTH", said["features.npy"].shape[-1])
    if learner.kind == "image":
        monkeypatch.setattr(columns, "CLIP_BLOCKS", len(said["blocks.npy"]))
    assert bytes_of(learner, 96) == sum(value.nbytes for value in said.values())


def test_a_plan_of_the_papers_students_counts_what_fills_a_disk():
    """What `image` says of 85,000 patches is 280 GB, and were all blocks compared 1.8 TB: what `every` is for."""
    profile = load_params(ROOT / "params.yaml").foundation
    image = profile.learners["image"]
    assert bytes_of(image, 512) == 2 * 257 * 1280 * (1 + 4)
    assert bytes_of(image.model_copy(update={"every": 1}), 512) == 2 * 257 * 1280 * (1 + 32)
    assert bytes_of(profile.learners["depth"], 512) == 2 * ((37 * 37 + 1) * 1024 + 518 * 518)


def _student(learner: AnyLearner) -> Student:
    torch.manual_seed(4)
    return Student(build_pupil(learner), scale=4, shown="lr", column="teacher/x")


def test_it_learns_and_its_extractor_says_what_it_has_learnt(learner, tmp_path):
    batch, student = _batch(learner), _student(learner).train()
    for said in batch.features.values():
        if learner.kind not in ("small", "segmenter"):
            said.mul_(1.5)  # a tiny teacher of random weights says nearly the same of lr as of hr
    optimizer = torch.optim.AdamW(torch.nn.ModuleDict(student.trainable()).parameters(), lr=3e-3)
    curve = []
    for _ in range(12):
        loss = sum(student(batch, NOISE).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    assert curve[-1] < 0.995 * curve[0], curve
    student.pupil.write(tmp_path)
    spec = _extractor(learner, str(tmp_path))
    shown = bicubic_upsample(batch.lr, 4)
    picture = (shown[0] * 255).round().byte().permute(1, 2, 0).numpy()
    (answer,) = build_extractor(spec).extract([picture])
    (before,) = build_extractor(learner.teacher).extract([picture])
    assert answer.shape == before.shape == spec.shape(96) and answer.dtype == before.dtype
    _same(student.pupil.answers(to_tensor(picture)), answer)


def test_a_gpu_refuses_no_step_for_want_of_determinism(learner):
    """And what is computed in another way where a gradient is wanted is the same up to rounding."""
    batch, student = _batch(learner), _student(learner).train()
    with StrictGpu():
        losses = student(batch, NOISE)
        sum(losses.values()).backward()
    with torch.no_grad():
        plain = student(batch, NOISE)
    assert all(losses[name].item() == pytest.approx(value.item(), rel=1e-4) for name, value in plain.items())


def _extractor(learner: AnyLearner, folder: str) -> Any:
    """The extractor that takes the teacher's place."""
    return learner.in_place_of_teacher(learner.teacher, folder)


@torch.no_grad()
def _same(answers: dict[str, torch.Tensor], answer: np.ndarray) -> None:
    """What the network in training says is what the stored one does; the latter's roundings are float16's."""
    first = next(iter(answers.values()))[0]
    if answer.dtype == np.uint8:
        assert (first.argmax(0).numpy() == answer[0]).mean() > 0.95
    elif "features" in answers:  # depth: stretched within the picture
        assert answer.min() == 0 and answer.max() == 1
    elif answer.ndim == 3:
        assert np.allclose(first.sigmoid().numpy(), answer, atol=1e-3)
    else:
        assert np.allclose(first.numpy(), answer[:, : first.shape[1]], atol=2e-2)


def test_what_a_step_does_follows_from_its_samples(learner):
    """No dropout, no batch statistics: two students after one pass say the same."""
    batch = _batch(learner)
    torch.manual_seed(1)
    first = {name: loss.item() for name, loss in _student(learner).train()(batch, NOISE).items()}
    student = _student(learner).train()
    torch.manual_seed(99)
    assert first == {name: loss.item() for name, loss in student(batch, NOISE).items()}


def test_students_take_the_places_of_their_teachers_alone(features_of):
    section = method("segsr").section.model_validate({"model": {}, "features": features_of["segsr"]})
    learner = _learner(kind="segmenter", teacher=features_of["segsr"]["labels"], gives=GIVES["segmenter"])
    changed = with_students(section.features, "lr", {"segmenter": learner})
    assert changed.labels == section.features.labels  # hr's labels stay the teacher's
    assert changed.guess.source == changed.lq.source == "data/students/segmenter"
    assert changed.lq.kind == "segformer_features"


@pytest.mark.parametrize(
    ("shown", "teacher", "said"),
    [
        ("restored", {"kind": "edges"}, "learners.edges.input is lr, but edges is shown restored"),
        ("lr", {"kind": "sharpness"}, "features.edges is not made by"),
    ],
)
def test_a_student_that_does_not_fit_is_refused_by_name(features_of, shown, teacher, said):
    section = method("megasr").section.model_validate({"model": {}, "features": features_of["megasr"]})
    learner = _learner(kind="small", teacher=teacher, gives=["edges"])
    with pytest.raises(ValueError, match=said):
        with_students(section.features, shown, {"edges": learner})
