"""Throughput of every backend, beside the bare call of the library that does its work.

    python benchmarks/backends.py [--device cpu|cuda] [--size 128] [--batch 4] [--rounds 5]

Embedded backends run as they are; their reference is decoding the same pictures from PNG, which every stage has to do
anyway. Foundation backends run on tiny checkpoints in the real layouts (`tests/worlds/tiny_checkpoints.py`), loaded by
the production path; their reference is the loaded network itself on a tensor of the size the backend feeds it, so the
ratio is what reading, resizing, precision and the way back cost. GroundingDINO and LLaVA are compared with the same
work one picture at a time. All in one run, medians of the rounds.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from skimage import data

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from spasemsr.backends.autoencoder import build_autoencoder  # noqa: E402
from spasemsr.backends.autoencoder.spec import AutoencoderSpec  # noqa: E402
from spasemsr.backends.captioner import build_captioner  # noqa: E402
from spasemsr.backends.captioner.spec import CaptionerSpec  # noqa: E402
from spasemsr.backends.extractors import build_extractor  # noqa: E402
from spasemsr.backends.extractors.spec import ExtractorSpec  # noqa: E402
from spasemsr.backends.grounding import build_detector, build_segmenter, build_tagger  # noqa: E402
from spasemsr.backends.grounding.spec import DetectorSpec, SegmenterSpec, TaggerSpec  # noqa: E402
from spasemsr.backends.protocols import Box, Tag  # noqa: E402
from spasemsr.backends.restorer import build_restorer  # noqa: E402
from spasemsr.backends.restorer.spec import RestorerSpec  # noqa: E402
from spasemsr.backends.text_encoder import build_text_encoder  # noqa: E402
from spasemsr.backends.text_encoder.spec import TextEncoderSpec  # noqa: E402
from tests.worlds import tiny_checkpoints as tiny  # noqa: E402

Call = Callable[[], Any]
ALONE = ("detector/grounding_dino", "captioner/llava")
BOXES = [Box("dog", (0.1, 0.1, 0.6, 0.8), 0.9), Box("sky", (0.0, 0.0, 1.0, 0.4), 0.8)]
TAGS = [Tag(text, 0.9) for text in ("dog", "sky", "tree")]
TEXTS = ["dog, sky", "a blurry photo with strong noise", "tree", ""]


def pictures(size: int, count: int) -> list[np.ndarray]:
    """Crops of a photograph."""
    photo = data.astronaut()
    return [np.ascontiguousarray(photo[31 * i : 31 * i + size, 17 * i : 17 * i + size]) for i in range(count)]


def spec_of(union: Any, **values: Any) -> Any:
    """The member of a tagged union whose `kind` is given."""
    from pydantic import TypeAdapter

    return TypeAdapter(union).validate_python(values)


def embedded(images: list[np.ndarray]) -> Iterator[tuple[str, Call, Call]]:
    """(name, backend, reference) of the weight-free backends."""
    files = [cv2.imencode(".png", image)[1] for image in images]
    small = [cv2.resize(image, None, fx=0.25, fy=0.25) for image in images]

    def decode() -> Any:
        return [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files]

    tagger = build_tagger(spec_of(TaggerSpec, kind="palette"))
    detector = build_detector(spec_of(DetectorSpec, kind="components"))
    segmenter = build_segmenter(spec_of(SegmenterSpec, kind="components"))
    turn = itertools.count()

    def ground() -> Any:
        """The three remember the regions of a picture they have seen, so they get new ones."""
        new = [np.roll(image, next(turn), axis=0) for image in images]
        tags = tagger.tag(new)
        return segmenter.segment(new, detector.detect(new, tags))

    yield "ground/palette+components", ground, decode
    captioner = build_captioner(spec_of(CaptionerSpec, kind="rules"))
    yield "captioner/rules", lambda: captioner.caption(images), decode
    restorer = build_restorer(spec_of(RestorerSpec, kind="filter"))
    yield "restorer/filter", lambda: restorer.restore(small, 4), decode
    extractor = build_extractor(spec_of(ExtractorSpec, kind="filter_bank"))
    yield "features/filter_bank", lambda: extractor.extract(images), decode
    autoencoder = build_autoencoder(spec_of(AutoencoderSpec, kind="block_dct"))
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    yield "autoencoder/block_dct", lambda: autoencoder.moments(tensor), decode
    text = build_text_encoder(spec_of(TextEncoderSpec, kind="hashed"))
    yield "text/hashed", lambda: text.encode(TEXTS), decode


def foundation(images: list[np.ndarray], folder: Path, device: str) -> Iterator[tuple[str, Call, Call]]:
    """(name, backend, reference) of the networks on tiny checkpoints."""
    precision = "fp32"
    tensor = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255).to(device)
    sam = {"source": str(folder / "sam.pth"), "architecture": tiny.SAM, "precision": precision}
    extractor: Any = build_extractor(spec_of(ExtractorSpec, kind="sam", **sam), device)
    side = tiny.SAM["image_size"]
    seen = torch.rand(len(images), 3, side, side, device=device)
    yield "features/sam", lambda: extractor.extract(images), lambda: extractor._model.image_encoder(seen)
    segmenter: Any = build_segmenter(spec_of(SegmenterSpec, kind="sam", **sam), device)
    boxes = [BOXES] * len(images)
    yield "segmenter/sam", lambda: segmenter.segment(images, boxes), lambda: segmenter._model.image_encoder(seen)
    diffusion = {"source": str(folder / "sd"), "precision": precision}
    autoencoder: Any = build_autoencoder(spec_of(AutoencoderSpec, kind="autoencoder_kl", **diffusion), device)
    yield (
        "autoencoder/autoencoder_kl",
        lambda: autoencoder.moments(tensor),
        lambda: autoencoder._loaded().encode(tensor).latent_dist.parameters,
    )
    text: Any = build_text_encoder(spec_of(TextEncoderSpec, kind="clip", **diffusion), device)
    ids = torch.ones(len(TEXTS), text.length, dtype=torch.int64, device=device)
    yield "text/clip", lambda: text.encode(TEXTS), lambda: text._loaded()[0](input_ids=ids)
    network = {"source": str(folder / "rrdbnet.pth"), "precision": precision}
    restorer: Any = build_restorer(spec_of(RestorerSpec, kind="spandrel", **network), device)
    small = [cv2.resize(image, None, fx=0.25, fy=0.25) for image in images]
    low = (torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255).to(device)
    yield "restorer/spandrel", lambda: restorer.restore(small, 4), lambda: restorer._model(low)
    dino = {"source": str(folder / "grounding_dino"), "precision": precision, "min_score": 0.0}
    detector: Any = build_detector(spec_of(DetectorSpec, kind="grounding_dino", **dino), device)
    tags = [TAGS] * len(images)
    yield "detector/grounding_dino", lambda: detector.detect(images, tags), one_by_one(detector.detect, images, tags)
    answers = {"source": str(folder / "llava"), "precision": precision, "question": "Describe.", "max_new_tokens": 12}
    captioner: Any = build_captioner(spec_of(CaptionerSpec, kind="llava", **answers), device)
    yield "captioner/llava", lambda: captioner.caption(images), one_by_one(captioner.caption, images)


def one_by_one(call: Callable[..., Any], *batches: Sequence[Any]) -> Call:
    """The same work in batches of one: the reference where the library has no call without its own preparation."""
    return lambda: [call(*([item] for item in items)) for items in zip(*batches, strict=True)]


def median(call: Call, rounds: int) -> float:
    """Seconds, after one call that loads and warms up."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time  # other jobs do not show
    with torch.inference_mode():
        call()
        taken = []
        for _ in range(rounds):
            start = clock()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(clock() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="Write the numbers here too.")
    args = parser.parse_args()
    images, rows = pictures(args.size, args.batch), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        tiny.write_all(folder)
        for kind, cases in (("embedded", embedded(images)), ("foundation", foundation(images, folder, args.device))):
            for backend, ours, reference in cases:
                seconds, bare = median(ours, args.rounds), median(reference, args.rounds)
                rate, ratio = args.batch / seconds, seconds / bare
                against = "reading the PNG" if kind == "embedded" else "the bare network"
                against = "batches of one" if backend in ALONE else against
                print(f"{kind:<11}{backend:<28}{rate:10.1f} samples/s  {ratio:7.2f}x the time of {against}", flush=True)
                rows.append({"backend": backend, "samples_per_second": rate, "ratio": ratio})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
