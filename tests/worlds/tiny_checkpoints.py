"""Tiny checkpoints of every foundation model in its real layout on disk, written by the libraries themselves.

`write_all` makes them in a folder; `foundation_params` are the dotted keys that point the foundation profile at them.
Weights are random, so nothing here says anything about quality: the loading code, the key sets and the shapes are real.
"""

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

HIDDEN = 32  # of the text encoder, so the UNet's cross_attention_dim
UNET = {
    "block_out_channels": [16, 24, 32, 32],
    "attention_heads": [2, 2, 2, 2],
    "norm_num_groups": 8,
    "sample_size": 16,
}
SAM = {"width": 32, "depth": 2, "heads": 2, "global_attention": [1], "image_size": 256, "channels": 16}
SAM_WINDOW, SAM_PATCH = 14, 16  # fixed by the package
_WORDS = """sharp blurry noisy soft grainy compressed image photo edges colors a the is and with very cat dog person
sky car tree building window grass chair table cup""".split()


def write_all(folder: Path) -> Path:
    """Write every checkpoint below `folder`; the layout is what `foundation_params` names."""
    torch.manual_seed(20260314)
    write_stable_diffusion(folder / "sd")
    write_llava(folder / "llava")
    write_grounding_dino(folder / "grounding_dino")
    write_sam(folder / "sam.pth")
    write_rrdbnet(folder / "rrdbnet.pth")
    return folder


def foundation_params(folder: Path) -> dict[str, Any]:
    """Overrides of params.yaml: sources and sizes of the foundation profile, nothing else."""
    sam = {"source": str(folder / "sam.pth"), "revision": None, "architecture": SAM, "precision": "fp32"}
    diffusion = {"source": str(folder / "sd"), "revision": None}
    answers = {"source": str(folder / "llava"), "revision": None, "precision": "fp32", "max_new_tokens": 12}
    sections = {
        "restore": {"source": str(folder / "rrdbnet.pth"), "revision": None, "precision": "fp32", "batch_size": 2},
        "ground.detector": {
            "source": str(folder / "grounding_dino"), "revision": None, "precision": "fp32", "min_score": 0.0,
        },
        "ground.tagger": answers,
        "ground.segmenter": sam,
        "caption": {**answers, "batch_size": 2},
        "autoencoder": {**diffusion, "precision": "fp32", "batch_size": 2},
        "text_encoder": {**diffusion, "precision": "fp32"},
        "methods.spasemsr.features.sam": {**sam, "batch_size": 2},
        "methods.spasemsr.model.base": diffusion,
        "methods.spasemsr.model.unet": UNET,
        "methods.spasemsr.model.encoders": {"hint_channels": [4, 8, 8, 8], "sem_blocks": 1},
        "methods.spasemsr.model.fusion_width": 16,
        "data": {
            "packages": ["skimage"], "val_fraction": 0.2, "max_reject_rate": 0.5,
            "max_patches": 2, "patch": 128, "stride": 128, "val_patch": 192, "val_max_patches": 1, "num_buckets": 2,
            "variants": 2,
        },
        "ground.batch_size": 2,
        "ground.max_objects": 4,
        "train": {
            "held": 2, "validate_every": 2, "keep_every": 2,
            "steps": 4, "warmup_steps": 1, "global_batch": 2, "save_every": 2, "log_every": 1, "precision": "fp32",
        },
        "evaluate.metrics": ["psnr", "ssim", "niqe"],
        "evaluate.sample.steps": 2,
        "dial": {"sweeps": ["guidance"], "images": 1, "seeds": 2},
    }  # fmt: skip
    flat: dict[str, Any] = {}
    for section, value in sections.items():
        whole = not isinstance(value, dict) or section.endswith("architecture")
        flat |= (
            {f"foundation.{section}": value}
            if whole
            else {f"foundation.{section}.{key}": inner for key, inner in value.items()}
        )
    return flat


