"""Which network a learner's spec builds, and who teaches it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.networks.runtime import autocast, choose_device
from spasemsr.backends.networks.spec import ram_size_of
from spasemsr.data.job import Sample
from spasemsr.pixels import ImageU8, to_tensor
from spasemsr.students.columns import teacher_column
from spasemsr.students.pupil import Pupil
from spasemsr.students.spec import (
    FOLDER,
    AnyLearner,
    DapeSpec,
    DepthStudentSpec,
    ImageStudentSpec,
    SegmenterSpec,
    SmallSpec,
)
from spasemsr.weights.pretrained import load_pretrained
from spasemsr.weights.store import locate


def build_pupil(learner: AnyLearner) -> Pupil:
    """The network of a learner as its teacher is, frozen; that of a small one is drawn from torch's generator."""
    match learner:
        case SmallSpec():
            from spasemsr.students.small import SmallPupil

            return SmallPupil(learner.extractor(FOLDER))
        case DapeSpec():
            from spasemsr.backends.networks.ram import load_ram
            from spasemsr.students.ram import RamPupil

            size = ram_size_of(learner.teacher.architecture)
            return RamPupil(load_ram(_path(learner), size), size.image_size, learner.rank)
        case SegmenterSpec():
            from transformers import SegformerForSemanticSegmentation

            from spasemsr.students.dense import SegmenterPupil

            return SegmenterPupil(load_pretrained(SegformerForSemanticSegmentation, _path(learner)))
        case DepthStudentSpec():
            from transformers import DepthAnythingForDepthEstimation

            from spasemsr.students.dense import DepthPupil

            network = load_pretrained(DepthAnythingForDepthEstimation, _path(learner))
            return DepthPupil(network, learner.rank, learner.gamma)
        case ImageStudentSpec():
            from transformers import CLIPVisionModelWithProjection

            from spasemsr.students.image import ImagePupil

            network = load_pretrained(CLIPVisionModelWithProjection, _path(learner))
            return ImagePupil(network, learner.rank, learner.every)


def _path(learner: Any) -> Path:
    return locate(learner.teacher.source, learner.teacher.revision).path


class TeachWorker:
    """hr.png (H, W, 3) -> `<name>.npy` of everything the teacher says of it.

    Where only its answers are compared the teacher is the extractor itself, else the pupil before it learns.
    """

    def __init__(self, learner: AnyLearner) -> None:
        self._precision: str = getattr(learner.teacher, "precision", "fp32")
        self._extractor = self._pupil = None
        if isinstance(learner, SmallSpec | SegmenterSpec):
            self._extractor, (self._member,) = build_extractor(learner.teacher), teacher_column("", learner).members
        else:
            self._device = choose_device("auto")
            self._pupil = build_pupil(learner).to(self._device).eval()

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Ask about a batch, one picture at a time."""
        return [self._one(sample.inputs["hr.png"]) for sample in samples]

    def _one(self, picture: ImageU8) -> dict[str, Any]:
        if self._extractor is not None:
            return {self._member.base: self._extractor.extract([picture])[0]}
        assert self._pupil is not None
        with torch.inference_mode(), autocast(self._device, self._precision):
            answers = self._pupil.answers(to_tensor(picture).to(self._device))
        return {f"{name}.npy": value[0].float().cpu().numpy().astype(np.float16) for name, value in answers.items()}
