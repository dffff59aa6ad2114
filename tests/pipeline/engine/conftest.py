"""A folder of toy columns for the tests of the engine."""

import pytest

from tests.worlds.toy_columns import Toy, patches_of, photographs


@pytest.fixture
def toy(tmp_path) -> Toy:
    """hr and lr of eight pictures are built; note is not."""
    toy, patches = Toy(tmp_path), patches_of(photographs(8))
    toy.hr(patches)
    toy.lr(patches)
    return toy
