"""What the tests of the page share: one small upscaler, a photograph, and a page that serves them."""

from pathlib import Path

import pytest

from spasemsr.serving import page
from spasemsr.serving.session import Session
from tests.worlds.tiny_upscaler import MAX_PIXELS, photograph, tiny_upscaler


@pytest.fixture(scope="module")
def upscaler():
    return tiny_upscaler()


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "holiday.png"
    photograph(48, 48).save(path)
    return path


@pytest.fixture(scope="module")
def address(upscaler):
    opened, where = page.start(Session(upscaler, MAX_PIXELS), "127.0.0.1", 0)
    yield where
    opened.close()
