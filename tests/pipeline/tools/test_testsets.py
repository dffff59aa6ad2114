"""The named test sets: sizes, key lists, what is recorded on first use and refused later; family A's recipe."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.tools import family, testset
from pipeline.tools.score import Request, run
from spasemsr.errors import UserError
from spasemsr.evaluation import testsets
from spasemsr.evaluation.testsets import SETS, TestSet, named, verify
from spasemsr.pixels import write_png
from tests.worlds import ROOT
from tests.worlds.sample_report import photograph

SMALL = TestSet("small", "Small", 3, True, "nowhere", "none")


def files(folder: Path, names: list[str]) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.png").write_bytes(name.encode())
    return {name: folder / f"{name}.png" for name in names}


def test_published_sizes():
    sizes = {name: entry.n for name, entry in SETS.items()}
    assert sizes == {
        "realsr": 100,
        "drealsr": 93,
        "div2k-val-a": 3000,
        "div2k-val-b": 3000,
        "reallr200": 200,
        "reallq250": 250,
        "realphoto60": 60,
        "dped-iphone": 113,
    }
    assert [name for name, entry in SETS.items() if not entry.paired] == [
        "reallr200",
        "reallq250",
        "realphoto60",
        "dped-iphone",
    ]
    for entry in SETS.values():
        assert entry.keys is None or (len(set(entry.keys)) == entry.n and entry.keys_sha256)
    with pytest.raises(UserError, match="set14"):
        named("set14")


def test_the_key_list_of_family_a_is_what_was_published():
    """This hash is part of the protocol: another one is another set."""
    assert SETS["div2k-val-a"].keys_sha256 == "1f1fa2ab4a63bb60cdcc45aa9c63cf95e17a16162d4348f7e32c769cef04239f"
    assert SETS["realsr"].keys_sha256 is None  # nobody publishes it; recorded on first use


def test_the_docs_say_where_to_get_each_set_and_what_is_allowed():
    section = (ROOT / "docs/datasets.md").read_text()
    for entry in SETS.values():
        (line,) = [line for line in section.splitlines() if line.startswith(f"| `{entry.name}` | {entry.n} |")]
        assert entry.source in line and entry.licence in line
        assert (entry.keys_sha256 or "recorded on first use")[:16] in line
    assert "seed 20260314" in section and testset.SEED == 20260314 and testset.PRESET in section


def test_first_use_records_and_later_uses_are_held_to_it(tmp_path):
    given = files(tmp_path / "hr", ["a", "b", "c"])
    first = verify(SMALL, given, tmp_path)
    assert "first use" in first["checked"] and "no key list" in first["checked"]
    assert "equal to" in verify(SMALL, given, tmp_path)["checked"]
    with pytest.raises(UserError, match=r"lacks 1 of 3 keys \(c\) and has 1 key too many \(d\)"):
        verify(SMALL, files(tmp_path / "other", ["a", "b", "d"]), tmp_path)
    (tmp_path / "hr" / "b.png").write_bytes(b"cropped anew under the same name")
    with pytest.raises(UserError, match=r"1 of 3 files are not the recorded ones \(b\)"):
        verify(SMALL, given, tmp_path)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c", "d"], []])
def test_another_size_is_not_the_published_set(names, tmp_path):
    with pytest.raises(UserError, match=f"has {len(names)} images, the published set has 3"):
        verify(SMALL, files(tmp_path / "hr", names), tmp_path)
    assert not (tmp_path / "small.json").exists()  # a wrong set leaves no record


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "small.json").write_text('{"files": 3}')
    with pytest.raises(UserError, match=r"small\.json is damaged"):
        verify(SMALL, files(tmp_path / "hr", ["a", "b", "c"]), tmp_path)


@pytest.mark.parametrize("paired", [True, False])
def test_score_on_a_named_set(paired, tmp_path, monkeypatch):
    """The set's own endings are no part of the key; LR-only sets are paired with their lr and scored without hr."""
    entry = TestSet("small", "Small", 2, paired, "nowhere", "none", strip=("_LR4", "_HR"))
    monkeypatch.setitem(testsets.SETS, "small", entry)
    monkeypatch.chdir(tmp_path)
    part, ending = ("hr", "_HR") if paired else ("lr", "")
    for key, y in (("x", 0), ("y", 50)):
        for folder, name in ((Path("out"), f"{key}_LR4"), (entry.folder(part), f"{key}{ending}")):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photograph("chelsea.png", y)).save(folder / f"{name}.png")
    lines = list(run(Request(Path("out"), None, "small")))
    assert lines[1].startswith("PSNR-Y     80.0000" if paired else "NIQE")
    assert "first use" in lines[-2] and Path("data/testsets/small.json").exists()
    if not paired:
        with pytest.raises(UserError, match="fid compares with hr"):
            list(run(Request(Path("out"), None, "small", ("niqe", "fid"))))
    Path("out/x_LR4.png").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of 2 keys \(x\)"):
        list(run(Request(Path("out"), None, "small")))


def test_hr_of_a_set_that_has_none_is_refused_and_not_recorded_as_the_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(testsets.SETS, "small", TestSet("small", "Small", 2, False, "nowhere", "none"))
    for folder in ("out", "hr"):
        files(tmp_path / folder, ["a", "b"])
    with pytest.raises(UserError, match="Small has no hr") as error:
        list(run(Request(Path("out"), Path("hr"), "small")))
    assert "put its lr into data/testsets/small/lr" in error.value.remedy and not Path("data").exists()


