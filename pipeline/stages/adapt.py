"""Stage adapt: lr and what a teacher says of hr -> data/students/<learner>, by the loop that trains methods.

Resumes where it was stopped, bit for bit. What can be refused is refused before torch is imported.
"""

import logging
from pathlib import Path

from pipeline import layout
from pipeline.code import code_digest
from spasemsr.backends.extractors.spec import identity_of
from spasemsr.cache import default_root
from spasemsr.config import Params
from spasemsr.data.columns import LR, RESTORED
from spasemsr.data.dataset import Dataset
from spasemsr.determinism import pin_threads
from spasemsr.hashing import fingerprint
from spasemsr.students.columns import teacher_column
from spasemsr.students.spec import FOLDER
from spasemsr.training.states import discard, state_of

log = logging.getLogger(__name__)


def run(params: Params, name: str) -> None:
    """Train one student and write its averaged weights as the extractor that `features` builds reads them."""
    learner, spec = params.active.learners[name], params.active.train_of_learner(name)
    column = teacher_column(name, learner)
    shown = {"lr": LR, "restored": RESTORED}[learner.input]
    dataset = Dataset(layout.SHARDS, list({LR.name: LR, shown.name: shown, column.name: column}.values()), "train")
    teacher = identity_of(learner.teacher)
    spec_but_train = learner.model_copy(update={"train": {}}).content()
    run_id = fingerprint(
        [spec_but_train, teacher, spec.content(), params.seed, dataset.digests, code_digest("adapt", name)]
    )[:32]
    with state_of(default_root() / "train", f"adapt-{name}.{params.profile}", run_id) as state:
        log.info(
            "adapt     %s · %d steps of %d · %d samples%s",
            *(name, spec.steps, spec.global_batch, len(dataset.keys)),
            " · resumes" if state.is_dir() else "",
        )
        _train(params, name, dataset, state)


def _train(params: Params, name: str, dataset: Dataset, state: Path) -> None:
    """Train and write the student; all processes of a launch but one only train."""
    import torch

    from spasemsr.randomness import derive_seed
    from spasemsr.students.build import build_pupil
    from spasemsr.students.student import Student
    from spasemsr.training.loop import train

    pin_threads()
    learner, spec = params.active.learners[name], params.active.train_of_learner(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(params.seed, "student", name))
        student = Student(build_pupil(learner), params.scale, learner.input, teacher_column(name, learner).name)
    batches = dataset.batches(params.seed, spec.global_batch)
    spent = train(student, batches, spec, params.seed, state, layout.student_losses_csv(name))
    if spent is not None:
        folder = Path(FOLDER) / name
        folder.mkdir(parents=True, exist_ok=True)
        student.pupil.write(folder)
        discard(state)
        log.info("adapt     done · %s", spent)
