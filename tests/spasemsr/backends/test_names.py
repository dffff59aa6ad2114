"""Grounding with names: ImageNet's classes where the network is sure, regions below that and without its package."""

import importlib.metadata

import numpy as np
import pytest
import torch

from spasemsr.backends.grounding import build_detector, build_segmenter, build_tagger
from spasemsr.backends.grounding.efficientnet_lite import outline
from spasemsr.backends.grounding.evidence import class_names, classes_of
from spasemsr.backends.grounding.select import select
from spasemsr.backends.grounding.spec import GroundSpec, identity_of, with_what_is_here
from spasemsr.backends.networks.answers import read_names
from spasemsr.backends.networks.efficientnet import EfficientNetLite0, load_efficientnet
from spasemsr.backends.protocols import Tag
from spasemsr.errors import UserError
from spasemsr.weights.packages import NotInstalled
from spasemsr.weights.store import locate
from tests.worlds.photographs import photograph

SPEC = GroundSpec.model_validate(
    {
        "tagger": {"kind": "efficientnet_lite"},
        "detector": {"kind": "activation"},
        "segmenter": {"kind": "components"},
        "max_objects": 5,
    }
)


@pytest.fixture
def installed() -> None:
    try:
        locate("efficientnet-lite0")
    except NotInstalled as error:
        pytest.skip(f"the extra `real` is not installed: {error.what}")


def test_every_class_has_a_name_that_can_be_a_tag():
    assert len(class_names()) == 1000 and sum(len(classes) for classes in classes_of().values()) == 1000
    assert set(read_names(classes_of())) == set(classes_of())
    assert {151, 207, 268} <= set(classes_of()["dog"]) and class_names()[285] == "cat"


@pytest.mark.parametrize(("name", "thing"), [("chelsea", "cat"), ("coffee", "cup")])
def test_what_a_person_sees_is_named_first_and_boxed(installed, name, thing):
    image = photograph(name, 256)
    tags = build_tagger(SPEC.tagger).tag([image])
    assert tags[0][0].text == thing and tags[0][0].score >= 0.4
    assert any(tag.text not in classes_of() for tag in tags[0][1:])  # and regions, by colour
    boxes = select(build_detector(SPEC.detector).detect([image], tags)[0], SPEC)
    found = next(box for box in boxes if box.tag == thing)
    assert found.area > 0.15
    masks = build_segmenter(SPEC.segmenter).segment([image], [boxes])[0]
    assert masks.shape == image.shape[:2] and masks.max() <= len(boxes)


def test_nothing_is_named_where_nothing_is_sure(installed):
    noise = np.random.default_rng(0).integers(90, 120, (128, 128, 3)).astype(np.uint8)
    assert not [tag for tag in build_tagger(SPEC.tagger).tag([noise])[0] if tag.score >= 0.9 and tag.text == "dog"]
    strict = SPEC.tagger.model_copy(update={"min_score": 1.0})
    assert all(tag.text not in classes_of() for tag in build_tagger(strict).tag([photograph("chelsea", 128)])[0])


def test_a_tag_that_a_person_tells_is_looked_for(installed):
    boxes = build_detector(SPEC.detector).detect([photograph("chelsea", 128)], [[Tag("cat", 1.0), Tag("phlox", 1.0)]])[
        0
    ]
    assert [box.tag for box in boxes] == ["cat"]


def test_an_outline_is_the_piece_around_the_peak():
    activation, labels = np.zeros((20, 40), np.float32), np.zeros((20, 40), np.int64)
    activation[5:10, 10:20], activation[15:18, 30:35] = 1.0, 0.8
    activation[7, 15] = 1.2
    assert outline(activation, labels) == (0.25, 0.25, 0.5, 0.5)
    labels[5:12, 10:20] = 1  # most of this region is active: it belongs to the thing whole
    assert outline(activation, labels) == (0.25, 0.25, 0.5, 0.6)


def test_without_the_package_regions_serve_and_it_is_said(monkeypatch, tmp_path, caplog):
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    served = with_what_is_here(SPEC)
    assert (served.tagger.kind, served.detector.kind) == ("palette", "components")
    assert [one["kind"] for one in identity_of(served)["models"]] == ["palette", "components", "components"]
    assert "efficientnet_lite: regions serve in its place. efficientnet-lite0: the package" in caplog.text
    assert with_what_is_here(served) is served


def test_another_file_is_refused_by_its_first_wrong_tensor(tmp_path):
    state = EfficientNetLite0().state_dict()
    state["_blocks.3._bn1.weight"] = torch.zeros(7)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"of another shape, the first being _blocks\.3\._bn1\.weight"):
        load_efficientnet(tmp_path / "net.pth")


def test_any_size_goes_in_and_the_mean_over_places_are_the_logits():
    network = EfficientNetLite0().eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 224, 300)).shape == (1, 1000, 7, 10)