def write_stable_diffusion(folder: Path, prediction: str = "epsilon", linear_projection: bool = True) -> None:
    """The folder layout of Stable Diffusion: unet, vae, text_encoder, tokenizer, scheduler."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    UNet2DConditionModel(
        sample_size=UNET["sample_size"],
        in_channels=4,
        out_channels=4,
        block_out_channels=tuple(UNET["block_out_channels"]),
        # SD 2.1 lists heads per level and projects linearly; SD 1.5 states one number and projects by 1x1 convolutions
        attention_head_dim=tuple(UNET["attention_heads"]) if linear_projection else UNET["attention_heads"][0],
        use_linear_projection=linear_projection,
        cross_attention_dim=HIDDEN,
        norm_num_groups=UNET["norm_num_groups"],
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=128,
    ).save_pretrained(folder / "vae")
    words = write_clip_tokenizer(folder / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=words, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=words - 2, eos_token_id=words - 1,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        prediction_type=prediction,
    ).save_pretrained(folder / "scheduler")  # fmt: skip


def write_clip_tokenizer(folder: Path) -> int:
    """The four files of Stable Diffusion 2's tokenizer, without merges; pads with "!" (id 0). Returns its size."""
    letters = [chr(code) for code in range(33, 127)]
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = [*letters, *(f"{letter}</w>" for letter in letters), start, end]
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "!"}
    settings = {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(words)


def write_llava(folder: Path) -> None:
    """A LLaVA of 0.2 M parameters with a byte-level BPE tokenizer and a processor; chat template of LLaVA-1.5."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [" ".join(_WORDS)] * 4, trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"}, padding_side="left",
    )  # fmt: skip
    template = (
        "{% for message in messages %}USER: {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, bos_token_id=1, eos_token_id=2, pad_token_id=3,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    words = {index for word in (*_WORDS, ",") for index in tokenizer(f" {word}", add_special_tokens=False)["input_ids"]}
    with torch.no_grad():  # it answers in words and commas, not in random bytes
        model.lm_head.weight[[index for index in range(len(tokenizer)) if index not in words]] = 0.0
    model.save_pretrained(folder, max_shard_size="300KB")  # in shards, as the real one
    processor.save_pretrained(folder)


def write_grounding_dino(folder: Path) -> None:
    """A GroundingDINO of 1 M parameters; the ids of [CLS] [SEP] . ? are BERT's, which the model has built in."""
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    vocabulary = [f"[unused{i}]" for i in range(1030)]
    fixed = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789'-"
    for index, token in fixed.items():
        vocabulary[index] = token
    for index, token in enumerate([*letters, *(f"##{letter}" for letter in letters)], start=200):
        vocabulary[index] = token
    vocabulary += [word for word in _WORDS if word not in vocabulary]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    numbers = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = BertTokenizerFast(vocab=numbers, do_lower_case=True, model_max_length=512)
    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4,
        out_indices=[2, 3, 4],
    )  # fmt: skip
    text = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=512,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=20,
        num_feature_levels=4, encoder_n_points=2, decoder_n_points=2, fusion_dropout=0.0,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 192})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def write_sam(path: Path) -> None:
    """segment-anything's own modules at a small size, saved as its checkpoints are: a plain state dict."""
    torch.save(tiny_sam().state_dict(), path)


def tiny_sam(sizes: dict[str, Any] = SAM) -> torch.nn.Module:
    """Sam(ImageEncoderViT, PromptEncoder, MaskDecoder) of the package, built as its `_build_sam` does."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid, channels = sizes["image_size"] // SAM_PATCH, sizes["channels"]
    encoder = ImageEncoderViT(
        img_size=sizes["image_size"], patch_size=SAM_PATCH, embed_dim=sizes["width"], depth=sizes["depth"],
        num_heads=sizes["heads"], mlp_ratio=4, out_chans=channels, qkv_bias=True, use_rel_pos=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), window_size=SAM_WINDOW,
        global_attn_indexes=sizes["global_attention"],
    )  # fmt: skip
    torch.nn.init.normal_(encoder.pos_embed, std=0.5)
    prompt = PromptEncoder(
        embed_dim=channels, image_embedding_size=(grid, grid), input_image_size=(sizes["image_size"],) * 2,
        mask_in_chans=16,
    )  # fmt: skip
    decoder = MaskDecoder(
        transformer_dim=channels, num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=256,
        transformer=TwoWayTransformer(depth=2, embedding_dim=channels, num_heads=8, mlp_dim=2048),
    )  # fmt: skip
    return Sam(encoder, prompt, decoder).eval()


def write_rrdbnet(path: Path, features: int = 8, blocks: int = 1) -> None:
    """The layout of Real-ESRGAN's x4 checkpoints: basicsr's RRDBNet under the key `params_ema`."""
    growth = 32  # spandrel takes it for granted
    shapes = {"conv_first": (features, 3), "conv_last": (3, features)}
    shapes |= {name: (features, features) for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr")}
    for block, dense in itertools.product(range(blocks), ("rdb1", "rdb2", "rdb3")):
        for i in range(1, 6):
            out = features if i == 5 else growth
            shapes[f"body.{block}.{dense}.conv{i}"] = (out, features + (i - 1) * growth)
    state = {}
    for name, (out, inner) in shapes.items():
        state[f"{name}.weight"] = 0.1 * torch.randn(out, inner, 3, 3)
        state[f"{name}.bias"] = 0.1 * torch.randn(out)
    state["conv_last.bias"] += 0.5
    torch.save({"params_ema": state}, path)


def edit_tensors(path: Path, change: Any) -> None:
    """Rewrite a safetensors file after `change(tensors)`."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    save_file(change(dict(tensors)), path, metadata={"format": "pt"})


def edit_json(path: Path, **values: Any) -> None:
    """Change top-level values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
