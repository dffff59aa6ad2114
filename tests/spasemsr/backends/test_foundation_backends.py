"""Every foundation backend: its real layout on disk, loaded by the production path, run on two photographs."""

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.autoencoder import spec as autoencoder_spec
from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner import spec as captioner_spec
from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors import spec as extractors_spec
from spasemsr.backends.grounding import build_detector, build_segmenter, build_tagger
from spasemsr.backends.grounding import spec as grounding_spec
from spasemsr.backends.grounding.select import select
from spasemsr.backends.grounding.spec import GroundingDinoSpec, LlavaTaggerSpec, VocabularyTaggerSpec
from spasemsr.backends.networks.answers import CaptionPolicy, content_words, object_names, read_names, tags_of
from spasemsr.backends.networks.llava import squared
from spasemsr.backends.networks.runtime import choose_device, compute
from spasemsr.backends.networks.sam import build_sam
from spasemsr.backends.networks.spec import size_of
from spasemsr.backends.protocols import Box, Tag
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer import spec as restorer_spec
from spasemsr.backends.restorer.spec import SpandrelRestorerSpec
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.backends.text_encoder import spec as text_encoder_spec
from spasemsr.config import Params, parse_params
from spasemsr.data.columns import CAPTION, LATENTS, OBJECTS
from spasemsr.diffusion.base import require_topology
from spasemsr.diffusion.pretrained import load_base
from spasemsr.diffusion.spec import PretrainedBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.errors import UserError
from spasemsr.methods import method
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR
from tests.worlds import ROOT
from tests.worlds.photographs import photograph, shrunk
from tests.worlds.tiny_checkpoints import (
    HIDDEN,
    SAM,
    edit_tensors,
    foundation_params,
    write_all,
    write_stable_diffusion,
)

