"""`upscale` among difficult names, neighbours, places and other runs: nothing is lost, nothing replaced unasked."""

import json
import logging
import os
import pickle
import random
import signal
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from pipeline.commands.pictures import upscale as upscale_command
from pipeline.tools import upscale
from spasemsr import atomic
from spasemsr.errors import RejectedSample, UserError
from spasemsr.images import stored
from spasemsr.images.flat import decode
from spasemsr.images.stored import read_scored
from spasemsr.upscaling.settings import Settings
from tests.worlds.instant_upscaler import InstantUpscaler
from tests.worlds.odd_pictures import encoded, mutants, picture, seeds_of_every_format

app = typer.Typer()
app.command()(upscale_command)


@pytest.fixture
def command(monkeypatch, caplog):
    """Run the command without a network -> exit status and what it said; a UserError is 2, as in `cli.main`."""
    monkeypatch.setattr(upscale, "load", lambda *args: InstantUpscaler())
    caplog.set_level(logging.INFO)

    def run(*arguments: object) -> tuple[int, str]:
        caplog.clear()
        result = CliRunner().invoke(app, [os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])
        said = "\n".join(record.getMessage() for record in caplog.records)
        said.encode()  # whatever is said can be printed
        if isinstance(result.exception, UserError):
            return 2, f"{said}\n{result.exception}"
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, said + result.output

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".json")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# Results that share a name.


def test_a_name_comes_from_what_a_file_is_and_one_result_never_hides_another(command, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    files = {
        "cat.jpg": "JPEG",
        "cat.png": "JPEG",
        "dog.jfif": "JPEG",
        "dog.jpg": "JPEG",
        "a.jpg": "JPEG",
        "a.png": "PNG",
    }
    for number, (name, form) in enumerate(files.items()):
        (folder / name).write_bytes(encoded(picture(seed=number), form))
    code, said = command(folder, "-o", out, "--save-map")
    assert code == 0 and "6 restored" in said
    results = ["cat_x4.jpg", "cat.png_x4.jpg", "dog.jfif_x4.jpg", "dog_x4.jpg", "a_x4.jpg", "a_x4.png"]
    assert [n for n in names(out) if not n.endswith(".map.png")] == sorted(results)
    assert len([n for n in names(out) if n.endswith(".map.png")]) == 6
    for name, result in zip(files, results, strict=True):
        assert json.loads((out / f"{result}.json").read_text())["input"]["name"] == name
        error = np.abs(pixels(folder / name).repeat(4, 0).repeat(4, 1).astype(int) - pixels(out / result)).mean()
        assert error < 6
    assert "6 skipped" in command(folder, "-o", out, "--save-map")[1]


@pytest.mark.parametrize("foreign", ["IMG.CR2", "IMG.heic", "IMG.gif", "IMG.png"])
def test_what_cannot_be_read_claims_no_name(command, tmp_path, foreign):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "IMG.JPG").write_bytes(encoded(picture()))
    (tmp_path / "in" / foreign).write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(64))
    code, said = command(tmp_path / "in", "-o", tmp_path / "out", "--format", "png")
    assert code == 3 and "1 restored, 1 failed" in said and names(tmp_path / "out") == ["IMG_x4.png"]


