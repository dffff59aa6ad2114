"""What learns before a method: students that see in degraded pictures what their frozen teachers see in the originals.

`<profile>.learners` of `params.yaml`; those that `learners` lists are trained, and methods take features from
the student instead of its teacher. No torch import.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from spasemsr.backends.extractors.spec import (
    ClipVisionSpec,
    ColourLayoutSpec,
    DepthSpec,
    FilterRowsSpec,
    PlainMapSpec,
    RamRowsSpec,
    SegformerLabelsSpec,
    StudentLabelsSpec,
    StudentMapSpec,
    StudentRowsSpec,
    TextureClassesSpec,
)
from spasemsr.backends.grounding.spec import TexturesSpec
from spasemsr.spec import DISTINCT, NUMBER, Positive, Spec, WeightsSpec

FOLDER = "data/students"  # of the project: a folder of weights for each student
WEIGHTS = "weights.safetensors"
VERSIONS = {  # raised when the same teacher says something else of the same hr
    "small": 1,
    "dape": 1,
    "segmenter": 1,
    "depth": 1,
    "image": 1,
}
Features = TypeVar("Features", bound=Spec)
Weight = Annotated[float, Field(ge=0.0), NUMBER]


class LearnerSpec(Spec):
    """A student: `gives` names what of `features` it makes instead of its teacher, `input` what it is shown of lr.

    `train` states what differs from `<profile>.train`. A kind adds its `teacher`.
    """

    gives: Annotated[tuple[str, ...], Field(min_length=1), DISTINCT]
    input: Literal["lr", "restored"] = "lr"
    train: dict[str, Any] = Field(default_factory=dict)

    def in_place_of_teacher(self, feature: Any, folder: str) -> Spec:
        """A feature's spec with the student, whose weights lie in `folder`, in the place of its teacher.

        Raises ValueError for a feature that another teacher makes.
        """
        teacher: Any = self.teacher  # type: ignore[attr-defined]  # every kind has one
        if not isinstance(feature, WeightsSpec) or feature.source != teacher.source:
            raise ValueError(f"is not made by {teacher.source}, the teacher of this student")
        return feature.model_copy(update={"source": self.place(folder), "revision": None})

    def place(self, folder: str) -> str:
        """Where in its folder a student's weights are, as a `source`."""
        return f"{folder}/{WEIGHTS}"


class SmallSpec(LearnerSpec):
    """A small convolutional network of `channels` channels, in the place of an embedded extractor."""

    kind: Literal["small"]
    teacher: Annotated[
        PlainMapSpec | TextureClassesSpec | FilterRowsSpec | ColourLayoutSpec, Field(discriminator="kind")
    ]
    channels: Positive = 32

    def in_place_of_teacher(self, feature: Any, folder: str) -> Spec:
        """The student's own kind, which states its teacher. Raises ValueError for another teacher's feature."""
        teacher = self.teacher
        if feature.content() != teacher.model_copy(update={"batch_size": feature.batch_size}).content():
            raise ValueError(f"is not made by {teacher.content()}, the teacher of this student")
        return self.extractor(folder, feature.batch_size)

    def extractor(self, folder: str, batch_size: int = 1) -> StudentMapSpec | StudentLabelsSpec | StudentRowsSpec:
        """The extractor that the student is."""
        common: dict[str, Any] = {"channels": self.channels, "source": self.place(folder), "batch_size": batch_size}
        match self.teacher:
            case PlainMapSpec():
                return StudentMapSpec(kind="student_map", of=self.teacher, **common)
            case TextureClassesSpec():
                return StudentLabelsSpec(kind="student_labels", of=self.teacher, **common)
        return StudentRowsSpec(kind="student_rows", of=self.teacher, **common)


class DapeSpec(LearnerSpec):
    """SeeSR's DAPE: RAM with adaptations of this rank in the attentions of its encoder and of its tagging head."""

    kind: Literal["dape"]
    teacher: RamRowsSpec
    rank: Positive = 8


class SegmenterSpec(LearnerSpec):
    """SegSR's segmenter, all of it fine-tuned on degraded pictures against its own labels of hr."""

    kind: Literal["segmenter"]
    teacher: SegformerLabelsSpec

    def place(self, folder: str) -> str:
        """A folder, as transformers writes it."""
        return folder


class DepthStudentSpec(LearnerSpec):
    """MegaSR's depth: low-rank adaptations; L1 of the backbone's last features plus `gamma` times SILog of depth."""

    kind: Literal["depth"]
    teacher: DepthSpec
    rank: Positive = 8
    gamma: Weight = 1.0

    def place(self, folder: str) -> str:
        """A folder, as transformers writes it."""
        return folder


class ImageStudentSpec(LearnerSpec):
    """MegaSR's image encoder: low-rank adaptations; L1 of the last states plus that of every `every`th block (eq. 6).

    The paper compares all 32 blocks (`every` 1), whose states of one picture are 21 MB; every eighth are 2.6 MB.
    """

    kind: Literal["image"]
    teacher: ClipVisionSpec
    rank: Positive = 8
    every: Positive = 8

    def place(self, folder: str) -> str:
        """A folder, as transformers writes it."""
        return folder


AnyLearner = Annotated[
    SmallSpec | DapeSpec | SegmenterSpec | DepthStudentSpec | ImageStudentSpec, Field(discriminator="kind")
]


def with_students(features: Features, shown: str, learners: Mapping[str, LearnerSpec]) -> Features:
    """A method's `features` with these students in the places of their teachers; `shown` is the method's `input`.

    Raises ValueError, naming feature and learner, where a student would stand for another teacher, or be shown what it
    did not learn from.
    """
    changed: dict[str, Spec] = {}
    for name, learner in learners.items():
        for given in (field for field in learner.gives if field in type(features).model_fields):
            if learner.input != shown:
                raise ValueError(f"learners.{name}.input is {learner.input}, but {given} is shown {shown}")
            try:
                changed[given] = learner.in_place_of_teacher(getattr(features, given), f"{FOLDER}/{name}")
            except ValueError as error:
                raise ValueError(f"features.{given} {error}, learners.{name}") from None
    return features.model_copy(update=changed)


def with_recogniser(textures: TexturesSpec, learners: Mapping[str, LearnerSpec]) -> TexturesSpec:
    """Areas of like texture guessed by the student among these that gives `textures`, if one does.

    Raises ValueError for a student that learns something else than classes of texture.
    """
    for name, learner in learners.items():
        if "textures" not in learner.gives:
            continue
        if not isinstance(learner, SmallSpec) or not isinstance(learner.teacher, TextureClassesSpec):
            raise ValueError(f"learners.{name} gives textures, so its teacher has to be texture_classes")
        place = learner.place(f"{FOLDER}/{name}")
        return textures.model_copy(update={"channels": learner.channels, "source": place, "revision": None})
    return textures
