"""The `upscale` command: files in, restored files out, one line for each, and a run that can be stopped at any moment.

Exit statuses: 0 everything is restored; 2 nothing could be begun, or not gone on with (options, weights, no space, no
permission); 3 some files failed, each with its reason, and all others are restored; 130 stopped by Ctrl-C.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import layout
from spasemsr.config import load_params
from spasemsr.errors import RejectedSample, UserError
from spasemsr.hashing import fingerprint, sha256_bytes
from spasemsr.heap import reuse_freed_memory
from spasemsr.images import writing
from spasemsr.images.deviation import GAIN
from spasemsr.images.names import shown
from spasemsr.images.opening import read_bytes
from spasemsr.images.picture import MAX_BYTES, Picture, parse_picture
from spasemsr.images.results import map_of, sidecar_of
from spasemsr.methods import method as face_of
from spasemsr.methods import names
from spasemsr.methods.stored import WEIGHTS
from spasemsr.progress import Progress
from spasemsr.upscaling import files
from spasemsr.upscaling.files import Source
from spasemsr.upscaling.lettering import reader_for, warnings
from spasemsr.upscaling.regions import overlaps
from spasemsr.upscaling.settings import MAP_SEEDS, Settings

if TYPE_CHECKING:  # it takes seconds to import, and a mistyped name should not
    from spasemsr.upscaling.upscaler import Restored, Upscaler

log = logging.getLogger(__name__)

OK, FAILED, INTERRUPTED = 0, 3, 130
VERSION = 3  # of what a result is: bump it when the same input, model and settings give other pixels
VERSIONS = {"TIFF": 4}  # of inputs of one format alone
MAX_PIXELS = 1_000_000_000  # what memory allows is decided later, from the header
PRETRAINED, PARAMS = Path("data/pretrained/nano"), Path("params.yaml")


@dataclass(frozen=True)
class Request:
    """What was asked for; `form` None keeps each input's format, `max_memory` None takes what is free."""

    inputs: tuple[str, ...]
    out: Path
    settings: Settings
    form: str | None = None
    quality: int = writing.QUALITY
    max_memory: int | None = None
    save_map: bool = False
    force: bool = False


def load(method: str | None, profile: str | None, weights: str | None, revision: str | None, device: str) -> "Upscaler":
    """The upscaler of `--weights`, or of the project's own model, by default of the first method it runs.

    Raises UserError for weights of another method or profile than asked for.
    """
    if method is not None:
        face_of(method)
    from spasemsr.upscaling.upscaler import Upscaler

    reuse_freed_memory()
    upscaler = Upscaler.from_pretrained(weights or default_weights(method), revision=revision, device=device)
    described = upscaler.config
    if method is not None and described.method != method:
        raise UserError(f"These weights are of method {described.method}.", f"Ask for --method {described.method}.")
    if profile is not None and described.inference.profile != profile:
        trained = described.inference.profile
        raise UserError(f"These weights were trained in the profile {trained}.", f"Ask for --profile {trained}.")
    return upscaler


def choices(first: "Upscaler", profile: str | None, device: str) -> dict[str, Callable[[], "Upscaler"]]:
    """What loads each method that this project trained, by its label; `first` is loaded already and stands first."""
    trained = [name for name in names() if (layout.model_folder(name) / WEIGHTS).is_file()]
    others = [name for name in trained if name != first.config.method]
    found: dict[str, Callable[[], Upscaler]] = {face_of(first.config.method).label: lambda: first}
    return found | {face_of(name).label: partial(load, name, profile, None, None, device) for name in others}


def default_weights(method: str | None) -> Path:
    """What this project trained; else what it ships with. Raises UserError where this folder has neither."""
    if method is None and PARAMS.is_file():
        method = load_params(PARAMS).methods[0]
    trained = [layout.model_folder(method)] if method is not None else []
    places = [*trained, PRETRAINED]
    found = next((place for place in places if (place / WEIGHTS).is_file()), None)
    if found is None:
        where = " and ".join(place.as_posix() for place in places)
        raise UserError(
            f"There are no weights in {where} below {Path.cwd()}.",
            "Go to the project's folder, or name weights with --weights; dvc repro trains some.",
        )
    return found