def test_a_map_never_replaces_somebody_elses_picture(command, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x4.png.map.png").write_bytes(b"a treasure")
    code, said = command(tmp_path / "a.png", "-o", tmp_path / "out", "--save-map")
    assert code == 3 and "--force" in said and (tmp_path / "out" / "a_x4.png.map.png").read_bytes() == b"a treasure"


# Names.


@pytest.mark.parametrize("length", [225, 236, 246, 251])
def test_long_names_are_restored_and_skipped(command, tmp_path, length):
    folder = tmp_path / "in"
    folder.mkdir()
    for stem in ("a_first", "m" * (length - 4), "写" * 80, "z_last"):
        (folder / f"{stem}.png").write_bytes(encoded(picture(), "PNG"))
    code, said = command(folder, "-o", tmp_path / "out", "--save-map")
    assert code == 0 and "4 restored" in said
    assert "4 skipped" in command(folder, "-o", tmp_path / "out", "--save-map")[1]
    assert not list((tmp_path / "out").glob(".*"))


def test_names_that_differ_beyond_the_cut_stay_apart(command, tmp_path):
    for last in "ab":
        (tmp_path / ("m" * 246 + last + ".png")).write_bytes(encoded(picture(), "PNG"))
    assert "2 restored" in command(tmp_path, "-o", tmp_path / "out")[1] and len(names(tmp_path / "out")) == 2


@pytest.mark.skipif(sys.platform == "darwin", reason="there all names are UTF-8")
def test_a_name_that_is_no_utf8_is_restored_and_written_down(command, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in (b"a.png", b"caf\xe9.png", b"z.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(encoded(picture(), "PNG"))
    code, said = command(folder, "-o", out)
    assert code == 0 and "3 restored" in said and "caf\\xe9.png" in said
    assert (out / os.fsdecode(b"caf\xe9_x4.png")).is_file()
    assert "3 skipped" in command(folder, "-o", out)[1]


def test_accents_in_either_form_are_restored(command, tmp_path):
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, f"é{form}.png")).write_bytes(encoded(picture(), "PNG"))
    assert "2 restored" in command(tmp_path, "-o", tmp_path / "out")[1]


def test_one_name_that_cannot_be_written_stops_no_other(command, tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(encoded(picture(), "PNG"))
    real = atomic.claim

    def refuse(partial: Path, place: Path) -> bool:
        if place.name.startswith("b"):
            raise OSError(36, "File name too long")
        return real(partial, place)

    monkeypatch.setattr(atomic, "claim", refuse)
    code, said = command(tmp_path, "-o", tmp_path / "out")
    assert code == 3 and "2 restored, 1 failed" in said and "name_unwritable" in said


# Links and places.


def test_linked_folders_are_entered_once_and_dangling_links_named(command, tmp_path):
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    (folder / "real").mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "real" / "here.png").write_bytes(encoded(picture(), "PNG"))
    (elsewhere / "linked.png").write_bytes(encoded(picture(seed=1), "PNG"))
    (folder / "nas").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    code, said = command(folder, "-o", tmp_path / "out")
    assert code == 3 and "2 restored, 1 failed" in said and "gone.png: unreadable: a link to nothing" in said
    assert names(tmp_path / "out") == ["nas", "nas/linked_x4.png", "real", "real/here_x4.png"]


@pytest.mark.parametrize("name", ["large.bmp", "large.heic", "large.GIF", "large.mpo"])
def test_a_file_that_cannot_be_written_is_no_folder(command, tmp_path, name):
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    code, said = command(tmp_path / "a.png", "-o", tmp_path / name)
    assert code == 2 and "cannot be written" in said and not (tmp_path / name).exists()


@pytest.mark.parametrize("reached", ["itself", "link", "hard link", "result"])
def test_an_input_is_never_replaced_not_even_by_force(command, tmp_path, reached):
    original, other = tmp_path / "a.png", tmp_path / "b.png"
    original.write_bytes(encoded(picture(), "PNG"))
    before = original.read_bytes()
    inputs, out = [original], other
    if reached == "itself":
        out = original
    elif reached == "link":
        other.symlink_to(original)
    elif reached == "hard link":
        other.hardlink_to(original)
    else:  # another input lies where the result would go
        taken = tmp_path / "a_x4.png"
        taken.write_bytes(before)
        inputs, out = [original, taken], tmp_path
    code, said = command(*inputs, "-o", out, "--force")
    assert code in (2, 3) and "input" in said
    assert original.read_bytes() == before and (reached != "result" or taken.read_bytes() == before)


# Two runs into one folder.

STEPS = {"link": os.link, "replace": os.replace, "fsync": lambda descriptor: None}  # both see what no disk holds yet


def _run_in_turns(folder: Path, out: Path, seed: int, turn: int, done: int) -> None:
    """A process of its own: the whole command, waiting for its turn before every step on the file system."""

    def waiting(step):
        def wait(*args):
            os.write(done, b".")
            os.read(turn, 1)
            return step(*args)

        return wait

    for name, step in STEPS.items():
        setattr(os, name, waiting(step))
    request = upscale.Request((str(folder),), out, Settings(seed=seed), save_map=True)
    status = upscale.run(request, InstantUpscaler)
    os.write(done, b"!" + bytes([status]))


def _interleaved(folder: Path, out: Path, order: random.Random) -> list[int]:
    """Two commands, each step in the order that chance gives -> their exit statuses."""
    runs = []
    for seed in (1, 2):
        turn, done = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _run_in_turns(folder, out, seed, turn[0], done[1])
            except BaseException as error:
                os.write(done[1], b"?" + pickle.dumps(repr(error)))
            os._exit(0)
        runs.append((child, turn[1], done[0]))
        os.close(turn[0])
        os.close(done[1])
    statuses: dict[int, int] = {}
    try:
        waiting = {child: os.read(done, 1) for child, _, done in runs}
        while waiting:
            child = order.choice(sorted(waiting))
            _, turn, done = next(run for run in runs if run[0] == child)
            if waiting[child] == b".":
                os.write(turn, b"g")
                waiting[child] = os.read(done, 1)
                continue
            rest = os.read(done, 10_000)
            assert waiting.pop(child) == b"!", pickle.loads(rest)
            statuses[child] = rest[0]
    finally:
        for child, turn, done in runs:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(turn)
            os.close(done)
    return [statuses[child] for child, _, _ in runs]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_hundred_interleavings_of_two_runs_lose_nothing(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        (folder / name).write_bytes(encoded(picture(), {".png": "PNG", ".jpg": "JPEG"}[name[-4:]]))
    winners = set()
    for number in range(100):
        out = tmp_path / f"out{number}"
        statuses = _interleaved(folder, out, random.Random(number))
        assert set(statuses) <= {0, 3} and 3 in statuses  # for each picture one of the two was told that it is taken
        found = {path.name for path in out.iterdir()}
        results = {"a_x4.png", "b_x4.jpg"}
        assert found == results | {f"{r}.json" for r in results} | {f"{r}.map.png" for r in results}
        for result in results:
            record = json.loads((out / f"{result}.json").read_text())
            for name, digest in record["files"].items():  # the sidecar, the picture and the map are of one run
                assert upscale.sha256_bytes((out / name).read_bytes()) == digest
            winners.add((result, record["settings"]["seed"]))
    assert len(winners) == 4  # each run won each picture at some time


# Damaged files.


def test_two_thousand_mutants_end_in_a_result_or_a_reason(command, tmp_path, monkeypatch):
    """Through ingest's decoder, the whole `upscale` command, and score's reader."""
    monkeypatch.setattr(upscale, "MAX_PIXELS", 100_000)
    monkeypatch.setattr(stored, "MAX_PIXELS", 100_000)
    folder, seen = tmp_path / "in", {"ingest": 0, "score": 0}
    folder.mkdir()
    count = 2000
    for index, (suffix, data) in enumerate(mutants(count, seed=17)):
        path = folder / f"{index:04}{suffix}"
        path.write_bytes(data)
        try:
            decode(data, 100_000)
            seen["ingest"] += 1
        except RejectedSample as rejected:
            assert rejected.reason and rejected.detail
        try:
            read_scored(path)
            seen["score"] += 1
        except UserError as error:
            assert path.name in error.what
    code, said = command(folder, "-o", tmp_path / "out")
    assert code == 3 and "Traceback" not in said
    restored = said.count("\nrestored ") + said.startswith("restored ")
    assert len([line for line in said.splitlines() if line.startswith(("restored ", "failed "))]) == count
    assert min(*seen.values(), restored) > count // 8  # mutants that nothing can read would prove nothing


def test_the_unchanged_files_are_all_read(command, tmp_path):
    for index, (suffix, data) in enumerate(seeds_of_every_format()):
        (tmp_path / f"{index:02}{suffix}").write_bytes(data)
    code, said = command(tmp_path, "-o", tmp_path / "out")
    assert code == 0 and f"{len(seeds_of_every_format())} restored" in said
