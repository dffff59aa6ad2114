"""Every foundation backend at paper scale with random weights: `python benchmarks/full_backends.py [--only NAME]...`.

A checkpoint of the real size in the real layout is written to a temporary folder (LLaVA's takes 14 GB), the production
path loads it, and one batch goes through; each backend in a process of its own, so that its peak memory is its own.
Operations are counted by torch (SAM's were on the meta device: the counter and autocast exclude each other). On a CPU
the clock is the process's, on a GPU the wall's, after one warm-up.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from backends import BOXES, TAGS, TEXTS, pictures, spec_of  # noqa: E402

from spasemsr.backends.autoencoder import build_autoencoder  # noqa: E402
from spasemsr.backends.autoencoder.spec import AutoencoderSpec  # noqa: E402
from spasemsr.backends.captioner import build_captioner  # noqa: E402
from spasemsr.backends.captioner.spec import CaptionerSpec  # noqa: E402
from spasemsr.backends.extractors import build_extractor  # noqa: E402
from spasemsr.backends.extractors.spec import ExtractorSpec  # noqa: E402
from spasemsr.backends.grounding import build_detector, build_segmenter  # noqa: E402
from spasemsr.backends.grounding.spec import DetectorSpec, SegmenterSpec  # noqa: E402
from spasemsr.backends.networks.spec import size_of  # noqa: E402
from spasemsr.backends.restorer import build_restorer  # noqa: E402
from spasemsr.backends.restorer.spec import RestorerSpec  # noqa: E402
from spasemsr.backends.text_encoder import build_text_encoder  # noqa: E402
from spasemsr.backends.text_encoder.spec import TextEncoderSpec  # noqa: E402
from spasemsr.training.devices import known_device  # noqa: E402
from spasemsr.training.meter import Meter  # noqa: E402
from tests.worlds import tiny_checkpoints as tiny  # noqa: E402

QUESTION = "Describe only the quality of this image in one sentence."


def randomized(kind: type, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A model of a library with small random weights, made without its slow initialisation."""
    with torch.device("meta"):
        model = kind(config).to(dtype)
    model = model.to_empty(device="cpu")
    pattern = (0.02 * torch.randn(1 << 20)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            flat = parameter.view(-1)
            for start in range(0, flat.numel(), len(pattern)):
                part = flat[start : start + len(pattern)]
                part.copy_(pattern[: len(part)])
    return model


def autoencoder(folder: Path, device: str, images: list[Any]) -> Callable[[], Any]:
    """SD 2.1's autoencoder."""
    from diffusers import AutoencoderKL

    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=768,
    ).save_pretrained(folder / "vae")  # fmt: skip
    built = build_autoencoder(spec_of(AutoencoderSpec, kind="autoencoder_kl", source=str(folder)), device)
    tensor = (torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2).float() / 255).to(device)
    return lambda: built.moments(tensor)


def text(folder: Path, device: str, images: list[Any]) -> Callable[[], Any]:
    """SD 2.1's CLIP text encoder; a batch of four strings."""
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tiny.write_clip_tokenizer(folder / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
        bos_token_id=words - 2, eos_token_id=words - 1,
    )  # fmt: skip
    randomized(CLIPTextModel, config).save_pretrained(folder / "text_encoder")
    built = build_text_encoder(spec_of(TextEncoderSpec, kind="clip", source=str(folder)), device)
    return lambda: built.encode(TEXTS)


def restorer(folder: Path, device: str, images: list[Any]) -> Callable[[], Any]:
    """RRDBNet with 23 blocks of 64 features; lr is a quarter of the side."""
    tiny.write_rrdbnet(folder / "rrdbnet.pth", 64, 23)
    spec = spec_of(RestorerSpec, kind="spandrel", source=str(folder / "rrdbnet.pth"), precision="fp32")
    built, small = build_restorer(spec, device), [image[::4, ::4].copy() for image in images]
    return lambda: built.restore(small, 4)


def features(folder: Path, device: str, images: list[Any]) -> Callable[[], Any]:
    """SAM ViT-H's image encoder at 1024 px."""
    return _sam(folder, ExtractorSpec, build_extractor, device, lambda built: built.extract(images))


def segmenter(folder: Path, device: str, images: list[Any]) -> Callable[[], Any]:
    """SAM ViT-H, masks of two boxes."""
    boxes = [BOXES] * len(images)
    return _sam(folder, SegmenterSpec, build_segmenter, device, lambda built: built.segment(images, boxes))


def _sam(folder: Path, union: Any, build: Any, device: str, use: Callable[[Any], Any]) -> Callable[[], Any]:
    with torch.device("meta"):
        empty = tiny.tiny_sam(size_of("vit_h").plain())
    model = empty.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        nn.init.normal_(tensor.data, std=0.02)
    torch.save(model.state_dict(), folder / "sam.pth")
    del model, empty
    built = build(
        spec_of(union, kind="sam", source=str(folder / "sam.pth"), architecture="vit_h", precision="bf16"), device
    )
    return lambda: use(built)


