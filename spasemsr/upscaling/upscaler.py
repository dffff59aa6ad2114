"""The upscaler: a folder of weights in, pictures in, pictures out; the same for Python, the command and the page.

    from spasemsr import Upscaler
    large = Upscaler.from_pretrained("models/spasemsr")(Image.open("photo.jpg"))

One seed, one model and one picture give the same pixels, however many threads work on the tiles.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from spasemsr.backends.protocols import Restorer
from spasemsr.config import load_params
from spasemsr.data.dataset import Batch
from spasemsr.determinism import cores, single_threaded
from spasemsr.diffusion.lean import lean
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.diffusion.tiling import Tile, TileMap, boxes_seen_from
from spasemsr.errors import RejectedSample
from spasemsr.heap import give_memory_back
from spasemsr.images.deviation import as_picture, luma_deviation
from spasemsr.images.picture import MIN_SIDE, Picture, Pixels, from_image
from spasemsr.methods.dialed import restorer_dials
from spasemsr.methods.folder import load_method
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.protocol import Boxes, Called, Method
from spasemsr.methods.stored import Bits, read_model_config, weights_digest
from spasemsr.pixels import bicubic_upsample, to_tensor
from spasemsr.upscaling import hub
from spasemsr.upscaling.colour import bytes_beside, fix_canvas, grown, lr_float, tensor_of
from spasemsr.upscaling.description import Describer, Description, Seen
from spasemsr.upscaling.lettering import FAITHFUL, TAG, Lettering, Reading, reader_for
from spasemsr.upscaling.memory import Budget, Footprint, budget, is_one_tile, refused_for_memory
from spasemsr.upscaling.regions import Region, in_order, laid, of_dial, regions_of
from spasemsr.upscaling.result import finished, sized, visible
from spasemsr.upscaling.settings import MAP_SEEDS, OFF, Settings, Strength, sampling_for
from spasemsr.upscaling.windows import FieldNoise, Window, paste, plan

Report = Callable[[int, int], None]  # network calls done, of how many; may raise to stop

_KEY = "image"


@dataclass(frozen=True)
class Restored:
    """A result and how it came about; `deviation` (H, W) uint8 is the map, `deviation.GAIN` per grey level, or None.

    `sampling` is that of everything outside `regions`, the boxes with a strength of their own. `text` is what could be
    read before.
    """

    picture: Picture
    description: Description
    sampling: SampleSpec
    budget: Budget
    deviation: npt.NDArray[np.uint8] | None
    regions: tuple[Region, ...] = ()
    text: tuple[Reading, ...] = ()


class Upscaler:
    """A trained method with everything it needs to restore any picture. Thread-safe: one picture at a time."""

    def __init__(
        self, method: Method, config: ModelConfig, sampling: SampleSpec, device: str = "cpu", workers: int | None = None
    ) -> None:
        """`workers` threads share the tiles of a CPU; None takes one for each core. They never change a pixel."""
        self.config, self.sampling, self.device = config, sampling, device
        self.weights_sha256 = ""
        self.workers = 1 if device != "cpu" else workers or cores()
        self._method = method.to(device).eval().requires_grad_(False)
        self._restorer_dials = restorer_dials(method, config)
        self._describer = Describer(config.inference, config.scale, device, self.workers)
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str = "auto",
        sampling: SampleSpec | None = None,
        workers: int | None = None,
    ) -> "Upscaler":
        """From a folder, or a repository of the Hub at a revision.

        How to sample: `sampling` if given, else what the folder states, else what `params.yaml` of the project says
        whose `models/` it lies in. Raises UserError for a folder that is incomplete, damaged or of another version.
        """
        folder = hub.folder_of(source, revision)
        config = read_model_config(folder)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        sampling = sampling or config.inference.sample or _project_sampling(folder, config) or SampleSpec()
        upscaler = cls(load_method(folder, config), config, sampling, device, workers)
        upscaler.weights_sha256 = weights_digest(folder)
        return upscaler

    def save_pretrained(self, folder: str | Path, bits: Bits = 32) -> None:
        """Write weights, a config.json that also says how to sample, and a model card: the Hub's layout.

        `bits` of a number on disk: 16 and 8 take half and a quarter of the room, for differences below a grey level.
        """
        hub.save(Path(folder), self._method, self.released_config(), bits)

    def push_to_hub(
        self, repository: str, *, private: bool = True, token: str | None = None, message: str = "Upload SpaSemSR"
    ) -> str:
        """Upload what `save_pretrained` writes; returns the commit's address."""
        return hub.push(repository, self.save_pretrained, private=private, token=token, message=message)

    def released_config(self) -> ModelConfig:
        """The model's description with this upscaler's sampling in it."""
        inference = self.config.inference.model_copy(update={"sample": self.sampling})
        return self.config.model_copy(update={"inference": inference})

    def __call__(self, image: Image.Image, **settings: Any) -> Image.Image:
        """Restore a Pillow image of any mode; keywords are the fields of `Settings`.

        Alpha, 16-bit gray, ICC profile and EXIF are kept. Raises RejectedSample for what cannot be restored.
        """
        image.load()
        return self.restore(from_image(image), Settings(**settings)).picture.image()

    def describe(self, picture: Picture, settings: Settings | None = None) -> Description:
        """Objects and caption, found or as the settings give them."""
        settings = settings or Settings()
        with self._lock, single_threaded():
            return self._describer.describe(visible(picture).rgb8(), settings.tags, settings.caption)

    def conditions(self, picture: Picture) -> Description:
        """What the network is given of a picture of one window: its description and its areas of like texture."""
        whole = plan(*picture.size[::-1], *picture.size[::-1], self.config.scale)
        with self._lock, single_threaded():
            lr = visible(picture).rgb8()
            return self._describer.with_areas(self._describer.describe(lr), lr, whole)

    @property
    def method(self) -> Method:
        """The network itself, for whoever asks what its results follow."""
        return self._method

    @property
    def restorer(self) -> Restorer:
        """The restorer that comes before the network, alone."""
        return self._describer.restorer()

    def plan(
        self, size: tuple[int, int], settings: Settings, max_memory: int | None = None, with_map: bool = False
    ) -> Budget:
        """The windows and memory for a picture of width x height. Raises RejectedSample if it cannot be restored."""
        width, height = size
        if min(width, height) < MIN_SIDE:
            raise RejectedSample("too_small", f"{width}x{height} pixels; at least {MIN_SIDE} a side are needed")
        give_memory_back()
        dials = {settings.dial, *(dial for _, dial in settings.dials)}
        canvases = 1 if not settings.dials else 1 + len(dials)
        beside = self._describer.bytes_for([dial for dial in dials if dial != OFF], height, width)
        footprint = Footprint.of(self._method.grid, self._sampling(settings), self.workers, beside)
        colour = bytes_beside(self._sampling(settings).colorfix, height, width, self.config.scale)
        return budget(footprint, height, width, self.config.scale, max_memory, with_map, canvases, colour)

    def restore(
        self,
        picture: Picture,
        settings: Settings,
        description: Description | None = None,
        max_memory: int | None = None,
        with_map: bool = False,
        report: Report | None = None,
    ) -> Restored:
        """The whole chain on one picture; `description` (edited by a person, say) replaces what would be found.

        `max_memory` in bytes bounds the process, `report` is called after each call of the network. Raises
        RejectedSample.
        """
        planned = self.plan(picture.size, settings, max_memory, with_map)
        description, lettering = self._looked(picture, settings, description)
        regions = regions_of(settings, description.boxes)
        scale, size = self.config.scale, picture.size
        if lettering and self._dial_matters(settings) and (text := lettering.regions(size[1] * scale, size[0] * scale)):
            regions = in_order((*regions, *text))
            both = settings.model_copy(update={"dials": (*settings.dials, (TAG, FAITHFUL))})
            planned = self.plan(size, both, max_memory, with_map)
        dials = dict.fromkeys([settings.dial, *(region.dial for region in regions if region.dial != OFF)])
        samplings = {dial: self._sampling(settings.model_copy(update={"dial": dial})) for dial in dials}
        windows = plan(size[1], size[0], planned.window_height, planned.window_width, scale)
        boxes = {dial: None if dial == settings.dial else of_dial(regions, dial, size, scale) for dial in dials}
        lr, seeds = visible(picture).colour, range(settings.seed, settings.seed + (MAP_SEEDS if with_map else 1))
        called = self._counter(windows, samplings.values(), len(seeds), report)
        in_few_passes = lean(self._method) if self.device == "cpu" else nullcontext()
        with self._lock, single_threaded(), self._tiles_in_threads() as run_tiles, refused_for_memory(), in_few_passes:
            seen = self._describer.seen(description, visible(picture).rgb8(), windows)

            def drawn(seed: int) -> npt.NDArray[np.uint16]:
                by_dial: dict[Strength, npt.NDArray[np.uint16]] = {
                    dial: self._canvas(lr, windows, seen, dial, sampling, seed, run_tiles, called, boxes[dial])
                    for dial, sampling in samplings.items()
                }
                if any(region.dial == OFF for region in regions):
                    by_dial[OFF] = self._enlarged(lr, windows)
                return laid(by_dial[settings.dial], regions, by_dial)

            canvases = map(drawn, seeds)
            canvas = next(canvases)
            deviation = as_picture(luma_deviation(chain([canvas], canvases))) if with_map else None
            alpha = None if picture.alpha is None else self._enlarged(picture.alpha[..., None], windows)[..., 0]
            readings = lettering.readings(canvas) if lettering else ()
        if deviation is not None:
            deviation = sized(deviation, picture, settings)
        result = finished(picture, canvas, alpha, settings)
        return Restored(result, description, samplings[settings.dial], planned, deviation, regions, readings)

    def _looked(
        self, picture: Picture, settings: Settings, known: Description | None
    ) -> tuple[Description, Lettering | None]:
        """What is in a picture, unless that is known, beside its text, if it is to be safe and can be read."""
        reader, lr = reader_for(settings), visible(picture).rgb8()
        with self._lock, single_threaded(), ThreadPoolExecutor(1) as beside:
            read = beside.submit(Lettering, reader, self._describer.looked_at(lr)) if reader else None
            found = known or self._describer.describe(lr, settings.tags, settings.caption)
            return found, read.result() if read else None

    def _dial_matters(self, settings: Settings) -> bool:
        """Whether anything in the result would be another with the dial at its faithful end."""
        dials = {settings.dial, *(dial for _, dial in settings.dials if dial != OFF)} - {FAITHFUL}
        if self._restorer_dials:
            return bool(dials)
        samplings = [self._sampling(settings.model_copy(update={"dial": dial})) for dial in (FAITHFUL, *dials)]
        return any(sampling != samplings[0] for sampling in samplings)

    def _sampling(self, settings: Settings) -> SampleSpec:
        return sampling_for(self.sampling, settings, self._method.num_train_timesteps, self._restorer_dials)

    def _canvas(
        self,
        lr: Pixels,
        windows: list[Window],
        seen: Seen,
        dial: float,
        sampling: SampleSpec,
        seed: int,
        run_tiles: TileMap,
        called: Called | None,
        boxes: Boxes | None = None,
    ) -> npt.NDArray[np.uint16]:
        """All windows of one seed, blended and colour-fixed: (H, W, 3) uint16, at least within `boxes`."""
        near = grown(sampling.colorfix, boxes)
        method, scale, cell = self._method, self.config.scale, self._method.grid.cell
        height, width = lr.shape[0] * scale / cell, lr.shape[1] * scale / cell
        canvas = np.zeros((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.uint16)
        own_colours = sampling.model_copy(update={"colorfix": "none"})  # fixing them is the whole image's business
        for window in windows:
            y, x = (span.start * scale // cell for span in (window.rows, window.columns))
            crop = window.crop(lr)
            place = Tile(y, x, -(-crop.shape[0] * scale // cell), -(-crop.shape[1] * scale // cell))
            batch = self._batch(crop, seen, dial)
            if is_one_tile(crop.shape[:2], scale, cell, sampling):
                batch = method.in_tile(batch, place, height, width)
            else:  # its tiles decide which objects they show: what is small in a window may fill one of them
                objects, said = (
                    [
                        replace(each, boxes=boxes_seen_from(each.boxes, place, height, width).astype(np.float32))
                        for each in named
                    ]
                    for named in (batch.objects, batch.said)
                )
                batch = replace(batch, objects=objects, said=said)
            inside = None if near is None else [window.seen(box, scale) for box in near]
            batch = batch.to(self.device)
            restored = method.restore(batch, FieldNoise(seed, 0, y, x), own_colours, run_tiles, called, inside)
            paste(canvas, window, restored[0].permute(1, 2, 0).float().cpu().numpy(), scale, run_tiles)
        fix_canvas(sampling.colorfix, canvas, lr, scale, run_tiles)
        return canvas

    def _batch(self, lr: Pixels, seen: Seen, dial: float) -> Batch:
        """A window as the method takes it, with the restorer's image of it for a model that is shown that."""
        restored = None
        if "restored" in self._method.restore_columns:
            restored = to_tensor(self._describer.restored(Picture(lr, None, "").rgb8(), dial)).contiguous()
        pixels = tensor_of(lr_float(lr))
        said = [] if seen.said is None else [seen.said]
        return Batch([_KEY], pixels, [seen.objects], [seen.caption], None, {}, None, restored, said)

    def _enlarged(self, pixels: Pixels, windows: list[Window]) -> npt.NDArray[np.uint16]:
        """(h, w, C) enlarged by bicubic, which invents nothing: (H, W, C) uint16."""
        scale = self.config.scale
        height, width, channels = pixels.shape
        canvas = np.zeros((height * scale, width * scale, channels), np.uint16)
        for window in windows:
            large = bicubic_upsample(tensor_of(lr_float(window.crop(pixels))), scale)[0, :channels]
            paste(canvas, window, large.permute(1, 2, 0).clamp(0, 1).numpy(), scale)
        return canvas

    @contextmanager
    def _tiles_in_threads(self) -> Iterator[TileMap]:
        """Tiles of one step side by side, one thread each: faster than threads within a layer, and the same bits."""
        if self.workers == 1:
            yield map
            return
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def run(function: Callable[[int], Any], indices: Iterable[int]) -> Iterable[Any]:
                def one(index: int) -> Any:
                    with torch.no_grad():  # a thread has its own
                        return function(index)

                return pool.map(one, indices)

            try:
                yield run
            finally:
                pool.shutdown(cancel_futures=True)

    def _counter(
        self, windows: list[Window], samplings: Collection[SampleSpec], seeds: int, report: Report | None
    ) -> Called | None:
        """Reports every call of the network, of all windows, samplings and seeds together."""
        if report is None:
            return None
        total = seeds * sum(self._method.calls(*window.size, each) for window in windows for each in samplings)
        done, lock = 0, threading.Lock()

        def called() -> None:
            nonlocal done
            with lock:
                done += 1
                report(done, total)

        return called


def _project_sampling(folder: Path, config: ModelConfig) -> SampleSpec | None:
    """`evaluate.sample` of the project whose `models/` a folder lies in."""
    params = folder.resolve().parent.parent / "params.yaml"
    if folder.resolve().parent.name != "models" or not params.is_file():
        return None
    return getattr(load_params(params), config.inference.profile).evaluate.sample
