"""Where the suite computes, and in which order.

What runs longest starts first, so that no worker is left with it at the end.
"""

import os

import pytest

os.environ.setdefault("SPASEMSR_DEVICE", "cpu")  # tiny checkpoints of the paper's models need no GPU
# The first makes the project that others copy; the second copies none, so that the other worker does not wait for it.
LONGEST = ["test_pipeline.py", "test_four_methods.py", "test_kill.py", "test_faults.py", "test_ray_cluster.py"]
LONGEST += ["test_distributed.py", "test_new_method.py", "test_remote.py", "test_executors.py", "test_processes.py"]
LONGEST += ["test_types.py"]


@pytest.fixture(autouse=True)
def text_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking takes a second for each picture; the tests of text have a fixture of this name that does otherwise."""
    monkeypatch.setattr("spasemsr.upscaling.lettering.build_reader", lambda: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files named in LONGEST first; the order within a file is kept."""
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
