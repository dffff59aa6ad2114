"""Stage features: the columns one method needs beyond the common ones, as its face describes them."""

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.job import ColumnJob
from spasemsr.data.patches import read_patches
from spasemsr.methods import method


def jobs(params: Params, method_name: str) -> tuple[ColumnJob, ...]:
    """What one method needs."""
    return method(method_name).jobs(params.ingredients(method_name))


def run(params: Params, executor: Executor, method_name: str) -> None:
    """Build the columns of one method; one that has none leaves an empty folder, because the stage has an out."""
    (layout.SHARDS / "features" / method_name).mkdir(parents=True, exist_ok=True)
    for job in jobs(params, method_name):
        build_column(job, read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)
