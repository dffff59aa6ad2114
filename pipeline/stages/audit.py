"""Stage audit: what guidance does to a trained method's results.

Each condition is removed or replaced, one object is renamed, attention is measured inside boxes and outside.
Where the truth is known, on the scenes of `profile: probe`, every scene is asked whether words act where they should.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.engine.restoring import restoration
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import HR
from spasemsr.data.dataset import Batch
from spasemsr.data.shards import ColumnReader
from spasemsr.evaluation import audit, probe
from spasemsr.evaluation.intervals import by_turns
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.scores import write_json
from spasemsr.methods.columns import columns_of
from spasemsr.methods.stored import read_model_config
from spasemsr.methods.truth import Truth
from spasemsr.pixels import ImageU8
from spasemsr.progress import Progress
from spasemsr.scenes.lookup import scene_of
from spasemsr.scenes.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from spasemsr.methods.protocol import Method

log = logging.getLogger(__name__)


def run(params: Params, method_name: str) -> None:
    """Audit on images of as many photographs of the split as can be; the probe's questions on all of its scenes."""
    profile, folder = params.active, layout.model_folder(method_name)
    spec, sampling, scenes = profile.audit, profile.evaluate.sample, profile.data.scenes
    scale, metrics = read_model_config(folder).scale, build_metrics(profile.evaluate.metrics)
    reader = ColumnReader(layout.SHARDS, HR)

    from spasemsr.evaluation.attention import attention_ratios

    columns = columns_of(params.sections())
    evaluated = profile.evaluate
    trained = restoration(folder, layout.SHARDS, columns, Cache(), evaluated.precision, evaluated.batch_size)
    method, dataset = trained.method, trained.dataset
    asked = len(probe.rows(method.conditions)) * len(dataset.keys) if scenes is not None else 0
    audited = audit.most(spec.images, spec.seeds, method.conditions)
    progress = Progress("audit", audited + asked, unit="images")

    def restore(batches: Sequence[Batch], seed: int) -> list[ImageU8]:
        pictures = trained.restore.each(batches, seed, sampling)
        progress.advance(len(batches))
        return pictures

    def hr(key: str) -> ImageU8:
        return reader.read(key, "hr.png")

    keys = by_turns(dataset.keys)[: spec.images]
    batches = {key: dataset.batch([key]) for key in keys}
    truth = Truth(method, params.ground())
    cases = [
        audit.Case(key, batches[key], batches[keys[(index + 1) % len(keys)]], truth.of(batches[key], hr(key)), hr(key))
        for index, key in enumerate(keys)
    ]
    seeds = [params.seed + index for index in range(spec.seeds)]
    found = audit.audit(cases, method.conditions, metrics, restore, seeds, method.condition_features)
    found["attention"] = attention_ratios(method, [case.batch for case in cases], scale, params.seed, sampling)
    if scenes is not None:
        answers: list[probe.Answer] = []
        maps = _maps(method)
        for key in dataset.keys:
            scene = scene_of(hr(key), scenes)
            questions = list(probe.questions(dataset.batch([key]), scene, method.conditions, maps))
            pictures = restore([question.batch for question in questions], params.seed)
            answers += map(probe.answer, questions, pictures)
        found["probe"] = probe.table(answers)
    progress.close()
    write_json(layout.audit_folder(method_name) / "audit.json", found)
    write_json(layout.audit_folder(method_name) / "metrics.json", audit.means(found))
    for line in _lines(found):
        log.info("audit     %s", line)


def _maps(method: "Method") -> probe.Maps:
    """The method's maps, and how those that are known look for another scene."""
    import torch

    from spasemsr.methods.guided import GuidedDiffusion

    known = method.extractors.of_kind("known") if isinstance(method, GuidedDiffusion) else {}

    def of(scene: Scene) -> dict[str, "Tensor"]:
        return {name: torch.from_numpy(extractor.of(scene)).float()[None] for name, extractor in known.items()}

    return probe.Maps(method.condition_features.get("maps", ()), of)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield from audit.lines(found)
    if "probe" in found:
        yield from probe.lines(found["probe"])
