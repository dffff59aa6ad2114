"""A folder of weights in the layout of the Hugging Face Hub: weights.safetensors, config.json, README.md as model card.

Downloading names a commit, as everywhere in this project: what a name points to may change, a commit cannot.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.methods import method as face_of
from spasemsr.methods.carried import STUDENTS, carry
from spasemsr.methods.folder import save_model
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.protocol import Method
from spasemsr.methods.stored import CONFIG, WEIGHTS, Bits

CARD = "README.md"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def save(folder: Path, method: Method, config: ModelConfig, bits: Bits = 32) -> None:
    """Write weights, config, model card and the students it needs; the same model gives the same bytes."""
    try:
        save_model(folder, method, carry(config.plain(), folder), bits)
        parameters = sum(tensor.numel() for module in method.trainable().values() for tensor in module.parameters())
        (folder / CARD).write_text(model_card(config, parameters), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Cannot write the model to {folder}: {error.strerror or error}.", "Name another folder."
        ) from None


def push(repository: str, save_into: Callable[[Path], None], *, private: bool, token: str | None, message: str) -> str:
    """Create the repository if there is none, upload what `save_into` writes as one commit; returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            save_into(Path(folder))
            return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=message))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"The Hub did not take {repository}: {_one_line(error)}", "Log in (hf auth login) and check the name."
        ) from None


def folder_of(source: str | Path, revision: str | None) -> Path:
    """A folder as it is, a repository as `download` has it. Raises UserError for a revision of a folder."""
    if isinstance(source, str) and not Path(source).is_dir():
        return download(source, revision)
    if revision is not None:
        told = f"{source} is a folder; only a repository of the Hub has revisions."
        raise UserError(told, "Leave out the revision, or name the repository.")
    return Path(source)


def download(repository: str, revision: str | None) -> Path:
    """The folder of a repository at a commit, from the local cache if it is there."""
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(
            f"There is no folder {repository}.", "Train a model (dvc repro train), or name a folder of weights."
        )
    if revision is None or not _COMMIT.fullmatch(revision):
        raise UserError(
            f"{repository} is no folder here, and as a repository of the Hub it needs a commit.",
            "Name its 40-digit commit as revision, so that the weights cannot change unseen.",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=[WEIGHTS, CONFIG, CARD, f"{STUDENTS}/*"])
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{repository} cannot be fetched: {_one_line(error)}", "Check name, commit and network, or name a folder."
        ) from None


def model_card(config: ModelConfig, parameters: int) -> str:
    """The card: what the model is, how to use it, what it was trained with, and what not to believe of its output."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="spasemsr",
        pipeline_tag="image-to-image",
        tags=["super-resolution", "image-restoration", "diffusion"],
    )
    face, sample = face_of(config.method), config.inference.sample
    sampling = "as the caller says"
    if sample is not None:
        sampling = f"{sample.solver}, {sample.steps} steps from {sample.start:g} of the schedule"
        sampling += f", guidance {sample.guidance:g}, colour fix {sample.colorfix}"
    rows = {
        "method": config.method,
        "profile": config.inference.profile,
        "parameters in this file": f"{parameters:,}",
        "scale": f"x{config.scale}",
        **face.card_rows(config),
        "restorer, tagger, detector, captioner": ", ".join(
            part.kind
            for part in (
                config.inference.restore,
                config.inference.ground.tagger,
                config.inference.ground.detector,
                config.inference.caption,
            )
        ),
        "sampling": sampling,
        **{f"trained on column {name}": f"`{digest[:16]}`" for name, digest in sorted(config.columns.items())},
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
{data.to_yaml().strip()}
---

# {face.label}, {config.inference.profile} profile

{face.card}

```python
from PIL import Image
from spasemsr import Upscaler

upscaler = Upscaler.from_pretrained("path/to/this/folder")
upscaler(Image.open("photo.jpg"), dial=0.5).save("photo_x4.png")
```

or `spasemsr upscale photo.jpg -o out/ --weights path/to/this/folder`.

| | |
|---|---|
{table}

## Limits

The model invents detail that is plausible, not true: do not read text, faces or evidence out of a result. The map of
deviations (`--save-map`) shows where results of different seeds disagree, and so where to believe them least.
"""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