SHIPPED = ROOT / "params.yaml"
A, B = photograph("astronaut", 128), photograph("coffee", 128)
TAGS = [[Tag("cat", 1.0), Tag("red car", 1.0), Tag("astronaut", 1.0)], [Tag("cup", 1.0)]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPASEMSR_MODELS", str(tmp_path_factory.mktemp("models")))
        yield write_all(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def params(tiny) -> Params:
    """The shipped foundation profile, pointed at the tiny checkpoints."""
    raw = copy.deepcopy(yaml.safe_load(SHIPPED.read_text()))
    raw["profile"] = "foundation"
    for key, value in foundation_params(tiny).items():
        *parents, last = key.split(".")
        place = raw
        for part in parents:
            place = place[part]
        assert last in place, f"{key} overrides nothing"
        place[last] = value
    return parse_params(raw, "params.yaml")


@pytest.fixture(scope="module")
def profile(params):
    return params.active


def own(profile):
    """The section of the method that these models serve."""
    return profile.methods["spasemsr"]


def test_a_backend_is_named_before_it_is_loaded(profile):
    """The process that plans a stage needs the identity alone, and must not spend 14 GB on it."""
    backends = [
        build_captioner(profile.caption),
        build_detector(profile.ground.detector),
        build_segmenter(profile.ground.segmenter),
        build_restorer(profile.restore),
        build_extractor(own(profile).features.sam),
        build_autoencoder(profile.autoencoder),
        build_text_encoder(profile.text_encoder),
    ]
    *grounding, detector, segmenter = grounding_spec.identity_of(profile.ground)["models"]
    named = [
        captioner_spec.identity_of(profile.caption),
        detector,
        segmenter,
        restorer_spec.identity_of(profile.restore),
        extractors_spec.identity_of(own(profile).features.sam),
        autoencoder_spec.identity_of(profile.autoencoder),
        text_encoder_spec.identity_of(profile.text_encoder),
    ]
    for identity in [*grounding, *named]:
        assert identity["precision"] == "fp32" and len(identity["weights_sha256"]) == 64
    assert len({identity["weights_sha256"] for identity in named}) == len(named) - 1  # SAM is used twice
    for backend in backends:
        assert not {"_loaded", "_model"} & {name for name, value in vars(backend).items() if value is not None}


def test_identity_and_params_do_not_depend_on_where_weights_lie(profile, tiny, tmp_path):
    import shutil

    moved = shutil.copy(tiny / "rrdbnet.pth", tmp_path / "elsewhere.pth")
    other = profile.restore.model_copy(update={"source": str(moved)})
    identity_of = restorer_spec.identity_of
    assert identity_of(other) == identity_of(profile.restore)
    assert other.content() == profile.restore.content() != profile.restore.plain()
    state = torch.load(moved, weights_only=True)
    state["params_ema"]["conv_last.bias"] += 0.1
    torch.save(state, moved)
    assert identity_of(other) != identity_of(profile.restore)


def test_llava_captions(profile):
    captioner = build_captioner(profile.caption)
    captions = captioner.caption([A, B])
    alone = [captioner.caption([image])[0] for image in (A, B)]
    assert captions == alone
    for text in captions:
        CAPTION.member("caption.json").encode({"text": text, "prompt": captioner.prompt})
        assert 0 < len(text.split()) <= profile.caption.max_words
    assert captioner.counts["captions"] == 4


def test_no_model_of_the_paper_runs_on_a_cpu_unasked(profile, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("SPASEMSR_DEVICE")
    for run in (
        lambda: build_captioner(profile.caption).caption([A]),
        lambda: build_restorer(profile.restore).restore([A], 4),
        lambda: build_extractor(own(profile).features.sam).extract([A]),
        lambda: build_autoencoder(profile.autoencoder),
        lambda: build_text_encoder(profile.text_encoder),
    ):
        with pytest.raises(UserError, match="needs a GPU") as error:
            run()
        assert "SPASEMSR_DEVICE=cpu" in error.value.remedy and "CUDA" in error.value.remedy
    assert choose_device("any").type == choose_device("cpu").type == "cpu"
    monkeypatch.setenv("SPASEMSR_DEVICE", "cuda:1")
    assert str(choose_device("auto")) == "cuda:1"


def test_captioner_and_tagger_share_one_llava(profile, tiny):
    tagger = LlavaTaggerSpec(
        kind="llava", source=str(tiny / "llava"), precision=profile.caption.precision, question="?", max_new_tokens=2
    )
    one, two = build_captioner(profile.caption), build_tagger(tagger)
    one._answers.ask([A], "?"), two._answers.ask([A], "?")
    assert one._answers._loaded.model is two._answers._loaded.model


def test_the_sides_of_a_wide_picture_are_seen():
    """LLaVA's processor cuts the middle square out of what it is given."""
    wide = photograph("coffee", 128)[:64]
    square = squared(wide, (122, 116, 104))
    assert square.shape == (128, 128, 3) and np.array_equal(square[32:96], wide)
    assert (square[:32] == (122, 116, 104)).all() and squared(A, (0, 0, 0)) is A


def test_llava_lists_objects(profile, params, tiny):
    from spasemsr.backends.grounding.spec import LlavaTaggerSpec

    spec = LlavaTaggerSpec(
        kind="llava", source=str(tiny / "llava"), precision="fp32", question="What is there?", max_new_tokens=12
    )
    tagger = build_tagger(spec)
    tags = tagger.tag([A, B])
    assert tags == [tagger.tag([image])[0] for image in (A, B)]
    assert any(tags)
    assert all(tag.text == tag.text.lower() and "." not in tag.text for found in tags for tag in found)


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
    model, processor = detector._loaded
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
    tokenizer = detector._loaded[1].tokenizer
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


def test_spandrel_restores_in_any_batch_and_nearly_so_in_tiles(profile, tiny):
    restorer = build_restorer(profile.restore)
    lrs = [shrunk(A, 4), shrunk(B, 4)]
    restored = restorer.restore(lrs, 4)
    assert [image.shape for image in restored] == [A.shape, B.shape]
    assert all(image.dtype == np.uint8 and image.std() > 1 for image in restored)
    for lr, together in zip(lrs, restored, strict=True):
        assert np.abs(restorer.restore([lr], 4)[0].astype(int) - together).max() <= 1
    tiled = SpandrelRestorerSpec(
        kind="spandrel", source=str(tiny / "rrdbnet.pth"), precision="fp32", tile=32, margin=16
    )
    whole, pieces = restorer.restore([A], 4)[0], build_restorer(tiled).restore([A], 4)[0]
    assert np.abs(whole.astype(int) - pieces).max() <= 2
    with pytest.raises(UserError, match="enlarges 4 times, the pipeline 2 times"):
        restorer.restore(lrs, 2)


def test_autoencoder_kl(profile):
    autoencoder = build_autoencoder(profile.autoencoder)
    assert (autoencoder.channels, autoencoder.downscale, autoencoder.scaling_factor) == (4, 8, 0.18215)
    images = torch.from_numpy(np.stack([A, B])).permute(0, 3, 1, 2).float() / 255
    moments = autoencoder.moments(images)
    LATENTS.member("moments.npy").encode(moments[0].half().numpy())
    assert moments.shape == (2, 8, 16, 16)
    assert torch.allclose(autoencoder.moments(images[1:]), moments[1:], atol=1e-5)
    decoded = autoencoder.decode(moments[:, :4])
    assert decoded.shape == images.shape and decoded.min() >= 0 and decoded.max() <= 1
    assert torch.allclose(autoencoder.decode(moments[:1, :4]), decoded[:1], atol=1e-5)
    with pytest.raises(ValueError, match="multiples of 8"):
        autoencoder.moments(images[..., :100])


def test_autoencoder_tiles_above_1024_px_only(profile):
    autoencoder = build_autoencoder(profile.autoencoder)
    images = torch.from_numpy(np.tile(A, (1, 9, 1))).permute(2, 0, 1)[None].float() / 255
    assert autoencoder.moments(images).shape == (1, 8, 16, 144)
    model = autoencoder._model
    assert (model.use_tiling, model.tile_sample_min_size, model.tile_latent_min_size) == (True, 1024, 128)


def test_fp16_overflow_costs_time_but_never_becomes_data(profile, tiny, tmp_path, caplog):
    """The decoder's last weights are too large for float16, as SD's activations are; float32 holds them."""
    import shutil

    shutil.copytree(tiny / "sd" / "vae", tmp_path / "vae")

    def enlarge(tensors: dict) -> dict:
        return tensors | {"decoder.conv_out.weight": 1e6 * tensors["decoder.conv_out.weight"]}

    edit_tensors(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", enlarge)
    specs = [
        profile.autoencoder.model_copy(update={"source": str(tmp_path), "precision": precision})
        for precision in ("fp16", "fp32")
    ]
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        half, full = (build_autoencoder(spec).decode(latents) for spec in specs)
    assert torch.equal(half, full)
    assert caplog.text.count("computed again in fp32") == 2


def test_only_the_sample_that_overflowed_is_computed_again():
    inputs = torch.tensor([[1.0], [1e30], [2.0]])
    calls = []

    def network(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return (x if len(x) > 1 else x.clamp(max=9.0)) * (1e10 if len(x) > 1 else 1.0)

    assert compute(network, inputs, torch.device("cpu"), "fp32", "test").flatten().tolist() == [1e10, 9.0, 2e10]
    assert calls == [3, 1]
    with pytest.raises(FloatingPointError, match="in fp32 either"):
        compute(lambda x: x * float("nan"), inputs, torch.device("cpu"), "bf16", "test")


def test_clip_text_takes_eos_from_the_attention_mask(profile):
    encoder = build_text_encoder(profile.text_encoder)
    assert (encoder.width, encoder.length) == (HIDDEN, 77)
    states = encoder.encode(["", "cat!", "x" * 300])
    assert states.states_BLD.shape == (3, 77, HIDDEN) and states.states_BLD.dtype == torch.float32
    assert states.mask_BL.sum(dim=1).tolist() == [2, 6, 77]  # "!" is the padding token, and a word here
    assert torch.allclose(encoder.encode(["cat!"]).states_BLD, states.states_BLD[1:2], atol=1e-5)
    tokenizer = encoder._tokenizer
    ids = tokenizer("cat!", padding="max_length", max_length=77)["input_ids"]
    last = int(states.mask_BL[1].sum()) - 1
    assert ids[last] == tokenizer.eos_token_id and tokenizer.pad_token_id == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_in_bf16_reads_the_text_as_sampling_does(profile, precision):
    encoder = build_text_encoder(profile.text_encoder.model_copy(update={"precision": precision}))
    alone = encoder.encode(["a cat"]).states_BLD
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.encode(["a cat"]).states_BLD, alone)


def test_weights_follow_the_module_to_its_device(profile):
    encoder = build_text_encoder(profile.text_encoder).to("meta")
    assert encoder._place.device.type == "meta"
    encoder = build_text_encoder(profile.text_encoder)
    encoder.encode(["a"])
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_base_of_stable_diffusion_1_5_becomes_linear_without_changing_its_function(profile, tmp_path):
    from diffusers import UNet2DConditionModel

    write_stable_diffusion(tmp_path, linear_projection=False)
    base = PretrainedBaseSpec(kind="pretrained", source=str(tmp_path))
    unet = load_base(base, own(profile).model.unet, ScheduleSpec(), 4, HIDDEN)
    require_topology(unet)
    original = UNet2DConditionModel.from_pretrained(tmp_path / "unet").eval()
    assert original.config.use_linear_projection is False
    inputs = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 77, HIDDEN)
    with torch.no_grad():
        assert torch.allclose(unet(*inputs).sample, original(*inputs).sample, atol=1e-5)


def test_base_of_stable_diffusion_2_1_keeps_every_tensor(profile, tiny):
    from diffusers import UNet2DConditionModel

    unet = load_base(own(profile).model.base, own(profile).model.unet, own(profile).model.schedule, 4, HIDDEN)
    require_topology(unet)
    original = UNet2DConditionModel.from_pretrained(tiny / "sd" / "unet").state_dict()
    assert len(original) == 686
    assert all(torch.equal(tensor, original[name]) for name, tensor in unet.state_dict().items())


def test_a_base_must_agree_with_params(profile, tiny, tmp_path):
    model = own(profile).model
    write_stable_diffusion(tmp_path, prediction="v_prediction")
    v = PretrainedBaseSpec(kind="pretrained", source=str(tmp_path))
    assert load_base(v, model.unet, ScheduleSpec(prediction="v_prediction"), 4, HIDDEN) is not None
    with pytest.raises(UserError, match=r"prediction_type = 'epsilon', but .* has 'v_prediction'"):
        load_base(v, model.unet, model.schedule, 4, HIDDEN)
    with pytest.raises(UserError, match=r"model\.unet\.attention_heads is \[4, 4, 4, 4\], but .* has \[2, 2, 2, 2\]"):
        wider = UNetSpec.model_validate({**model.unet.plain(), "attention_heads": [4, 4, 4, 4]})
        load_base(model.base, wider, model.schedule, 4, HIDDEN)
    with pytest.raises(UserError, match="the text encoder's width is 64"):
        load_base(model.base, model.unet, model.schedule, 4, 64)
    with pytest.raises(UserError, match="the autoencoder's channels is 48"):
        load_base(model.base, model.unet, model.schedule, 48, HIDDEN)


def test_the_method_stands_on_the_pretrained_base(params, profile, tiny):
    from diffusers import UNet2DConditionModel

    face = method("spasemsr")
    built = face.build(face.describe(params.ingredients("spasemsr"), {}))
    original = UNet2DConditionModel.from_pretrained(tiny / "sd" / "unet").state_dict()
    unet = built.network.unet
    assert all(torch.equal(tensor, original[name]) for name, tensor in unet.state_dict().items())
    assert not any(parameter.requires_grad for parameter in unet.parameters())
    assert "unet" not in built.trainable()


# What is made of answers.


def cleaned(answer: str, **rules: int) -> tuple[str, dict[str, int]]:
    policy = CaptionPolicy(**{"max_words": 60, "max_content_words": 2} | rules)
    return policy.clean(answer), dict(policy.counts)


def test_a_caption_is_one_line_without_control_characters():
    text, counts = cleaned(" The image is\n blurry,\t with\x00 strong noise. ")
    assert text == "The image is blurry, with strong noise."
    assert counts["control characters"] == 1


def test_a_caption_is_capped():
    text, counts = cleaned("noise " * 500)
    assert len(text.split()) == 60 and counts["too long"] == 1
    endless, _ = cleaned("n" * 100_000)
    assert len(endless) == 1000


def test_clauses_beyond_the_allowance_of_content_words_are_left_out():
    answer = "The photo of a dog is blurry, a cat sits on a sofa near a window, and the colors are muted."
    text, counts = cleaned(answer)
    assert text == "The photo of a dog is blurry, and the colors are muted."
    assert counts["content left out"] == 1
    assert cleaned("blurry, strong noise, low contrast")[1] == {"captions": 1, "changed": 0}


def test_a_caption_of_content_alone_is_kept_and_counted():
    text, counts = cleaned("A dog and a cat on a sofa near a window with a vase.")
    assert text == "A dog and a cat on a sofa near a window with a vase."
    assert counts["content only"] == 1


@pytest.mark.parametrize("answer", ["", " \n\t", "...", "\x00\x01", "123 !"])
def test_an_empty_caption_is_an_error(answer):
    with pytest.raises(UserError, match="said nothing") as error:
        cleaned(answer)
    assert "never stored" in error.value.remedy


def test_words_of_quality_are_not_content():
    said = "image photo noise blur sharp grain contrast color light edges artifacts compression pepper orange field can"
    assert not set(said.split()) & content_words()
    assert {"dog", "dogs", "window", "boxes"} <= content_words()


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ("A dog, two cats and the window.", ["dog", "cats", "window"]),
        ("1. Tree\n2. Brick wall\n- a person", ["tree", "brick wall", "person"]),
        ("dog, Dog, DOG", ["dog"]),
        ("I see a very large number of different things here, sky", ["sky"]),
        ("", []),
        ("<script>, 42, \x07bell", ["bell"]),
    ],
)
def test_tags_of_an_answer(answer, tags):
    assert tags_of(answer, 20) == tags
    assert tags_of(answer, 1) == tags[:1]
