"""LLaVA as it was published: older names of tensors and files; and that it is loaded where it will run.

Those of the autoencoder and of CLIP: test_checkpoint_refusals.py; of GroundingDINO: test_groundingdino_package.py.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner.spec import LlavaCaptionerSpec
from spasemsr.backends.networks import llava
from tests.worlds.photographs import photograph
from tests.worlds.tiny_checkpoints import write_llava


def as_published(folder: Path) -> None:
    """One file of tensors under the names of 2023, the chat template and the image processor in files of their own."""
    tensors = {}
    for path in folder.glob("*.safetensors"):
        for name, tensor in load_file(path).items():
            name = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")
            name = name.removeprefix("language_model.").removeprefix("model.")
            if name.startswith("vision_tower."):
                name = name.replace("vision_tower.", "vision_tower.vision_model.")
            elif name.startswith("lm_head."):
                name = f"language_model.{name}"
            elif not name.startswith("multi_modal_projector."):
                name = f"language_model.model.{name}"
            tensors[name] = tensor
        path.unlink()
    (folder / "model.safetensors.index.json").unlink()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert any(name.startswith("vision_tower.vision_model.encoder") for name in tensors)
    assert any(name.startswith("language_model.model.layers.0") for name in tensors)
    assert "language_model.lm_head.weight" in tensors
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(processor.pop("image_processor")))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()


def test_llava_in_its_legacy_layout_answers_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("SPASEMSR_DEVICE", "cpu")
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    write_llava(tmp_path / "llava")
    spec = LlavaCaptionerSpec(
        kind="llava", source=str(tmp_path / "llava"), precision="fp32", question="How sharp is it?", max_new_tokens=8
    )
    images = [photograph("astronaut", 64), photograph("coffee", 64)]
    new = build_captioner(spec).caption(images)
    as_published(tmp_path / "llava")
    assert build_captioner(spec).caption(images) == new and all(new)


@pytest.mark.parametrize(("device", "options"), [("cpu", {}), ("cuda:3", {"device_map": {"": torch.device("cuda:3")}})])
def test_llava_is_loaded_where_it_will_run(tmp_path, monkeypatch, device, options):
    """Through the host, eight workers would need eight times 14 GB of its memory at once."""
    asked = []
    monkeypatch.setattr(llava, "load_pretrained", lambda kind, folder, **given: asked.append(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        llava._load(tmp_path, "bf16", device)
    assert asked == [{"dtype": torch.bfloat16, **options}]
