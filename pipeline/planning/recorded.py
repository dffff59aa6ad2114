"""Rates and sizes of the foundation models that were recorded elsewhere, each with its source; not measured here.

Rates are samples per second on one device, `device` as in `spasemsr/training/devices.py`, for the sizes this project
uses; where nobody published one, `operations` of a sample were counted (torch's FlopCounterMode on the meta device) and
stand with a share of the peak that is assumed.
"""

from dataclasses import dataclass

ASSUMED_MFU = 0.35  # of training and of networks without a recorded rate; a guess until a run has said its own
ASSUMED_BANDWIDTH = 0.6  # of a memory's published rate that decoding a language model reaches; a guess too
FP32_SHARE = 1 / 16  # of a GPU's dense bf16 rate that plain float32 reaches: A100 19.5 of 312, H100 67 of 989 TFLOPS


@dataclass(frozen=True)
class Recorded:
    """One model: parameters, GB that one more sample of a batch takes, and a rate or operations to estimate one.

    A model that answers in words takes its `operations` for the question; each word after that reads all weights once
    for the whole batch, and `kept` bytes of keys and values for each sample: memory's speed decides, and the batch.
    """

    parameters: int
    sample_gb: float
    source: str
    rate: float | None = None
    device: str = ""
    operations: float | None = None
    kept: float = 0.0


# By `source` name of params.yaml; `<name>/<part>` where several stages use parts of one checkpoint.
MODELS = {
    "llava-1.5-7b": Recorded(
        7_063_427_072, 0.5,
        "LLaVA: the question's 640 tokens counted, 9.0 TFLOP; each token of the answer reads 14.1 GB of weights once a "
        "batch and 0.39 GB of keys and values a sample. Agrees with 1.5 s a caption, one at a time, on an RTX 3090 "
        "(JackAILab/ConsistentID issue 42) at 45 tokens",
        operations=9.0e12, kept=0.39e9,
    ),
    "grounding-dino-base": Recorded(
        232_000_000, 2.0,
        "GroundingDINO: 8.37 frames/s of Swin-T (paper, appendix I, as quoted in its issue 50; taken to be an A100's); "
        "Swin-B is slower; memory: 2.8 GB resident on a CPU",
        rate=8.37, device="A100",
    ),
    "grounding-dino-tiny": Recorded(
        172_000_000, 2.0,
        "GroundingDINO: 8.37 frames/s (paper, appendix I, as quoted in its issue 50; taken to be an A100's); memory: "
        "2.8 GB resident on a CPU",
        rate=8.37, device="A100",
    ),
    "sam-vit-h": Recorded(
        641_090_608, 2.7,
        "SAM: 0.15 s per image on an A100 (the SAM project's FAQ); memory: attention of 16 heads over 4096 cells",
        rate=6.7, device="A100",
    ),
    "sam-vit-l": Recorded(312_342_832, 2.7, "SAM: operations as ViT-H's by parameters", operations=2.9e12),
    "sam-vit-b": Recorded(93_735_472, 2.0, "SAM: operations as ViT-H's by parameters", operations=0.87e12),
    "autoencoder": Recorded(
        83_653_863, 1.6, "autoencoder: encoding 512 px counted: 1.117 TFLOP; memory: 1.9 GB resident on a CPU",
        operations=1.117e12,
    ),
    "restorer": Recorded(
        16_700_000, 0.3, "restorer: RRDBNet x4, 35.8 MFLOP per lr pixel, by its layers; at 128 px of lr",
        operations=0.587e12,
    ),
    "clip": Recorded(340_387_840, 0.0, "CLIP: a text of 77 tokens counted, 0.045 TFLOP", operations=0.045e12),
    "ram-swin-large": Recorded(
        212_117_045, 0.1, "RAM: its representation counted, 0.208 TFLOP; memory: its largest layer", operations=0.208e12
    ),
    "clip-vit-h-image": Recorded(
        632_076_800, 0.1, "CLIP ViT-H: 224 px counted, 0.335 TFLOP; memory: its largest layer", operations=0.335e12
    ),
    "depth-anything-v2-large": Recorded(
        335_315_649, 0.2, "Depth Anything: 518 px counted, 1.304 TFLOP; memory: its largest layer", operations=1.304e12
    ),
    "segformer-b2-ade": Recorded(
        27_461_974, 0.3, "SegFormer-B2: 512 px counted, 0.125 TFLOP; memory: its largest layer", operations=0.125e12
    ),
}  # fmt: skip
