"""The jobs of all columns, in the order in which their stages run: what planning and checks read."""

from collections.abc import Iterator

from pipeline.stages import caption, features, ground, ingest, latents, restore, synthesize, teach
from spasemsr.config import Params
from spasemsr.data.job import ColumnJob


def column_jobs(params: Params) -> Iterator[ColumnJob]:
    """One job for each column of the active profile. Builds nothing and reads no file."""
    for stage in (ingest, synthesize, restore, ground, caption, latents):
        yield stage.job(params)
    for learner in params.learners:
        yield teach.job(params, learner)
    for method in params.methods:
        yield from features.jobs(params, method)