def detector(folder: Path, device: str, images: list[Any]) -> Callable[[], Any]:
    """GroundingDINO base (Swin-B) at its 800 px."""
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    tiny.write_grounding_dino(folder)
    tokenizer = GroundingDinoProcessor.from_pretrained(folder).tokenizer
    backbone = SwinConfig(
        image_size=384, embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=12,
        out_indices=[2, 3, 4],
    )  # fmt: skip
    config = GroundingDinoConfig(backbone_config=backbone, text_config=BertConfig())
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoProcessor(GroundingDinoImageProcessor(), tokenizer).save_pretrained(folder)
    spec = spec_of(DetectorSpec, kind="grounding_dino", source=str(folder), precision="fp32", min_score=0.3)
    built, tags = build_detector(spec, device), [TAGS] * len(images)
    return lambda: built.detect(images, tags)


def captioner(folder: Path, device: str, images: list[Any]) -> Callable[[], Any]:
    """LLaVA-1.5-7B in bf16: 577 image tokens of 336 px, and 32 words of answer."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tiny.write_llava(folder)
    answers = LlavaForConditionalGeneration.from_pretrained(folder).lm_head.weight.abs().sum(1) > 0
    processor = LlavaProcessor.from_pretrained(folder)
    processor.image_processor = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    tokenizer = processor.tokenizer
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
            patch_size=14, projection_dim=768,
        ),
        text_config=LlamaConfig(vocab_size=32064, bos_token_id=1, eos_token_id=2, pad_token_id=3),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = randomized(LlavaForConditionalGeneration, config, torch.bfloat16)
    with torch.no_grad():  # it answers in words, and never ends early
        model.lm_head.weight[len(answers) :] = 0
        model.lm_head.weight[: len(answers)][~answers] = 0
    for file in folder.glob("model*"):
        file.unlink()
    model.save_pretrained(folder)
    del model
    processor.save_pretrained(folder)
    spec = spec_of(
        CaptionerSpec, kind="llava", source=str(folder), precision="bf16", question=QUESTION, max_new_tokens=32
    )
    built = build_captioner(spec, device)
    return lambda: built.caption(images)


BACKENDS = {
    "autoencoder": autoencoder, "text": text, "restorer": restorer, "features": features, "segmenter": segmenter,
    "detector": detector, "captioner": captioner,
}  # fmt: skip

COUNTED = {"features": 5.96, "segmenter": 5.96}  # TFLOP of SAM ViT-H's image encoder


def measure(name: str, device: str, batch: int, warm: bool) -> dict[str, Any]:
    """One backend, in this process: seconds of a batch, its operations, and the peak of memory after loading."""
    images, chosen = pictures(512 - 31 * batch, batch), torch.device(device)
    images = [image[: image.shape[0] // 4 * 4, : image.shape[1] // 4 * 4] for image in images]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        call = BACKENDS[name](Path(folder), device, images)
        clock = time.perf_counter if chosen.type == "cuda" else time.process_time
        counter = FlopCounterMode(display=False)
        with torch.inference_mode(), nullcontext() if name in COUNTED else counter:
            if warm or chosen.type == "cuda":
                call()
            counted = counter.get_total_flops()
            meter, start = Meter(chosen, 1, batch, "bf16"), clock()
            call()
            if chosen.type == "cuda":
                torch.cuda.synchronize()
        taken = clock() - start
    return {
        "backend": name,
        "seconds": taken / batch,
        "tflop": COUNTED.get(name) or (counter.get_total_flops() - counted) / batch / 1e12,
        "peak_gb": meter.peak_bytes / 1e9,
    }


def main() -> None:
    """Measure each backend in a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--warm", action="store_true", help="Once before, on a CPU too.")
    parser.add_argument("--only", action="append", choices=BACKENDS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.only[0], args.device, args.batch, args.warm)))
        return
    peak = known_device(torch.cuda.get_device_name()) if args.device == "cuda" else None
    for name in args.only or BACKENDS:
        command = [sys.executable, __file__, "--here", "--only", name, "--device", args.device, "--batch", args.batch]
        command += ["--warm"] if args.warm else []
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            print(f"{name:<12}failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        rate = row["tflop"] / row["seconds"]
        share = f"  {100 * rate * 1e12 / peak.flops:.0f} % of the peak" if peak else ""
        print(
            f"{name:<12}{row['seconds']:9.2f} s a sample{row['tflop']:8.2f} TFLOP{1000 * rate:9.0f} GFLOP/s"
            f"{row['peak_gb']:7.1f} GB{share}",
            flush=True,
        )


if __name__ == "__main__":
    main()
