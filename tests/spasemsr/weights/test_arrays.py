"""Weights in a pickle of arrays: what is read, and that nothing else is ever found or run."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spasemsr.errors import UserError
from spasemsr.weights.arrays import read_arrays

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def write(path: Path, content: Any) -> Path:
    """As NumPy 1 and pickle's protocol 3 wrote it: the file of the registry is of 2022."""
    path.write_bytes(pickle.dumps(content, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return path


def test_nested_arrays_are_read_by_the_names_on_the_way(tmp_path):
    path = write(tmp_path / "a.ckpt", {"outer": {"kernel": ROWS, "bias": ROWS[0]}, "head": ROWS.T})
    found = read_arrays(path)
    assert list(found) == ["outer/kernel", "outer/bias", "head"]
    assert np.array_equal(found["outer/kernel"], ROWS) and np.array_equal(found["head"], ROWS.T)
    assert np.array_equal(found["outer/bias"], ROWS[0])


class Command:
    """Unpickled by `pickle.load`, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_asks_for_anything_else_is_refused_by_name_and_not_run(tmp_path):
    path = write(tmp_path / "a.ckpt", {"kernel": ROWS, "then": Command(tmp_path / "made")})
    with pytest.raises(UserError, match=rf"a\.ckpt holds a pickled {os.name}\.mkdir, not arrays") as error:
        read_arrays(path)
    assert "make env" in error.value.remedy and not (tmp_path / "made").exists()
    with pytest.raises(UserError, match=r"holds a pickled numpy\.core\.multiarray\.scalar, not arrays"):
        read_arrays(write(path, {"kernel": np.float64(1)}))


@pytest.mark.parametrize(
    "content, said",
    [
        ({"a": {"b": ROWS.astype(np.float64)}}, "a/b is float64"),
        ({"a": np.array([ROWS, "text"], dtype=object)}, "a is object"),
        ({"a": 1.5}, "a is float, not a float32 array"),
        (ROWS.tolist(), "what it holds is list"),
    ],
)
def test_anything_but_float32_arrays_is_refused_by_name(tmp_path, content, said):
    with pytest.raises(UserError, match=rf"a\.ckpt: {said}"):
        read_arrays(write(tmp_path / "a.ckpt", content))


def test_a_file_cut_short_or_of_another_kind_is_refused(tmp_path):
    whole = write(tmp_path / "a.ckpt", {"kernel": ROWS}).read_bytes()
    loop: dict[str, Any] = {}
    loop["again"] = loop
    for content in (whole[:-1], whole[: len(whole) // 2], b"", b"\x93NUMPY no pickle", pickle.dumps(loop)):
        (tmp_path / "a.ckpt").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.ckpt is truncated or no pickle of arrays"):
            read_arrays(tmp_path / "a.ckpt")
