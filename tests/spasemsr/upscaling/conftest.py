"""One tiny upscaler for the tests of a file."""

import pytest

from spasemsr import Upscaler
from tests.worlds.tiny_upscaler import tiny_upscaler


@pytest.fixture(scope="module")
def tiny() -> Upscaler:
    return tiny_upscaler(workers=2)
