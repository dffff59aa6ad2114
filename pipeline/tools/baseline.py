"""`spasemsr baseline`: a folder of lr through bicubic or a network that spandrel knows, for `spasemsr score`."""

from collections.abc import Generator
from pathlib import Path

from pipeline.tools.upscale import FAILED, OK
from spasemsr import atomic
from spasemsr.backends.protocols import Restorer
from spasemsr.backends.restorer import build_restorer
from spasemsr.data.dataset import Batch
from spasemsr.determinism import pin_threads
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import UserError
from spasemsr.evaluation.folders import index
from spasemsr.evaluation.pairing import refusal
from spasemsr.images.stored import read_scored
from spasemsr.methods.baselines import Bicubic, Restored
from spasemsr.methods.compared import network_of
from spasemsr.methods.noise import Noise
from spasemsr.pixels import to_pixels, to_tensor, write_png
from spasemsr.progress import Progress

SCALE = 4


def run(
    lr: Path, outputs: Path, checkpoint: str | None, strip: tuple[str, ...], device: str
) -> Generator[str, None, int]:
    """Restore every picture of `lr` into `outputs/<key>.png`; bicubic without a checkpoint.

    A picture that cannot be read is left out and named at the end; the exit status is that of `upscale` then. Raises
    UserError where none is left, for a folder that already holds something or cannot be written, and whatever the
    network refuses.
    """
    import torch

    pin_threads()
    files = index(lr, "lr", strip)
    try:
        atomic.trial(atomic.partial_of(outputs / "trial"))
        if any(outputs.iterdir()):
            what = f"{outputs} is not empty."
            raise UserError(what, "Name a new folder: old files would be scored with the new ones.")
    except OSError as error:
        raise _cannot_write(outputs, error) from None
    method = Restored(_network(checkpoint, device), SCALE) if checkpoint else Bicubic(SCALE)
    progress = Progress("baseline", len(files), unit="images")
    unread: list[UserError] = []
    for key, path in files.items():
        try:
            pixels = to_tensor(read_scored(path).pixels)
        except UserError as error:
            unread.append(error)
            progress.advance()
            continue
        with torch.inference_mode():
            restored = method.restore(Batch([key], pixels, [], [], None, {}, None), Noise(0, 0), SampleSpec())
        try:
            write_png(outputs / f"{key}.png", to_pixels(restored)[0])
        except OSError as error:
            raise _cannot_write(outputs, error) from None
        progress.advance()
    progress.close()
    if len(unread) == len(files):
        raise refusal(unread)
    yield f"{len(files) - len(unread)} images in {outputs} · {checkpoint or 'bicubic'}"
    yield from (f"left out {error.what}" for error in unread)
    return FAILED if unread else OK


def _cannot_write(outputs: Path, error: OSError) -> UserError:
    return UserError(f"{outputs} cannot be written: {error.strerror}.", "Name a new folder, where there is room.")


def _network(checkpoint: str, device: str) -> Restorer:
    return build_restorer(network_of(checkpoint), "any" if device == "auto" else device)
