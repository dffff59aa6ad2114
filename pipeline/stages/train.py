"""Stage train: columns -> models/<method>; resumes where it was stopped, bit for bit.

What can be refused is refused, and what will be done is logged, before torch and its friends are imported.
"""

import logging
from pathlib import Path

from pipeline import layout
from pipeline.code import code_digest
from pipeline.engine.training_account import record
from spasemsr.cache import default_root
from spasemsr.config import Params
from spasemsr.data.dataset import Dataset
from spasemsr.data.order import held_out
from spasemsr.determinism import pin_threads
from spasemsr.hashing import fingerprint
from spasemsr.methods import method
from spasemsr.methods.columns import columns_of
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.stored import weights_digest
from spasemsr.training.spent import Spent
from spasemsr.training.states import discard, state_of

log = logging.getLogger(__name__)


def run(params: Params, method_name: str) -> None:
    """Train one method and write its averaged weights with a description of what they are."""
    given, spec, columns = (
        params.ingredients(method_name),
        params.active.train_of(method_name),
        columns_of(params.sections()),
    )
    joined = [columns[name] for name in sorted(given.section.model.columns)]
    shards = layout.SHARDS
    if spec.shards is not None:
        from spasemsr.data.remote import fetch_columns

        shards = fetch_columns(spec.shards, joined, default_root() / "shards")
    dataset = Dataset(shards, joined, "train")
    config = method(method_name).describe(given, dataset.digests)
    with state_of(default_root() / "train", f"{method_name}.{params.profile}", run_id(params, config)) as state:
        log.info(
            "train     %s · %d steps of %d · %d samples%s",
            *(method_name, spec.steps, spec.global_batch, len(dataset.keys)),
            " · resumes" if state.is_dir() else "",
        )
        spent = _train(params, config, dataset, state)
    if spent is not None and spent.steps:
        log.info("train     done · %s", spent)
        record(default_root(), Path.cwd(), method_name, params.profile, spent)


def _train(params: Params, config: ModelConfig, dataset: Dataset, state: Path) -> Spent | None:
    """Train and write the model; None on all processes of a launch but the one that writes."""
    from spasemsr.methods.folder import save_model
    from spasemsr.training.loop import take_own_device, train
    from spasemsr.training.periodic import Periodic

    pin_threads()
    take_own_device()
    name = config.method
    spec, face = params.active.train_of(name), method(name)
    network = face.build(config)
    held = held_out(dataset.keys, spec.held)
    batches = dataset.batches(params.seed, spec.global_batch, held)
    kept = default_root() / "kept" / f"{name}.{params.profile}-{state.name[:12]}"

    def keep(step: int) -> None:
        folder = kept / f"step-{step:08d}"
        save_model(folder, network, config.plain())
        log.info("train     kept after step %d: spasemsr upscale --weights %s", step, folder)

    periodic = Periodic(held, dataset.batch, layout.validation_csv(name), keep)
    smaller = f"methods.{name}.{face.smaller}" if face.smaller else ""
    spent = train(network, batches, spec, params.seed, state, layout.losses_csv(name), smaller, periodic)
    if spent is not None:
        save_model(layout.model_folder(name), network, config.plain())
        discard(state)
    return spent


def run_id(params: Params, config: ModelConfig) -> str:
    """Names a training run by all that its weights depend on, the code that `dvc.yaml` lists included.

    What trades time against memory and how often is saved and logged are left out, so that a run which stopped for
    want of memory goes on with the settings that its message advises.
    """
    train = params.active.train_of(config.method)
    remedy = "Set train.init to a folder of weights, or to null to start from random ones."
    init = weights_digest(Path(train.init), remedy) if train.init else None
    return fingerprint([config.plain(), train.content(), init, params.seed, code_digest("train", config.method)])[:32]
