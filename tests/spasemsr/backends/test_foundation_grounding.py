"""Grounding DINO, SAM and LLaVA as tagger, on tiny checkpoints in the real layouts."""

import numpy as np
import pytest
import torch

from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.grounding import build_detector, build_segmenter, build_tagger
from spasemsr.backends.grounding.select import select
from spasemsr.backends.grounding.spec import GroundingDinoSpec, VocabularyTaggerSpec
from spasemsr.backends.networks.answers import object_names, read_names
from spasemsr.backends.networks.sam import build_sam
from spasemsr.backends.networks.spec import size_of
from spasemsr.backends.protocols import Box, Tag
from spasemsr.data.columns import OBJECTS
from spasemsr.errors import UserError
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR
from tests.worlds.photographs import photograph
from tests.worlds.tiny_checkpoints import (
    SAM,
)

A, B = photograph("astronaut", 128), photograph("coffee", 128)


TAGS = [[Tag("cat", 1.0), Tag("red car", 1.0), Tag("astronaut", 1.0)], [Tag("cup", 1.0)]]


def own(profile):
    """The section of the method that these models serve."""
    return profile.methods["spasemsr"]


def test_grounding_dino_finds_what_was_asked_for(profile):
    detector = build_detector(profile.ground.detector)
    boxes = detector.detect([A, B], TAGS)
    alone = [detector.detect([image], [tags])[0] for image, tags in zip((A, B), TAGS, strict=True)]
    for together, single, tags in zip(boxes, alone, TAGS, strict=True):
        assert together and {box.tag for box in together} <= {tag.text for tag in tags}
        assert [box.tag for box in together] == [box.tag for box in single]
        np.testing.assert_allclose([b.score for b in together], [b.score for b in single], atol=1e-5)
        np.testing.assert_allclose([b.xyxy for b in together], [b.xyxy for b in single], atol=1e-5)
    chosen = select(boxes[0], profile.ground)
    OBJECTS.member("objects.json").encode(
        {
            "tags": [box.tag for box in chosen],
            "boxes": [list(box.xyxy) for box in chosen],
            "scores": [box.score for box in chosen],
            "source": "hr",
        }
    )


def test_padding_the_prompt_changes_no_box(profile):
    """Prompts are padded to one length for the sake of batches; the model must not notice."""
    detector = build_detector(profile.ground.detector)
    model, processor = detector._model, detector._processor
    found = detector.detect([A], TAGS[:1])[0]
    text = processor.tokenizer("cat. red car. astronaut.", return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        out = model(**text, **processor.image_processor(images=[A], return_tensors="pt"))
    scores = out.logits[0].sigmoid()[:, 1 : text["input_ids"].shape[1] - 1].amax(dim=1).sort(descending=True).values
    assert scores[0] == pytest.approx(found[0].score, abs=1e-5)
    centre = out.pred_boxes[0, out.logits[0].amax(dim=1).argmax(), :2]
    x0, y0, x1, y1 = found[0].xyxy
    assert centre.tolist() == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2], abs=1e-4)


def test_no_tag_and_no_box_flow_through(profile):
    assert build_detector(profile.ground.detector).detect([A, B], [[], []]) == [[], []]
    masks = build_segmenter(profile.ground.segmenter).segment([A, B], [[], []])
    assert [mask.shape for mask in masks] == [(128, 128)] * 2 and not np.any(masks)


