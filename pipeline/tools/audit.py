"""`spasemsr guidance`: what guidance does to a model's results on a folder of photographs.

Of each photograph the central square is hr; degraded, restored, tagged and captioned as `upscale` does, it is asked
what stage audit asks of the evaluation split: every condition in every state, an object renamed, attention by layer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from spasemsr.cache import Cache
from spasemsr.data.dataset import Batch
from spasemsr.data.pairs import make_pair, photographs
from spasemsr.data.spec import PresetName
from spasemsr.determinism import pin_threads
from spasemsr.errors import RejectedSample, UserError
from spasemsr.evaluation import audit
from spasemsr.evaluation.attention import attention_ratios
from spasemsr.evaluation.metrics import Metric, build_metrics
from spasemsr.evaluation.restoration import CachedRestoration
from spasemsr.evaluation.scores import require_writable, write_json
from spasemsr.images.names import shown
from spasemsr.images.picture import Picture
from spasemsr.methods.truth import Truth
from spasemsr.pixels import ImageU8, bicubic_upsample, to_tensor
from spasemsr.progress import Progress
from spasemsr.report.guidance import sentences
from spasemsr.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class Request:
    """What to ask: so many photographs by name, at most `side` px of each, degraded by `preset`; so many seeds."""

    photographs: Path
    images: int
    seeds: int
    side: int
    preset: str
    metrics: tuple[str, ...]
    json: Path


def run(request: Request, load: Callable[[], Upscaler]) -> Iterator[str]:
    """Ask the model that `load` loads, write `json`; yields the findings in words, then the rows they come from.

    A file that cannot be read is named and left out. Raises UserError where no photograph is left, and before anything
    is loaded for a preset or metric that is not there and for a `json` that cannot be written.
    """
    if request.preset not in get_args(PresetName):
        raise UserError(f"No preset {request.preset!r}.", f"Choose from: {', '.join(get_args(PresetName))}")
    metrics = build_metrics(request.metrics)
    if not metrics:
        raise UserError("There is no metric to compute.", "Name some with --metrics, such as psnr,ssim.")
    require_writable(request.json)
    upscaler = load()
    pin_threads()
    samples, left_out = described(upscaler, request)
    for name, why in left_out.items():
        yield f"left out {name}: {why}"
    if not samples:
        raise UserError(f"{request.photographs} holds no photograph that can be asked about.", "Name another folder.")
    found = ask(upscaler, samples, metrics, range(request.seeds), with_truth=True)
    record = {
        "method": upscaler.config.method,
        "weights_sha256": upscaler.weights_sha256,
        "photographs": [sample.key for sample in samples],
        "left_out": left_out,
        "side": request.side,
        "preset": request.preset,
        "seeds": request.seeds,
        "sampling": upscaler.sampling.plain(),
        "audit": found,
    }
    write_json(request.json, record)
    yield f"photographs: {len(samples)}, noise seeds of each: {request.seeds}, degraded by preset {request.preset}"
    yield from sentences(found, metrics)
    yield from ("", *audit.lines(found))
    yield f"everything, with intervals: {request.json}"


@dataclass(frozen=True)
class Sample:
    """A picture and its conditions, a batch of one."""

    key: str
    batch: Batch
    hr: ImageU8


def described(upscaler: Upscaler, request: Request) -> tuple[list[Sample], dict[str, str]]:
    """The first photographs of a folder by name, and by name why one is left out.

    Raises UserError for a folder that does not exist.
    """
    if not request.photographs.is_dir():
        raise UserError(f"There is no folder {request.photographs}.", "Name a folder of photographs.")
    samples: list[Sample] = []
    left_out: dict[str, str] = {}
    for path in photographs(request.photographs):
        if len(samples) == request.images:
            break
        if path.stem in {sample.key for sample in samples}:  # scores are kept by key
            left_out[shown(path.name)] = f"another file is called {path.stem} too"
            continue
        try:
            samples.append(make_sample(upscaler, path, request.preset, request.side))
        except RejectedSample as rejected:
            left_out[shown(path.name)] = str(rejected)
    return samples, left_out


def make_sample(upscaler: Upscaler, path: Path, preset: str, side: int) -> Sample:
    """A photograph's central square, degraded, with the conditions that `upscale` finds. Raises RejectedSample."""
    pair = make_pair(path, preset, side)
    method, scale, lr = upscaler.method, upscaler.config.scale, to_tensor(pair.lr).contiguous()
    found = upscaler.conditions(Picture(pair.lr, None, "PNG"))
    restored = to_tensor(upscaler.restorer.restore([pair.lr], scale)[0]).contiguous()
    batch = Batch([pair.key], lr, [found.objects], [found.caption], None, {}, None, restored)
    seen = restored if "restored" in method.restore_columns else bicubic_upsample(lr, scale)
    return Sample(pair.key, method.seeing(batch, seen), pair.hr)


def ask(
    upscaler: Upscaler, samples: Sequence[Sample], metrics: Sequence[Metric], seeds: Sequence[int], with_truth: bool
) -> dict[str, Any]:
    """The audit of these pictures, each one's `other` the next; `with_truth` also asks what hr's own tags would do."""
    method, sampling, config = upscaler.method, upscaler.sampling, upscaler.config
    restoring = CachedRestoration(method, Cache(), [config.plain(), upscaler.weights_sha256])
    truth = Truth(method, config.inference.ground) if with_truth else None
    others = [*samples[1:], *samples[:1]]
    cases = [
        audit.Case(s.key, s.batch, other.batch, truth.of(s.batch, s.hr) if truth else None, s.hr)
        for s, other in zip(samples, others, strict=True)
    ]
    progress = Progress("audit", audit.most(len(cases), len(seeds), method.conditions), unit="images")

    def restore(batches: Sequence[Batch], seed: int) -> list[ImageU8]:
        pictures = []
        for batch in batches:
            pictures.append(restoring(batch, seed, sampling))
            progress.advance()
        return pictures

    found = audit.audit(cases, method.conditions, metrics, restore, seeds, method.condition_features)
    progress.close()
    batches = [sample.batch for sample in samples]
    return found | {"attention": attention_ratios(method, batches, config.scale, 0, sampling)}
