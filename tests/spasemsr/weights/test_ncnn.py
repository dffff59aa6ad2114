"""ncnn's files: read to the last byte into the tensors of an RRDBNet, and refused by name when anything differs."""

import numpy as np
import pytest
import torch

from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import SpandrelRestorerSpec
from spasemsr.errors import UserError
from spasemsr.weights.ncnn import read_rrdb
from spasemsr.weights.store import locate
from tests.worlds.ncnn_files import HALF, SINGLE, random_rrdb, write_ncnn
from tests.worlds.photographs import photograph, psnr, shrunk

STATE = random_rrdb(1)
GAN = "realesrgan-x4plus-ncnn"


@pytest.mark.parametrize("flag", [HALF, SINGLE])
def test_every_tensor_comes_back(flag, tmp_path):
    found = read_rrdb(write_ncnn(tmp_path, STATE, flag))
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_path_serves_as_a_restorer_like_a_pth(tmp_path):
    lr = shrunk(photograph("chelsea", 64), 4)
    torch.save(STATE, tmp_path / "net.pth")
    outputs = []
    for source in (tmp_path / "net.pth", write_ncnn(tmp_path, STATE)):
        restorer = build_restorer(SpandrelRestorerSpec(kind="spandrel", source=str(source), precision="fp32"), "cpu")
        outputs.append(restorer.restore([lr], 4)[0])
    assert np.array_equal(*outputs)


def test_a_changed_bin_is_another_model(tmp_path):
    path = write_ncnn(tmp_path, STATE)
    before = locate(str(path))
    assert before.path == path
    write_ncnn(tmp_path, random_rrdb(1, seed=1))
    assert locate(str(path)).sha256 != before.sha256
    path.with_suffix(".bin").unlink()
    with pytest.raises(UserError, match=r"net\.bin is not beside net\.param"):
        locate(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], r"is cut short: the first tensor that is not complete is conv_last\.bias"),
        (lambda data: data[:5000], r"the first tensor that is not complete is body\.0\.rdb1\.conv1\.weight"),
        (lambda data: data[:2], r"the first tensor that is not complete is conv_first\.weight"),
        (lambda data: data + b"\0\0\0\0", "has 4 bytes after the last of its tensors"),
        (lambda data: b"\x38\x4b\x0d\x00" + data[4:], r"conv_first\.weight is of no kind .*0x000d4b38"),
        (lambda data: data[:5] + b"\x7e" + data[6:], r"conv_first\.weight is not finite"),
    ],
)
def test_a_damaged_bin_names_the_tensor(change, message, tmp_path):
    path = write_ncnn(tmp_path, STATE)
    weights = path.with_suffix(".bin")
    weights.write_bytes(change(weights.read_bytes()))
    with pytest.raises(UserError, match=message):
        read_rrdb(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("7767517", "7767516"), "does not begin with 7767517"),
        (lambda text: text[: len(text) // 2].rsplit("\n", 1)[0], "is cut short: it has"),
        (lambda text: text.replace("9=2 -23310=1,2.0", "9=2 -23310=1,1.0", 1), r"not its body\.0\.rdb1\.conv1"),
        (lambda text: text.replace("-23301=2,2.0", "-23301=2,3.0", 1), r"not its body\.0\.rdb1\.sum \(Eltwise\)"),
        (lambda text: text.replace("0=1 1=2.0", "0=2 1=2.0", 1), r"not its conv_up1\.nearest \(Interp\)"),
        (lambda text: text.replace("Convolution", "Deconvolution", 1), r"layer 0 is not its conv_first"),
        (lambda text: text.replace("0=64", "0=__import__", 1), "line 5: not a layer"),
        (lambda text: text.replace("1 1 v1_copy", "1 1 v9_copy", 1), "not a layer of ncnn"),
    ],
)
def test_another_network_names_the_layer(change, message, tmp_path):
    path = write_ncnn(tmp_path, STATE)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        read_rrdb(path)


def test_the_package_holds_real_esrgan():
    """16,697,987 parameters, as published; lr comes back as a picture that reduces to it."""
    try:
        path = locate(GAN).path
    except UserError as error:
        pytest.skip(f"the extra `real` is not installed: {error.what}")
    assert sum(tensor.numel() for tensor in read_rrdb(path).values()) == 16_697_987
    restorer = build_restorer(SpandrelRestorerSpec(kind="spandrel", source=GAN, precision="fp32"), "cpu")
    lr = shrunk(photograph("chelsea", 128), 4)
    assert psnr(shrunk(restorer.restore([lr], 4)[0], 4), lr) > 27
