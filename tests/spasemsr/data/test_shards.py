"""Tars: any bytes survive, equal samples are equal files, other libraries read them, hostile ones are refused."""

import io
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.data import member_index, shards
from spasemsr.data.columns import LR, Column, Member
from spasemsr.data.patches import make_key
from spasemsr.data.shards import ColumnReader, TarInfo, base_of, scan, write_info, write_tar
from spasemsr.errors import UserError
from spasemsr.hashing import digest_of, sha256_bytes, sha256_file

KEYS = sorted(make_key(sha256_bytes(bytes([i])), 0, i) for i in range(6))
MIXED = Column("mixed", 1, "mix", (Member("plain.json"), Member("each.{k}.json"), Member("also.{k}.json")))


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)


def lr_sample(seed: int, variants: int = 2) -> dict[str, bytes]:
    image, trace = LR.members
    members = {image.name(k): image.encode(pixels(seed + k)) for k in range(variants)}
    return members | {trace.name(k): trace.encode({"k": k}) for k in range(variants)}


def write_column(root: Path, column: Column, tars: dict[str, dict[str, dict[str, bytes]]]) -> Path:
    folder = root / column.name
    folder.mkdir(parents=True)
    infos = {name: write_tar(folder / name, sorted(samples.items())) for name, samples in tars.items()}
    rows = [(k, n, sha256_bytes(d)) for samples in tars.values() for k, ms in samples.items() for n, d in ms.items()]
    write_info(folder, column, {"kind": "test"}, {}, digest_of(sorted(rows)), infos)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """Column lr: two training tars and one for validation."""
    samples = {key: lr_sample(i, variants=1 if i == 5 else 2) for i, key in enumerate(KEYS)}
    tars = {"train-00000.tar": KEYS[:3], "train-00002.tar": KEYS[3:5], "val-00000.tar": KEYS[5:]}
    return write_column(tmp_path, LR, {name: {key: samples[key] for key in keys} for name, keys in tars.items()})


def reader(folder: Path, **options) -> ColumnReader:
    return ColumnReader(folder.parent, LR, **options)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.dictionaries(
            st.from_regex(r"[a-z]{1,8}\.[a-z]{1,4}", fullmatch=True), st.binary(max_size=1500), min_size=1, max_size=3
        ),
        max_size=4,
    )
)
def test_any_bytes_survive_and_equal_samples_are_equal_files(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("any")
    info = write_tar(folder / "a.tar", sorted(samples.items()))
    shuffled = [(key, dict(reversed(members.items()))) for key, members in sorted(samples.items())]
    assert write_tar(folder / "b.tar", shuffled) == info
    data = (folder / "a.tar").read_bytes()
    assert data == (folder / "b.tar").read_bytes()
    assert info == TarInfo(sha256_bytes(data), len(data), len(samples))
    expected = {f"{key}.{name}": value for key, members in samples.items() for name, value in members.items()}
    assert {name: data[offset : offset + size] for name, offset, size in scan(folder / "a.tar")} == expected
    with tarfile.open(folder / "a.tar") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar.getmembers()} == expected
        assert tar.getnames() == sorted(expected)


def test_keys_must_be_given_in_order(tmp_path):
    for i, keys in enumerate(([KEYS[1], KEYS[0]], [KEYS[0], KEYS[0]], ["../evil_00000_00000"])):
        with pytest.raises(ValueError, match="key"):
            write_tar(tmp_path / f"{i}.tar", [(key, {"a.json": b"{}"}) for key in keys])


def test_random_access(folder):
    column = reader(folder, verify=True)
    assert column.keys() == KEYS and column.keys("val") == KEYS[5:] and column.keys("train") == KEYS[:5]
    assert column.tars("train") == {"train-00000.tar": KEYS[:3], "train-00002.tar": KEYS[3:5]}
    for i, key in enumerate(KEYS):
        assert column.variants(key) == (1 if i == 5 else 2)
        for k in range(column.variants(key)):
            assert (column.read(key, f"lr.{k}.png") == pixels(i + k)).all()
            assert column.read(key, f"degradation.{k}.json") == {"k": k}
    assert column.variants("0" * 16 + "_00000_00000") == 0
    for key, name in ((KEYS[5], "lr.1.png"), (KEYS[0], "hr.png"), ("nothing", "lr.0.png")):
        with pytest.raises(UserError, match=f"lacks {key}.{name}"):
            column.read(key, name)
    assert column.hashes()[KEYS[0], "lr.0.png"] == sha256_bytes(lr_sample(0)["lr.0.png"])


