"""Stage teach: hr -> column teacher/<learner>, what a frozen teacher says of the originals; training splits only."""

from functools import partial

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.backends.extractors.spec import identity_of
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import HR
from spasemsr.data.job import ColumnJob, InputRef, Typical, Worker
from spasemsr.data.patches import read_patches
from spasemsr.students.columns import bytes_of, teacher_column
from spasemsr.students.spec import AnyLearner

RATE = 60.0  # samples a second of one core at 128 px, of the embedded teachers


def build_worker(learner: AnyLearner) -> Worker:
    """The teacher's network, imported where it is asked and not where a run is planned."""
    from spasemsr.students.build import TeachWorker

    return TeachWorker(learner)


def job(params: Params, name: str) -> ColumnJob:
    """Ask the teacher of one learner."""
    learner, side = params.active.learners[name], params.active.data.patch
    plain = learner.plain()
    return ColumnJob(
        teacher_column(name, learner),
        inputs=(InputRef(HR, splits=("train",)),),
        worker=partial(build_worker, learner),
        identity=partial(identity_of, learner.teacher),
        params={"teacher": learner.teacher.content(), "kind": plain["kind"], "every": plain.get("every")},
        batch_size=learner.teacher.batch_size,
        backends=(learner.teacher,),
        typical=Typical(rate=RATE, at=128, per_pixel=bytes_of(learner, side) / side**2),
    )


def run(params: Params, executor: Executor, learner: str) -> None:
    """Build the column."""
    build_column(job(params, learner), read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)
