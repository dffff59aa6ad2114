"""The smallest thing that each kind of foundation backend does, with random weights: does its library work on a device?

Every network is built at a size of a few thousand parameters, runs on the CPU and on the device, and must agree. The
tests write their tiny checkpoints with the same configurations, where a function below returns one.
"""

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spasemsr.determinism import single_threaded

TRAINING = "a training step"
_TOLERANCE = 0.02  # of the largest value: a GPU sums in another order, and the training step is in bfloat16
Step = tuple[nn.Module, Callable[[nn.Module, torch.device], Tensor]]


def run(kind: str, device: torch.device) -> float:
    """Seconds of one step on the device. Raises ArithmeticError where it does not agree with the CPU."""
    torch.manual_seed(0)
    network, call = (STEPS | {TRAINING: training})[kind]()
    with single_threaded():  # float32 as stages compute it
        expected = call(copy.deepcopy(network), torch.device("cpu"))
        start = time.monotonic()
        found = call(network.to(device), device).cpu()
    off = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    if not bool(off < _TOLERANCE):
        raise ArithmeticError(f"the device differs from the CPU by {float(off):.1%}")
    return time.monotonic() - start


def _numbers(*shape: int) -> Callable[[torch.device], Tensor]:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return lambda device: made.to(device)


def _ids(*shape: int) -> Callable[[torch.device], Tensor]:
    made = torch.arange(torch.Size(shape).numel()).reshape(shape) % 7 + 3
    return lambda device: made.to(device)


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def sam() -> Step:
    """segment-anything's image encoder."""
    from spasemsr.backends.networks.sam import build_sam
    from spasemsr.backends.networks.spec import SamSizeSpec

    size = SamSizeSpec(width=16, depth=2, heads=2, global_attention=(1,), image_size=64, channels=16)
    pixels = _numbers(1, 3, 64, 64)
    return _frozen(build_sam(size).image_encoder), lambda network, device: network(pixels(device))


def clip() -> Step:
    """transformers' CLIP text model."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    ids = _ids(2, 8)
    return _frozen(CLIPTextModel(config)), lambda network, device: network(ids(device)).last_hidden_state


def grounding_dino() -> Step:
    """transformers' GroundingDINO: deformable attention, whose kernel may be one of its own."""
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4,
        out_indices=[2, 3, 4],
    )  # fmt: skip
    text = BertConfig(
        vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=4,
        num_feature_levels=4, encoder_n_points=1, decoder_n_points=1, max_text_len=16,
    )  # fmt: skip
    pixels, ids = _numbers(1, 3, 128, 128), torch.tensor([[101, 200, 1012, 102]])

    def step(network: nn.Module, device: torch.device) -> Tensor:
        return network(pixel_values=pixels(device), input_ids=ids.to(device)).encoder_last_hidden_state_vision

    return _frozen(GroundingDinoForObjectDetection(config)), step


def llava() -> Step:
    """transformers' Llama, which answers in LLaVA."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    ids = _ids(2, 8)
    return _frozen(LlamaForCausalLM(config)), lambda network, device: network(ids(device)).logits


def autoencoder_kl() -> Step:
    """diffusers' autoencoder."""
    from diffusers import AutoencoderKL

    network = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=32)
    pixels = _numbers(1, 3, 32, 32)
    return _frozen(network), lambda made, device: made.encode(pixels(device)).latent_dist.mean


def spandrel() -> Step:
    """The RRDB network of BSRNet and Real-ESRGAN."""
    from spandrel.architectures.ESRGAN import ESRGAN

    pixels = _numbers(1, 3, 16, 16)
    return _frozen(ESRGAN(num_filters=8, num_blocks=1)), lambda network, device: network(pixels(device))


def segformer_config(classes: int) -> Any:
    """A SegFormer of one block a level: 12 channels after its decoder, then one logit for each class."""
    from transformers import SegformerConfig

    return SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=12,
        num_labels=classes,
    )  # fmt: skip


def segformer() -> Step:
    """transformers' SegFormer."""
    from transformers import SegformerForSemanticSegmentation

    network, pixels = SegformerForSemanticSegmentation(segformer_config(3)), _numbers(1, 3, 64, 64)
    return _frozen(network), lambda made, device: made(pixels(device)).logits


def ram() -> Step:
    """timm's Swin under RAM's tagging head."""
    from spasemsr.backends.networks.ram import Ram
    from spasemsr.backends.networks.spec import RamSizeSpec

    size = RamSizeSpec(
        image_size=64, embed_dim=8, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=2, width=8, tags=3, head_width=8,
        head_heads=2,
    )  # fmt: skip
    network, pixels = Ram(size), _numbers(1, 3, 64, 64)
    nn.init.normal_(network.label_embed)
    return _frozen(network), lambda made, device: made.logits(made.represent(pixels(device)))


def clip_vision_config() -> Any:
    """A CLIP image encoder of two layers: 32 px make 5 tokens of 16 channels."""
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )


def clip_vision() -> Step:
    """transformers' CLIP image encoder."""
    from transformers import CLIPVisionModelWithProjection

    network, pixels = CLIPVisionModelWithProjection(clip_vision_config()), _numbers(1, 3, 32, 32)
    return _frozen(network), lambda made, device: made(pixels(device)).last_hidden_state


def depth_anything_config() -> Any:
    """Depth Anything on a DINOv2 of four layers."""
    from transformers import DepthAnythingConfig, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    return DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[4, 4, 8, 8], fusion_hidden_size=8,
        head_hidden_size=4,
    )  # fmt: skip


def depth_anything() -> Step:
    """transformers' Depth Anything on a DINOv2."""
    from transformers import DepthAnythingForDepthEstimation

    network, pixels = DepthAnythingForDepthEstimation(depth_anything_config()), _numbers(1, 3, 28, 28)
    for parameter in network.head.parameters():  # as they are initialised, the output is zero everywhere
        nn.init.normal_(parameter, std=0.3)
    nn.init.ones_(network.head.conv3.bias)
    return _frozen(network), lambda made, device: made(pixels(device)).predicted_depth


def training() -> Step:
    """Forward, backward and a step of AdamW through Stable Diffusion's UNet in bfloat16, as the loop does."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, attention_head_dim=2, cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    latents, text = _numbers(1, 4, 8, 8), _numbers(1, 4, 8)

    def step(made: nn.Module, device: torch.device) -> Tensor:
        optimizer = torch.optim.AdamW(made.parameters(), lr=1e-3, fused=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = made(latents(device), torch.tensor([7], device=device), text(device)).sample.float().square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach().reshape(1)

    return network, step


STEPS: dict[str, Callable[[], Step]] = {
    "autoencoder_kl": autoencoder_kl, "clip": clip, "clip_vision": clip_vision, "depth_anything": depth_anything,
    "grounding_dino": grounding_dino, "llava": llava, "ram": ram, "sam": sam, "segformer": segformer,
    "segformer_features": segformer, "spandrel": spandrel,
}  # fmt: skip
