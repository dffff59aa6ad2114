"""The columns `teacher/<learner>`: what a frozen teacher says of hr, made once."""

from spasemsr.backends.extractors.spec import PlainMapSpec, TextureClassesSpec
from spasemsr.data.columns import Column, Member
from spasemsr.students.spec import VERSIONS, AnyLearner, DapeSpec, DepthStudentSpec, ImageStudentSpec, SmallSpec

ANSWER, LABELS = "answer", "labels"
ROWS, LOGITS = "rows", "logits"
FEATURES, DEPTH = "features", "depth"
FINAL, BLOCKS = "final", "blocks"


def teacher_column(name: str, learner: AnyLearner) -> Column:
    """The column of a learner; only training patches have it."""
    return Column(f"teacher/{name}", VERSIONS[learner.kind], f"teach@{name}", _members(learner), ("train",))


def _members(learner: AnyLearner) -> tuple[Member, ...]:
    match learner:
        case SmallSpec(teacher=PlainMapSpec()):
            return (_member(ANSWER, 3),)
        case SmallSpec(teacher=TextureClassesSpec()):
            return (_LABELS,)
        case SmallSpec():
            return (_member(ANSWER, 2),)
        case DapeSpec():
            return _member(ROWS, 2), _member(LOGITS, 1)
        case DepthStudentSpec():
            return _member(FEATURES, 2), _member(DEPTH, 2)
        case ImageStudentSpec():
            return _member(FINAL, 2), _member(BLOCKS, 3)
    return (_LABELS,)  # of a segmenter


_LABELS = Member(f"{LABELS}.npy", (1, None, None), "uint8")


def _member(stem: str, axes: int) -> Member:
    return Member(f"{stem}.npy", (None,) * axes, "float16")