def test_family_a_is_a_function_of_the_key(tmp_path, monkeypatch):
    """Two images and two crops instead of 100 and 30, through the same code."""
    monkeypatch.setattr(testset, "FAMILY_A_IMAGES", range(801, 803))
    monkeypatch.setattr(testset, "FAMILY_A_CROPS", 2)
    keys = ("0801_00", "0801_01", "0802_00", "0802_01")
    entry = TestSet("div2k-val-a", "A", 4, True, "", "", keys=keys)
    monkeypatch.setattr(testset, "named", lambda name: entry)
    source = tmp_path / "DIV2K_valid_HR"
    source.mkdir()
    for name in ("0801", "0802"):
        Image.fromarray(photograph("chelsea.png", side=200)).save(source / f"{name}.png")

    def built(where: str) -> bytes:
        list(testset.build("div2k-val-a", source, 1, tmp_path / where, side=128))
        return (tmp_path / where / "manifest.csv").read_bytes()

    once = built("one")
    assert once == built("two")
    rows = list(csv.DictReader(once.decode().splitlines()))
    assert [row["key"] for row in rows] == list(keys) and len({(row["y"], row["x"]) for row in rows}) > 2
    lr = np.asarray(Image.open(tmp_path / "one" / "lr" / "0801_01.png"))
    assert lr.shape == (32, 32, 3)
    (tmp_path / "one" / "lr" / "0801_01.png").unlink()  # stopped here: the rest is kept, this one comes back
    assert built("one") == once
    hr = tmp_path / "one" / "hr" / "0802_00.png"  # of other photographs of these names, as an earlier build left it
    Image.new("RGB", (128, 128)).save(hr)
    assert built("one") == once and np.ptp(np.asarray(Image.open(hr))) > 0
    (source / "0802.png").rename(source / "0902.png")
    with pytest.raises(UserError, match=r"lacks 1 of 2 keys \(0802\) and has 1 key too many \(0902\)"):
        built("three")
    (source / "0902.png").rename(source / "0802.png")
    with pytest.raises(UserError, match="cannot be written: it would lie below a file"):
        built("one/manifest.csv")


def test_a_pair_of_which_half_was_written_is_made_again(tmp_path, monkeypatch):
    """In a folder that holds pairs of other photographs of the same names."""
    places = [tmp_path / part / "0801_00.png" for part in ("hr", "lr")]
    for place, side in zip(places, (128, 32), strict=True):
        place.parent.mkdir()
        Image.new("RGB", (side, side)).save(place)
    Image.fromarray(photograph("chelsea.png", side=200)).save(tmp_path / "0801.png")
    worker, written = testset.CropWorker(tmp_path, tmp_path, 128), []

    def stop_after_one(path: Path, picture: np.ndarray) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write_png(path, picture)

    monkeypatch.setattr(testset, "FAMILY_A_CROPS", 1)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(testset, "write_png", stop_after_one)
        worker(801)
    worker(801)
    assert all(np.ptp(np.asarray(Image.open(place))) > 0 for place in places)


def test_sets_that_are_downloaded_are_not_built(tmp_path):
    with pytest.raises(UserError, match="not built but downloaded"):
        list(testset.build("realsr", tmp_path, 1))


def squares(folder: Path, names: list[str], side: int) -> dict[str, Path]:
    """Pictures of one colour; PNG holds 512 px of it in a few hundred bytes."""
    folder.mkdir(exist_ok=True)
    Image.new("L", (side, side)).save(folder / "first.png")
    data = (folder / "first.png").read_bytes()
    (folder / "first.png").unlink()
    for name in names:
        (folder / f"{name}.png").write_bytes(data)
    return {name: folder / f"{name}.png" for name in names}


def test_the_family_is_recognised_by_number_size_and_keys(tmp_path):
    names = [f"Canon_{number:03}" for number in range(100)]
    crops = squares(tmp_path / "crops", names, 512)
    assert family.describe(names, crops).startswith("by number and size this may be RealSR (--set realsr checks it)")
    whole = squares(tmp_path / "whole", names, 700)
    assert family.describe(names, whole).startswith("none of the named sets (100 images, 100 of 700x700 px)")
    assert "none of the named sets" in family.describe(names[:9], {name: crops[name] for name in names[:9]})
    assert family.describe(names, crops, SETS["realsr"]).startswith("RealSR, crops of 512 px, PSNR and SSIM of Y")
    family.require_size(SETS["realsr"], crops)
    family.require_size(SETS["reallq250"], whole)  # of no one size
    with pytest.raises(UserError, match=r"RealSR: Canon_000 has 700x700 pixels; .* crops of 512x512"):
        family.require_size(SETS["realsr"], whole)


def test_pictures_with_other_keys_are_not_taken_for_a_set_whose_keys_are_known(tmp_path, monkeypatch):
    keys = ("0801_00", "0801_01")
    monkeypatch.setitem(SETS, "div2k-val-a", TestSet("div2k-val-a", "A", 2, True, "", "", keys=keys))
    for names, said in ((keys, "this may be A (--set div2k-val-a"), (("x", "y"), "none of the named sets")):
        assert said in family.describe(names, squares(tmp_path / names[0], list(names), 512))
