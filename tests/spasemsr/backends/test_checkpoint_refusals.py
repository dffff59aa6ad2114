"""Wrong checkpoints are refused by the name of the first wrong tensor and never partly loaded, by every backend."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.autoencoder.spec import AutoencoderKLSpec
from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner.spec import LlavaCaptionerSpec
from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors.spec import SamFeaturesSpec
from spasemsr.backends.grounding import build_detector, build_segmenter
from spasemsr.backends.grounding.spec import GroundingDinoSpec, SamSegmenterSpec
from spasemsr.backends.protocols import Box, Tag
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import SpandrelRestorerSpec
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.backends.text_encoder.spec import ClipTextSpec
from spasemsr.diffusion.pretrained import load_base
from spasemsr.diffusion.spec import PretrainedBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.errors import UserError
from spasemsr.weights.pretrained import load_pretrained
from spasemsr.weights.tensors import load_strictly, read_state_dict
from tests.worlds.tiny_checkpoints import HIDDEN, SAM, UNET, edit_json, edit_tensors

IMAGE = np.full((64, 64, 3), 90, np.uint8)
Use = Callable[[Path], Any]


def caption(path: Path) -> Any:
    spec = LlavaCaptionerSpec(kind="llava", source=str(path), precision="fp32", question="?", max_new_tokens=2)
    return build_captioner(spec).caption([IMAGE])


def detect(path: Path) -> Any:
    spec = GroundingDinoSpec(kind="grounding_dino", source=str(path), precision="fp32")
    return build_detector(spec).detect([IMAGE], [[Tag("cat", 1.0)]])


def moments(path: Path) -> Any:
    spec = AutoencoderKLSpec(kind="autoencoder_kl", source=str(path), precision="fp32")
    return build_autoencoder(spec).moments(torch.zeros(1, 3, 64, 64))


def encode(path: Path) -> Any:
    return build_text_encoder(ClipTextSpec(kind="clip", source=str(path), precision="fp32")).encode(["a"])


def base(path: Path) -> Any:
    spec = PretrainedBaseSpec(kind="pretrained", source=str(path))
    return load_base(spec, UNetSpec.model_validate(UNET), ScheduleSpec(), 4, HIDDEN)


def segment(path: Path) -> Any:
    spec = SamSegmenterSpec(kind="sam", source=str(path), architecture=SAM, precision="fp32")
    return build_segmenter(spec).segment([IMAGE], [[Box("a", (0, 0, 1, 1), 1.0)]])


def restore(path: Path) -> Any:
    return build_restorer(SpandrelRestorerSpec(kind="spandrel", source=str(path), precision="fp32")).restore([IMAGE], 4)


# name -> what uses it, its folder below the tiny checkpoints, its weights below that, a tensor of it
FOLDERS: dict[str, tuple[Use, str, str, str]] = {
    "grounding_dino": (detect, "grounding_dino", "model.safetensors", "model.level_embed"),
    "vae": (moments, "sd", "vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.weight"),
    "clip": (encode, "sd", "text_encoder/model.safetensors", "final_layer_norm.weight"),
    "unet": (base, "sd", "unet/diffusion_pytorch_model.safetensors", "conv_in.weight"),
}
FILES: dict[str, tuple[Use, str, str]] = {
    "sam": (segment, "sam.pth", "image_encoder.pos_embed"),
    "spandrel": (restore, "rrdbnet.pth", "conv_body.weight"),
}


def key_ending_with(path: Path, name: str) -> str:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        (found,) = [key for key in file.keys() if key.endswith(name) and "decoder.conv_in" not in key]  # noqa: SIM118
    return found


@pytest.fixture(params=FOLDERS)
def copied(request, tiny, tmp_path) -> tuple[Use, Path, Path, str]:
    use, folder, weights, name = FOLDERS[request.param]
    shutil.copytree(tiny / folder, tmp_path / "copy")
    return use, tmp_path / "copy", tmp_path / "copy" / weights, name


def test_the_copies_load_as_they_are(copied):
    use, folder, _, _ = copied
    assert use(folder) is not None


def test_a_renamed_tensor_is_named(copied):
    use, folder, weights, name = copied
    key = key_ending_with(weights, name)
    edit_tensors(weights, lambda tensors: tensors | {f"renamed.{key}": tensors.pop(key)})
    with pytest.raises(UserError) as error:
        use(folder)
    assert re.search(rf"lacks 1 tensors, the first being \S*{re.escape(name)}", error.value.what)
    assert f"the first being renamed.{key}" in error.value.what
    assert "Nothing was loaded" in error.value.remedy


def test_a_tensor_of_another_shape_is_named(copied):
    use, folder, weights, name = copied
    key = key_ending_with(weights, name)
    edit_tensors(weights, lambda tensors: tensors | {key: tensors[key][:-1].contiguous()})
    with pytest.raises(UserError, match=rf"tensors of another shape, the first being \S*{re.escape(name)}, \(\d"):
        use(folder)


def test_a_truncated_file_names_the_first_tensor_cut_off(copied):
    use, folder, weights, _ = copied
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(UserError, match=r"is truncated: the first tensor that is not complete is \w+"):
        use(folder)
    weights.write_bytes(data[:5])
    with pytest.raises(UserError, match="header is incomplete"):
        use(folder)
    weights.write_bytes(b"\x10" + b"\0" * 7 + b"{not json at all" + data)
    with pytest.raises(UserError, match="header is damaged"):
        use(folder)


def test_another_architecture_is_named(copied):
    use, folder, weights, _ = copied
    config = weights.parent / "config.json"
    edit_json(config, **{"_class_name": "PriorTransformer", "model_type": "resnet"})
    with pytest.raises(UserError, match=r"describes a (resnet|PriorTransformer), not a|is no UNet2DConditionModel"):
        use(folder)
    config.write_text("{")
    with pytest.raises(UserError, match=r"config\.json is no JSON"):
        use(folder)
    config.unlink()
    with pytest.raises(UserError, match=r"it has no config\.json"):
        use(folder)


def test_pickled_weights_are_not_opened(copied):
    use, folder, weights, _ = copied
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match=r"only pickled weights \(\w+\.bin\); safetensors are needed"):
        use(folder)


@pytest.mark.parametrize(
    ("use", "folder", "lost"), [(caption, "llava", "tokenizer.json"), (encode, "sd", "tokenizer/vocab.json")]
)
def test_a_missing_tokenizer_is_said(use, folder, lost, tiny, tmp_path):
    shutil.copytree(tiny / folder, tmp_path / "copy")
    (tmp_path / "copy" / lost).unlink()
    with pytest.raises(UserError, match="tokenizer or processor files are absent or damaged"):
        use(tmp_path / "copy")


def test_a_missing_shard_is_named(tiny, tmp_path):
    shutil.copytree(tiny / "llava", tmp_path / "llava")
    shards = sorted((tmp_path / "llava").glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    with pytest.raises(UserError, match=rf"lacks {re.escape(shards[1].name)}, one of {len(shards)} shards"):
        caption(tmp_path / "llava")


def test_a_renamed_tensor_of_llava_is_named(tiny, tmp_path):
    shutil.copytree(tiny / "llava", tmp_path / "llava")
    index = tmp_path / "llava" / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    key = next(name for name in places["weight_map"] if name.endswith("multi_modal_projector.linear_1.weight"))
    shard = places["weight_map"].pop(key)
    places["weight_map"]["wrong.weight"] = shard
    index.write_text(json.dumps(places))
    edit_tensors(tmp_path / "llava" / shard, lambda tensors: tensors | {"wrong.weight": tensors.pop(key)})
    with pytest.raises(UserError, match=r"multi_modal_projector\.linear_1\.weight.*wrong\.weight"):
        caption(tmp_path / "llava")


@pytest.mark.parametrize("kind", FILES)
def test_pth_files(kind, tiny, tmp_path):
    use, name, tensor = FILES[kind]
    path = tmp_path / "model.pth"
    state = torch.load(tiny / name, weights_only=True)
    inner = state.get("params_ema", state)

    def write(changed: dict) -> None:
        torch.save({"params_ema": changed} if inner is not state else changed, path)

    write({key: value for key, value in inner.items() if key != tensor} | {f"renamed.{tensor}": inner[tensor]})
    with pytest.raises(UserError, match=r"first (being|wrong tensor:) "):
        use(path)
    write(inner | {tensor: inner[tensor][:-1]})
    with pytest.raises(UserError, match=r"first (being|wrong tensor:) "):
        use(path)
    path.write_bytes((tiny / name).read_bytes()[:50_000])
    with pytest.raises(UserError, match="is truncated or no checkpoint"):
        use(path)
    torch.save(torch.nn.Linear(2, 2), path)  # a whole pickled module: loading it would run its code
    with pytest.raises(UserError, match=r"holds a pickled torch\.nn\.modules\.linear\.Linear, not tensors"):
        use(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="holds a list"):
        use(path)
    other = tmp_path / "weights.zip"
    shutil.copy(tiny / name, other)
    with pytest.raises(UserError, match="is no tensor file"):
        use(other)


def test_sam_names_the_tensor(tiny, tmp_path):
    state = torch.load(tiny / "sam.pth", weights_only=True)
    state["wrong.name"] = state.pop("image_encoder.pos_embed")
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(
        UserError, match=r"first being image_encoder\.pos_embed; has 1 tensors .* first being wrong\.name"
    ):
        segment(tmp_path / "sam.pth")
    spec = SamFeaturesSpec(kind="sam", source=str(tiny / "sam.pth"), architecture="vit_b", precision="fp32")
    with pytest.raises(UserError, match=r"of another shape, the first being image_encoder\."):
        build_extractor(spec).extract([IMAGE])


def test_a_pickle_that_runs_code_never_runs(tmp_path):
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"params_ema": {"a": Evil()}}, tmp_path / "evil.pth")
    for use in (segment, restore):
        with pytest.raises(UserError, match="holds a pickled"):
            use(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_spandrel_refuses_what_it_does_not_know(tmp_path):
    torch.save({"some.tensor": torch.zeros(3)}, tmp_path / "unknown.pth")
    with pytest.raises(UserError, match=r"knows no architecture with these 1 tensors, the first being some\.tensor"):
        restore(tmp_path / "unknown.pth")


def test_nothing_is_copied_into_a_module_when_one_tensor_is_wrong():
    module = torch.nn.Linear(2, 2)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(UserError, match=r"the first being weight, \(3, 2\) instead of \(2, 2\)"):
        load_strictly(module, {"bias": torch.ones(2), "weight": torch.ones(3, 2)}, "test")
    with pytest.raises(UserError, match="bias is a int, not a tensor"):
        load_strictly(module, {"bias": 3, "weight": torch.ones(2, 2)}, "test")
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


# Names that older versions of the libraries wrote.


def test_old_names_of_sd_2_1_load(tiny, tmp_path):
    """The VAE's attention of diffusers 0.14, CLIP's prefix and its position ids."""
    from transformers import CLIPTextModel

    shutil.copytree(tiny / "sd", tmp_path / "sd")
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def old_attention(tensors: dict) -> dict:
        renamed = {}
        for name, tensor in tensors.items():
            for now, then in new.items():
                name = name.replace(f"attentions.0.{now}", f"attentions.0.{then}")
            renamed[name] = tensor
        assert len(set(renamed) - set(tensors)) == 16
        return renamed

    edit_tensors(tmp_path / "sd/vae/diffusion_pytorch_model.safetensors", old_attention)
    assert torch.equal(moments(tmp_path / "sd"), moments(tiny / "sd"))

    def old_clip(tensors: dict) -> dict:
        prefixed = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}
        return prefixed | {"text_model.embeddings.position_ids": torch.arange(77)[None]}

    edit_tensors(tmp_path / "sd/text_encoder/model.safetensors", old_clip)
    assert torch.equal(encode(tmp_path / "sd").states_BLD, encode(tiny / "sd").states_BLD)
    assert load_pretrained(CLIPTextModel, tmp_path / "sd/text_encoder") is not None


def test_tensors_are_read_from_safetensors_and_pth_alike(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert torch.equal(read_state_dict(tmp_path / name)["a"], torch.ones(2))
    with pytest.raises(UserError, match="does not exist"):
        read_state_dict(tmp_path / "b.pth")
