"""`spasemsr check` names what DVC stops at without naming it."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.tools import inspection
from spasemsr.errors import UserError
from tests.worlds.odd_pictures import encoded, picture


@pytest.fixture
def params(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(picture()))
    data = SimpleNamespace(packages=(), scenes=None)
    return SimpleNamespace(active=SimpleNamespace(data=data), photographs=str(tmp_path))


def test_good_photographs_are_counted(params):
    assert inspection._photographs(params).startswith("1 candidates")


def test_a_dangling_link_is_named(params, tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    with pytest.raises(UserError, match=r"gone\.jpg is a link to nothing"):
        inspection._photographs(params)


def test_a_name_that_is_no_utf8_is_named(params, tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(encoded(picture()))
    with pytest.raises(UserError, match=r"caf\\xe9\.jpg is not UTF-8"):
        inspection._photographs(params)