def sources_of(request: Request) -> list[Source]:
    """The inputs, but for results of earlier runs whose originals are named too; one line says so."""
    sources = files.find_sources(request.inputs, request.out)
    earlier = files.earlier_results(sources, request.out)
    if earlier:
        result, original = (shown(source.path) for source in next(iter(earlier.items())))
        some = "1 result" if len(earlier) == 1 else f"{len(earlier)} results"
        said = f"{some} of earlier runs, such as {result}, made from {original}"
        log.info("left out  %s; name one without its original to restore it", said)
    return [source for source in sources if source not in earlier]


def run(request: Request, load_upscaler: Callable[[], "Upscaler"]) -> int:
    """Restore every input; returns the exit status. Raises UserError for what stops the whole run.

    The model is loaded when inputs and output are known to be there.
    """
    sources = sources_of(request)
    places = files.targets(sources, request.out, request.settings.ending, request.form)
    files.require_writable(request.out)
    work = [_thousands(source) for source in sources]
    progress = Progress("upscale", sum(work), unit="kpx")
    outcomes: Counter[str] = Counter()
    job = _Job(request, load_upscaler(), progress, sources)
    try:
        for source, place, size in zip(sources, places, work, strict=True):
            try:
                outcome, said = job(source, place, size)
            except RejectedSample as rejected:
                outcome, said = "failed", str(rejected)
            except MemoryError:
                outcome, said = "failed", "needs_memory: more than there is; give a lower --max-memory"
            outcomes[outcome] += 1
            progress.close()
            log.info("%-9s %s: %s", outcome, shown(source.path), said)
            job.finish(size, outcome)
    except KeyboardInterrupt:
        progress.close()
        left = len(sources) - outcomes.total()
        log.info("stopped   %d of %d left; the same command goes on from here", left, len(sources))
        return INTERRUPTED
    except UserError:
        progress.close()
        log.info("stopped   %d of %d left", len(sources) - outcomes.total(), len(sources))
        raise
    progress.close()
    counts = ", ".join(f"{outcomes[name]} {name}" for name in ("restored", "skipped", "failed") if outcomes[name])
    log.info("upscale   %s", counts)
    return FAILED if outcomes["failed"] else OK


