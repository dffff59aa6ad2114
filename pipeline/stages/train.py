"""Stage train: columns -> models/<method>; resumes where it was stopped, bit for bit.

What can be refused is refused, and what will be done is said, before torch and its friends are imported.
"""

import logging
import shutil
from pathlib import Path

from pipeline import layout
from pipeline.describe import describe
from pipeline.engine.training_account import record
from spasemsr.cache import default_root
from spasemsr.config import MethodName, Params
from spasemsr.data.columns import CAPTION, FEATURES_SPASEMSR, LATENTS, LR, OBJECTS, RESTORED
from spasemsr.data.dataset import Batch, Dataset
from spasemsr.data.order import SampleOrder
from spasemsr.determinism import pin_threads
from spasemsr.hashing import digest_of, fingerprint, sha256_file
from spasemsr.methods.model_config import ModelConfig, weights_digest

log = logging.getLogger(__name__)


def run(params: Params, method_name: MethodName) -> None:
    """Train one method and write its averaged weights with a description of what they are."""
    profile = params.active
    seen = [LR, RESTORED] if profile.model.input == "restored" else [LR]
    dataset = Dataset(layout.SHARDS, [*seen, OBJECTS, CAPTION, LATENTS, FEATURES_SPASEMSR], "train")
    config = describe(params, method_name, dataset.digests)
    state = default_root() / "train" / _run_id(params, config)
    log.info(
        "train     %s · %d steps of %d · %d samples%s",
        *(method_name, profile.train.steps, profile.train.global_batch, len(dataset.keys)),
        " · resumes" if state.is_dir() else "",
    )

    from spasemsr.methods.assembly import build
    from spasemsr.methods.folder import save_model
    from spasemsr.training.loop import train

    pin_threads()
    method = build(config)
    order = SampleOrder(dataset.keys_by_shard, params.seed, profile.train.global_batch)

    def batches(step: int, rank: int, world: int) -> Batch:
        return dataset.batch(order.at(step, rank, world), params.seed)

    spent = train(method, batches, profile.train, params.seed, state, layout.losses_csv(method_name))
    if spent is None:
        return  # one process of several writes
    save_model(layout.model_folder(method_name), method, config.plain())
    shutil.rmtree(state, ignore_errors=True)
    if spent.steps:
        log.info("train     done · %s", spent)
        record(default_root(), Path.cwd(), method_name, params.profile, spent)


def _run_id(params: Params, config: ModelConfig) -> str:
    """Names a training run by all it depends on, its code included: changed code never resumes an old state."""
    root = Path(__file__).parents[2]
    files = sorted(path for folder in ("spasemsr", "pipeline") for path in (root / folder).rglob("*.py"))
    source = digest_of((path.relative_to(root).as_posix(), sha256_file(path)) for path in files)
    spec = params.active.train
    remedy = "Set train.init to a folder of weights, or to null to start from random ones."
    init = weights_digest(Path(spec.init), remedy) if spec.init else None
    return fingerprint([config.plain(), spec.plain(), init, params.seed, source])[:32]
