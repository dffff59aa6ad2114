"""What makes foundation backends faster changes nothing but time: fused attention, states remembered, work ahead."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spasemsr.backends.grounding.grounding_dino import GroundingDino
from spasemsr.backends.grounding.spec import GroundingDinoSpec, SamSegmenterSpec
from spasemsr.backends.networks import sam
from spasemsr.backends.networks.ahead import Ahead
from spasemsr.backends.networks.spec import SamSizeSpec
from spasemsr.backends.protocols import Box, Tag
from spasemsr.backends.text_encoder import clip_text
from spasemsr.backends.text_encoder.spec import ClipTextSpec
from tests.worlds.photographs import photograph
from tests.worlds.tiny_checkpoints import SAM, write_grounding_dino, write_sam, write_stable_diffusion

A = photograph("astronaut", 128)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("SPASEMSR_DEVICE", "cpu")
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)


def test_sams_attention_is_the_packages_in_one_kernel(monkeypatch):
    size = SamSizeSpec(width=32, depth=2, heads=4, global_attention=(1,), image_size=320, channels=16)
    encoder = sam.build_sam(size).image_encoder
    torch.manual_seed(3)
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    pixels = torch.randn(2, 3, 320, 320)
    fused = encoder(pixels)
    for block in encoder.blocks:
        assert block.attn.forward.func is sam.fused_attention
        del block.attn.forward  # back to the package's own
    plain = encoder(pixels)
    assert torch.allclose(fused, plain, atol=2e-5) and plain.std() > 0.1
    for block in encoder.blocks:
        torch.nn.init.zeros_(block.attn.rel_pos_h)
    assert not torch.allclose(encoder(pixels), plain, atol=1e-2), "positions must matter for this test to say anything"


class TextModel(torch.nn.Module):
    """Counts what it is asked; states are functions of the ids and of the batch's size, as on a GPU."""

    config = SimpleNamespace(vocab_size=10**6)

    def __init__(self):
        super().__init__()
        self.batches: list[int] = []

    def forward(self, input_ids):
        self.batches.append(len(input_ids))
        states = input_ids.float()[..., None].repeat(1, 1, 4) + len(input_ids)
        return SimpleNamespace(last_hidden_state=states.to(torch.bfloat16))


def test_the_states_of_a_text_are_remembered_and_depend_on_nothing_else(tmp_path, monkeypatch):
    write_stable_diffusion(tmp_path / "sd")
    monkeypatch.setattr(clip_text, "REMEMBERED", 12)
    encoder = clip_text.ClipText(ClipTextSpec(kind="clip", source=str(tmp_path / "sd"), precision="fp32"), "auto")
    encoder._loaded()
    encoder._model = model = TextModel()
    alone = encoder.encode(["a cat"])
    words = [f"w{i}" for i in range(9)]
    together = encoder.encode([*words, "a cat", "a cat"])
    assert model.batches == [8, 8, 8]
    assert torch.equal(together.states_BLD[9], alone.states_BLD[0]) and torch.equal(*together.states_BLD[9:])
    assert torch.equal(together.mask_BL[9], alone.mask_BL[0]) and alone.states_BLD.dtype == torch.float32
    encoder.encode(words)
    assert len(model.batches) == 3
    encoder.encode([f"v{i}" for i in range(12)])
    assert len(encoder._remembered) == 12 and "a cat" not in encoder._remembered


def test_grounding_dino_resizes_ahead_and_once_for_all_prompts(tmp_path):
    write_grounding_dino(tmp_path / "dino")
    spec = GroundingDinoSpec(kind="grounding_dino", source=str(tmp_path / "dino"), precision="fp32", min_score=0.0)
    asked = [[Tag(f"thing{i}", 1.0) for i in range(80)]] * 2  # more than one prompt holds
    plain, ahead = GroundingDino(spec, "auto"), GroundingDino(spec, "auto")
    images = [A, np.ascontiguousarray(A[:, ::-1])]
    lanes = [threading.Thread(target=ahead.prepare, args=(image,)) for image in images]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    computed, pixels = [], ahead._ahead._compute
    ahead._ahead._compute = lambda image: computed.append(image) or pixels(image)
    assert ahead.detect(images, asked) == plain.detect(images, asked)
    assert computed == []


def test_sam_resizes_ahead(tmp_path, monkeypatch):
    write_sam(tmp_path / "sam.pth")
    spec = SamSegmenterSpec(kind="sam", source=str(tmp_path / "sam.pth"), precision="fp32", architecture=SAM)
    segmenter = sam.SamSegmenter(spec, "auto")
    segmenter.prepare(A)
    monkeypatch.setattr(segmenter._ahead, "_compute", lambda image: pytest.fail("resized in the computing thread"))
    assert segmenter.segment([A], [[Box("cat", (0.1, 0.1, 0.9, 0.9), 1.0)]])[0].shape == A.shape[:2]


def test_only_the_last_images_are_held():
    ahead: Ahead[int] = Ahead(int)
    images = [str(i) for i in range(100)]
    for image in images:
        ahead.prepare(image)
    assert len(ahead._held) == 32 and [ahead.take(image) for image in images] == list(range(100))
