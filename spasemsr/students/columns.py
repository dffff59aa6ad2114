"""The columns `teacher/<learner>`: what a frozen teacher says of hr, made once, and what it takes on a disk."""

from math import prod

from spasemsr.backends.extractors.spec import CELL, PlainMapSpec, TextureClassesSpec
from spasemsr.backends.networks.spec import ram_size_of
from spasemsr.data.columns import Column, Member
from spasemsr.students.spec import VERSIONS, AnyLearner, DapeSpec, DepthStudentSpec, ImageStudentSpec, SmallSpec

ANSWER, LABELS = "answer", "labels"
ROWS, LOGITS = "rows", "logits"
FEATURES, DEPTH = "features", "depth"
FINAL, BLOCKS = "final", "blocks"
FLOAT = 2  # bytes
# Of the checkpoints that the foundation profile names; those of others stand in their files, which a plan does without.
DEPTH_PATCH, DEPTH_WIDTH, CLIP_BLOCKS = 14, 1024, 32


def teacher_column(name: str, learner: AnyLearner) -> Column:
    """The column of a learner; only training patches have it."""
    return Column(f"teacher/{name}", VERSIONS[learner.kind], f"teach@{name}", _members(learner), ("train",))


def bytes_of(learner: AnyLearner, side: int) -> int:
    """What the teacher says of a patch of `side` pixels, for planning."""
    answer = prod(learner.teacher.shape(side))
    match learner:
        case SmallSpec(teacher=TextureClassesSpec()):
            return answer
        case SmallSpec():
            return FLOAT * answer
        case DapeSpec():
            return FLOAT * (answer + ram_size_of(learner.teacher.architecture).tags)
        case DepthStudentSpec():  # the last features, and depth at the network's own resolution
            patches = -(-(side // CELL * CELL) // DEPTH_PATCH)
            return FLOAT * ((patches**2 + 1) * DEPTH_WIDTH + (DEPTH_PATCH * patches) ** 2)
        case ImageStudentSpec():
            return FLOAT * answer * (1 + CLIP_BLOCKS // learner.every)
    return answer  # labels of a segmenter


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
