"""Every foundation backend: its real layout on disk, loaded by the production path, run on two photographs."""

import numpy as np
import pytest
import torch

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.autoencoder import spec as autoencoder_spec
from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner import spec as captioner_spec
from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors import spec as extractors_spec
from spasemsr.backends.grounding import build_detector, build_segmenter, build_tagger
from spasemsr.backends.grounding import spec as grounding_spec
from spasemsr.backends.grounding.spec import LlavaTaggerSpec
from spasemsr.backends.networks.llava import squared
from spasemsr.backends.networks.runtime import choose_device
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer import spec as restorer_spec
from spasemsr.backends.restorer.spec import SpandrelRestorerSpec
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.backends.text_encoder import spec as text_encoder_spec
from spasemsr.data.columns import CAPTION
from spasemsr.errors import UserError
from tests.worlds.photographs import photograph, shrunk

A, B = photograph("astronaut", 128), photograph("coffee", 128)


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


def test_llava_captions(profile, monkeypatch):
    captioner, asked = build_captioner(profile.caption), []
    alone = [captioner.caption([image])[0] for image in (A, B)]
    model = captioner._answers._loaded.model
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: asked.append(len(given["input_ids"])) or generate(**given))
    captions = captioner.caption([A, B])
    assert captions == alone and asked == [2], "the weights are read once for all pictures of a batch"
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