def test_threads_may_read_at_once(folder):
    column, wrong = reader(folder), []

    def read(offset):
        for i in range(60):
            n = (i + offset) % 5
            if not (column.read(KEYS[n], "lr.1.png") == pixels(n + 1)).all():
                wrong.append(n)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_headers_of_a_large_column_are_read_once_until_a_tar_is_touched(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(member_index, "LEAST", 6)
    scanned: list[str] = []
    monkeypatch.setattr(shards, "scan", lambda path: scanned.append(path.name) or scan(path))
    first = reader(folder)
    assert sorted(scanned) == sorted(first.tars())
    scanned.clear()
    again = reader(folder)
    assert scanned == [] and again.hashes() == first.hashes()
    os.utime(folder / "val-00000.tar", (1, 1))
    assert reader(folder).keys() == KEYS and len(scanned) == 3
    scanned.clear()
    for entry in (tmp_path / "cache").rglob("*"):  # an index that was altered is none
        if entry.is_file():
            entry.write_bytes(entry.read_bytes()[:-1] + b" ")
    assert reader(folder).keys() == KEYS and len(scanned) == 3


def test_the_webdataset_library_reads_the_same_samples(folder):
    tars = sorted(str(path) for path in folder.glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == KEYS
    for i, sample in enumerate(samples):
        members = {name: data for name, data in sample.items() if not name.startswith("__")}
        assert members == lr_sample(i, variants=1 if i == 5 else 2)


def test_mixed_columns_count_their_variants(tmp_path):
    whole = {"plain.json": b"{}"} | {f"{stem}.{k}.json": b"{}" for stem in ("each", "also") for k in range(2)}
    write_column(tmp_path, MIXED, {"train-00000.tar": {KEYS[0]: whole}})
    assert ColumnReader(tmp_path, MIXED).variants(KEYS[0]) == 2
    for i, lost in enumerate(sorted(whole)):
        part = {name: data for name, data in whole.items() if name != lost}
        write_column(tmp_path / str(i), MIXED, {"train-00000.tar": {KEYS[0]: part}})
        with pytest.raises(UserError, match="not a whole sample"):
            ColumnReader(tmp_path / str(i), MIXED)


def test_base_names():
    names = ["lr.0.png", "lr.12.png", "hr.png", "lr.00.png", "lr.x.png", "lr.{k}.png", "lr.-1.png", "lr.²"]
    assert [base_of(name) for name in names] == ["lr.png", "lr.png", "hr.png", "", "", "", "", "lr.²"]


# Damage of the folder: every message names the file and the stage that rebuilds it.


def edit_info(folder: Path, **changes) -> None:
    path = folder / "column.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "no folder": (lambda f: os.rename(f, f.with_name("gone")), "column.json does not exist"),
    "no column.json": (lambda f: (f / "column.json").unlink(), "column.json does not exist"),
    "cut column.json": (lambda f: (f / "column.json").write_text("{"), "column.json is damaged"),
    "list column.json": (lambda f: (f / "column.json").write_text("[]"), "column.json is damaged"),
    "other column": (lambda f: edit_info(f, column="hr"), "column hr version 1, expected lr version 1"),
    "old version": (lambda f: edit_info(f, version=0), "column lr version 0, expected lr version 1"),
    "wrong count": (lambda f: edit_info(f, keys=7), "states 7 keys, the tars hold 6"),
    "missing tar": (lambda f: (f / "train-00002.tar").unlink(), "train-00002.tar is missing"),
    "strange tar": (lambda f: (f / "train-00009.tar").write_bytes(b""), "train-00009.tar does not belong there"),
    "strange file": (lambda f: (f / "notes.txt").write_text(""), "notes.txt does not belong there"),
    "shorter tar": (lambda f: os.truncate(f / "val-00000.tar", 1024), "val-00000.tar has 1024 bytes"),
    "flipped name": (lambda f: flip(f / "val-00000.tar", 20), "val-00000.tar is refused"),
    "flipped checksum": (lambda f: flip(f / "val-00000.tar", 150), "val-00000.tar is refused"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_by_name_with_the_stage_that_rebuilds_it(folder, damage):
    make, words = DAMAGE[damage]
    make(folder)
    with pytest.raises(UserError) as error:
        reader(folder)
    assert words in error.value.what and error.value.remedy == "Run: dvc repro synthesize"


def test_a_flipped_pixel_is_found_by_verification_and_by_hashing(folder):
    place = reader(folder).members(KEYS[3])["lr.1.png"]
    flip(folder / "train-00002.tar", place.offset + place.size // 2)
    column = reader(folder)  # the headers are intact
    for look in (lambda: reader(folder, verify=True), column.hashes):
        with pytest.raises(UserError, match=r"train-00002.tar was altered: its sha256"):
            look()
    stated = json.loads((folder / "column.json").read_text())["tars"]
    stated["train-00002.tar"]["sha256"] = sha256_file(folder / "train-00002.tar")
    edit_info(folder, tars=stated)
    with pytest.raises(UserError, match="its digest is not that of the tars"):
        reader(folder).hashes()


def test_an_undecodable_member_is_named(tmp_path):
    sample = lr_sample(0) | {"lr.1.png": lr_sample(0)["lr.1.png"][:-20]}
    write_column(tmp_path, LR, {"train-00000.tar": {KEYS[0]: sample}})
    with pytest.raises(UserError) as error:
        ColumnReader(tmp_path, LR).read(KEYS[0], "lr.1.png")
    assert "train-00000.tar" in error.value.what and f"{KEYS[0]}: lr.png: a truncated" in error.value.what


# Hostile tars: refused by name at opening; nothing is ever written to disk.


def hostile(root: Path, entries: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> None:
    folder = root / "lr"
    folder.mkdir()
    path = folder / "train-00000.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    write_info(folder, LR, {}, {}, "0" * 64, {path.name: TarInfo(sha256_file(path), path.stat().st_size, 1)})


def entry(name: str, data: bytes = b"x", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


GOOD = [entry(f"{KEYS[0]}.{name}", data) for name, data in sorted(lr_sample(0, 1).items())]
NEXT = f"{KEYS[1]}.lr.0.png"
HOSTILE = {
    "parent folder": ([*GOOD, entry("../evil.lr.0.png")], "'../evil.lr.0.png' is not a plain name"),
    "dots": ([*GOOD, entry(f"{KEYS[1]}..lr.0.png")], "is not a plain name"),
    "absolute": ([*GOOD, entry("/etc/passwd")], "'/etc/passwd' is not a plain name"),
    "folder in name": ([*GOOD, entry(f"a/{KEYS[1]}.lr.0.png")], "is not a plain name"),
    "symbolic link": ([*GOOD, entry(NEXT, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "(type '2')"),
    "hard link": ([*GOOD, entry(NEXT, b"", type=tarfile.LNKTYPE, linkname=GOOD[0][0].name)], "(type '1')"),
    "folder": ([*GOOD, entry(KEYS[1], b"", type=tarfile.DIRTYPE)], "not a regular file (type '5')"),
    "device": ([*GOOD, entry(NEXT, b"", type=tarfile.CHRTYPE)], "not a regular file (type '3')"),
    "duplicate": ([*GOOD, GOOD[-1]], "is there twice"),
    "not in schema": ([*GOOD, entry(f"{KEYS[0]}.evil.py")], "is no member of column 'lr'"),
    "pickle": ([*GOOD, entry(f"{KEYS[0]}.lr.0.pkl")], "is no member of column 'lr'"),
    "template": ([*GOOD, entry(f"{KEYS[0]}.lr.{{k}}.png")], "is no member of column 'lr'"),
    "no key": ([*GOOD, entry("evil.lr.0.png")], "is no member of column 'lr'"),
    "half a sample": ([*GOOD[:1]], "not a whole sample"),
    "a gap": ([*GOOD, entry(f"{KEYS[0]}.lr.2.png"), entry(f"{KEYS[0]}.degradation.2.json")], "not a whole"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tars_are_refused_by_name(tmp_path, case):
    entries, words = HOSTILE[case]
    hostile(tmp_path, entries)
    with pytest.raises(UserError) as error:
        ColumnReader(tmp_path, LR)
    assert "train-00000.tar is refused" in error.value.what and words in error.value.what
    assert error.value.remedy == "Run: dvc repro synthesize"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_other_tar_formats_are_refused(tmp_path, form):
    long = entry(f"{KEYS[0]}.{'x' * 120}.png") if form == tarfile.PAX_FORMAT else entry(f"{KEYS[0]}.lr.0.png")
    hostile(tmp_path, [long], form)
    with pytest.raises(UserError, match=r"is refused: .*(USTAR|regular file)"):
        ColumnReader(tmp_path, LR)


def test_a_member_that_states_a_huge_size_is_refused_without_reading_it(tmp_path):
    hostile(tmp_path, GOOD)
    path = tmp_path / "lr" / "train-00000.tar"
    info = tarfile.TarInfo(f"{KEYS[1]}.lr.0.png")
    for size, words in ((1 << 32, "is cut off"), (1 << 29, "the limit is")):
        info.size = size
        with path.open("wb") as file:
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            file.truncate(512 + (1 << 29) + 1024)  # sparse: it takes no space
        write_info(tmp_path / "lr", LR, {}, {}, "0" * 64, {path.name: TarInfo("", path.stat().st_size, 1)})
        with pytest.raises(UserError) as error:
            ColumnReader(tmp_path, LR)
        assert words in error.value.what


def test_data_after_the_end_is_refused(tmp_path):
    hostile(tmp_path, GOOD)
    path = tmp_path / "lr" / "train-00000.tar"
    path.write_bytes(path.read_bytes() + tarfile.TarInfo("hidden").tobuf())
    with pytest.raises(ValueError, match="follows the end"):
        list(scan(path))