class _Job:
    """One file after the other through the upscaler."""

    def __init__(self, request: Request, upscaler: "Upscaler", progress: Progress, sources: Sequence[Source]) -> None:
        self._request, self._upscaler, self._progress, self._sources = request, upscaler, progress, sources
        self._advanced = 0  # thousands of pixels of this file that the progress line counts as done

    def __call__(self, source: Source, target: Path | None, size: int) -> tuple[str, str]:
        """Restore one file -> ("restored" or "skipped", what to say). Raises RejectedSample, and UserError to stop."""
        request, upscaler = self._request, self._upscaler
        self._advanced = 0
        data = read_bytes(source.path, MAX_BYTES)
        if source.size is not None:  # what will not fit is refused before it is decoded
            upscaler.plan(source.size, request.settings, request.max_memory, request.save_map)
        picture = parse_picture(data, MAX_PIXELS)
        form = request.form or (target and files.suffix_format(target)) or writing.written_as(picture.format)
        if target is None or form != files.suffix_format(target):
            raise RejectedSample("changed", "another file took its place while this ran; run the same again")
        made_of = self._made_of(data, picture.format, form)
        name = fingerprint(made_of)
        require_free(request, target, self._sources, name)
        if not request.force and files.state(target, name, request.save_map) == "done":
            return "skipped", f"{shown(target)} is done"
        resumed = target.exists()
        width, height = picture.size
        writing.require_fit(form, *request.settings.sizes(width, height)[1])
        writing.trial(picture, form, request.quality)

        def report(done: int, total: int) -> None:
            step = size * done // total - self._advanced
            self._advanced += step
            self._progress.advance(step, shown(source.path.name))

        restored = upscaler.restore(
            picture, request.settings, max_memory=request.max_memory, with_map=request.save_map, report=report
        )
        result = writing.fitted(restored.picture, form)
        outputs = [(target, writing.encode(result, request.quality))]
        drawn = None
        if restored.deviation is not None:
            drawn = writing.encode(Picture(restored.deviation[..., None], None, "PNG"))
            outputs.append((map_of(target), drawn))
        sidecar = files.sidecar(name, outputs, self._record(source, picture, result, restored, made_of))
        if not files.publish(target, outputs[0][1], sidecar, drawn, request.force, resumed):
            if files.state(target, name, request.save_map) == "done":
                return "skipped", f"{shown(target)} was done by another run meanwhile"
            raise RejectedSample("exists", f"another run wrote {shown(target)} meanwhile; --force replaces it")
        after = "x".join(map(str, result.size))
        said = [*result.notes, *overlaps(restored.regions), *warnings(restored.text)]
        notes = f" ({', '.join(said)})" if said else ""
        return "restored", f"{shown(target)} {width}x{height} -> {after}, {restored.budget}{notes}"

    def finish(self, size: int, outcome: str) -> None:
        """Count the rest of a file; only what was restored says how fast it goes."""
        left = size - self._advanced
        if outcome == "restored":
            self._progress.advance(left)
        else:
            self._progress.skip(left)

    def _made_of(self, data: bytes, read: str, form: str) -> dict[str, Any]:
        """Everything that can change a byte of the result; `read` and `form` are the formats of input and result."""
        request = self._request
        return made_of(request.settings, self._upscaler, data, read) | {
            "format": form,
            "quality": request.quality if form in ("JPEG", "WEBP") else None,
            "map": request.save_map,
        }

    def _record(
        self, source: Source, picture: Picture, result: Picture, restored: "Restored", made_of: dict[str, Any]
    ) -> dict[str, Any]:
        """The sidecar's account for a person: no times, no paths of this machine."""
        record = {
            **account(source, picture, result, self._upscaler, made_of),
            "sampling": restored.sampling.plain(),
            "windows": {"height": restored.budget.window_height, "width": restored.budget.window_width},
            **restored.description.plain(),
        }
        if restored.regions:  # later ones lie over earlier ones
            record["regions"] = [region.plain() for region in restored.regions]
        if restored.text:
            record["text"] = [reading.plain() for reading in restored.text]
        if restored.deviation is not None:
            record["map"] = {
                "seeds": MAP_SEEDS,
                "levels_per_grey_level": GAIN,
                "mean_deviation": round(float(restored.deviation.mean()) / GAIN, 4),
            }
        return record


def made_of(settings: Settings, upscaler: "Upscaler", data: bytes, read: str) -> dict[str, Any]:
    """What can change a byte of whatever is made of a file's `data`, which is of the format `read`."""
    reader = reader_for(settings)
    return ({} if reader is None else {"text": reader.sha256}) | {
        "version": VERSIONS.get(read, VERSION),
        "input_sha256": sha256_bytes(data),
        "weights_sha256": upscaler.weights_sha256,
        "model": upscaler.released_config().plain(),
        "settings": settings.plain(),
    }


def account(
    source: Source, picture: Picture, result: Picture, upscaler: "Upscaler", made: dict[str, Any]
) -> dict[str, Any]:
    """What every sidecar says of input, output, settings and model; `made` is what `made_of` gave."""
    return {
        "input": {"name": shown(source.path.name), "sha256": made["input_sha256"], **_shape(picture)},
        "output": {**_shape(result), "notes": list(result.notes)},
        "settings": made["settings"],
        "model": {
            "method": upscaler.config.method,
            "profile": upscaler.config.inference.profile,
            "weights_sha256": made["weights_sha256"],
        },
    }


def require_free(request: Request, target: Path, sources: Sequence[Source], name: str) -> None:
    """Raise RejectedSample where a result would replace an input, or without --force what has not its fingerprint."""
    beside = (target, sidecar_of(target), map_of(target))
    if hit := next((path for path in beside if files.is_input(path, sources)), None):
        raise RejectedSample("is_an_input", f"{shown(hit)} is one of the inputs; take another folder with -o")
    if not request.force and files.state(target, name, request.save_map) == "other":
        raise RejectedSample("exists", f"{shown(target)} was made otherwise; --force replaces it")


def _shape(picture: Picture) -> dict[str, Any]:
    width, height = picture.size
    return {"width": width, "height": height, "mode": picture.mode, "bits": picture.bits, "format": picture.format}


def _thousands(source: Source) -> int:
    """How much work a file is, in thousands of pixels; 1 for what cannot be read."""
    width, height = source.size or (1, 1)
    return max(width * height // 1000, 1)