def test_a_vocabulary_is_asked_in_prompts_that_hold_it(profile, tiny, tmp_path):
    tags = build_tagger(VocabularyTaggerSpec(kind="vocabulary")).tag([A])[0]
    assert [tag.text for tag in tags] == list(object_names()) and len(tags) > 600
    spec = GroundingDinoSpec(kind="grounding_dino", source=str(tiny / "grounding_dino"), precision="fp32")
    detector = build_detector(spec)
    prompts = detector.prompts([tag.text for tag in tags])
    assert [name for prompt in prompts for name in prompt.tags] == list(object_names())
    tokenizer = detector._processor.tokenizer
    for prompt in prompts:
        tokens = tokenizer(prompt.text)["input_ids"]
        assert len(tokens) <= 256
        for (first, last), tag in zip(prompt.spans, prompt.tags, strict=True):
            assert tokenizer.decode(tokens[first:last]).replace(" ", "") == tag.replace(" ", "")
    names = tmp_path / "names.txt"
    names.write_text("# mine\nWindow frame\n\nwindow frame\ncat\n")
    own = build_tagger(VocabularyTaggerSpec(kind="vocabulary", names=str(names)))
    assert [tag.text for tag in own.tag([A])[0]] == ["window frame", "cat"]


def test_a_list_of_names_must_hold_names():
    with pytest.raises(UserError, match="no name of a thing"):
        read_names(["cat", "dog. car"])
    with pytest.raises(UserError, match="empty"):
        read_names(["", "# nothing"])


def test_sam_masks_are_the_packages_own(profile):
    from segment_anything import SamPredictor

    segmenter = build_segmenter(profile.ground.segmenter)
    wide = np.ascontiguousarray(A[:96])
    boxes = [[Box("a", (0.1, 0.1, 0.6, 0.7), 0.9), Box("b", (0.4, 0.2, 1.0, 1.0), 0.5)], [Box("c", (0, 0, 1, 1), 0.4)]]
    masks = segmenter.segment([wide, B], boxes)
    assert [mask.shape for mask in masks] == [wide.shape[:2], B.shape[:2]]
    predictor = SamPredictor(segmenter._model)
    for image, mask, chosen in zip((wide, B), masks, boxes, strict=True):
        height, width = image.shape[:2]
        predictor.set_image(image)
        scale = np.array([width, height, width, height])
        theirs = [predictor.predict(box=scale * box.xyxy, multimask_output=False)[0][0] for box in chosen]
        expected = np.zeros((height, width), np.uint8)
        for number, inside in reversed(list(enumerate(theirs, start=1))):
            expected[inside] = number
        assert np.mean(mask != expected) < 1e-3  # the package encodes one image at a time
        assert mask.max() >= 1


@pytest.mark.parametrize(("name", "count"), [("vit_b", 89_670_912), ("vit_l", 308_278_272), ("vit_h", 637_026_048)])
def test_published_sam_sizes(name, count):
    with torch.device("meta"):
        encoder = build_sam(size_of(name)).image_encoder
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


def test_sam_features_have_unit_scale_and_no_padding(profile):
    extractor = build_extractor(own(profile).features.sam)
    features = extractor.extract([A, B])
    wide = extractor.extract([np.ascontiguousarray(A[:80])])[0]
    assert wide.shape == extractor.shape_for(80, 128) == (SAM["channels"], 10, 16)
    for image, array in zip((A, B), features, strict=True):
        FEATURES_SPASEMSR.member("sam.npy").encode(array)
        assert array.shape == extractor.shape_for(128, 128) == (SAM["channels"], 16, 16)
        np.testing.assert_allclose(array.astype(float).mean(axis=0), 0.0, atol=2e-3)
        np.testing.assert_allclose(array.astype(float).var(axis=0), 1.0, atol=2e-2)
        np.testing.assert_allclose(extractor.extract([image])[0], array, atol=2e-3)


def test_sam_features_without_unit_scale_are_the_encoders(profile, tiny):
    from tests.worlds.tiny_checkpoints import tiny_sam

    spec = own(profile).features.sam.model_copy(update={"unit_scale": False})
    reference = tiny_sam()
    reference.load_state_dict(torch.load(tiny / "sam.pth", weights_only=True))
    from segment_anything.utils.transforms import ResizeLongestSide

    pixels = torch.from_numpy(ResizeLongestSide(SAM["image_size"]).apply_image(A)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = reference.image_encoder(reference.preprocess(pixels))[0]
    np.testing.assert_allclose(build_extractor(spec).extract([A])[0], expected.half(), atol=2e-3)
