"""Where a run's state lies, who holds it, and which states are deleted."""

import logging
import os
import shutil

import pytest

from spasemsr.errors import UserError
from spasemsr.training.checkpoint import Position, load_state, save_state
from spasemsr.training.states import discard, interrupted, prune, state_of
from tests.worlds.short_training import Killed, trained


def left(folder, saved=1_000):
    """A state as an interrupted run leaves it, last saved at this time."""
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    for path in (folder / "state.json", folder):
        os.utime(path, (saved, saved))
    folder.with_name(f"{folder.name}.lock").touch()


def test_of_interrupted_runs_of_the_family_the_last_one_is_kept_and_all_others_stay(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with state_of(tmp_path, "a.embedded", "running") as running:
        running.mkdir()
        for name in ("a.embedded/old", "a.embedded/mine", "a.foundation/old", "b.embedded/old"):
            left(tmp_path / name)
        left(tmp_path / "a.embedded/newer", saved=2_000)
        (tmp_path / "a.embedded/killed-at-once.lock").touch()
        with state_of(tmp_path, "a.embedded", "mine") as state:
            assert state == tmp_path / "a.embedded/mine" and (state / "state.json").exists()
            assert running.exists(), "a process holds it"
            assert {path.name for path in (tmp_path / "a.embedded").iterdir()} == {
                *("mine", "mine.lock", "newer", "newer.lock", "running", "running.lock")
            }
        assert "deleted a.embedded/old (0.00 GB)" in caplog.text
        assert "a.embedded/newer (0.00 GB) is of an interrupted run with other settings" in caplog.text
        assert [state.name.split()[0] for state in interrupted(tmp_path)] == [
            *("a.embedded/newer", "a.embedded/mine", "a.foundation/old", "b.embedded/old")
        ]
        assert [state.folder.name for state in prune(tmp_path, 0, "a.embedded")] == ["newer", "mine"]
    assert (tmp_path / "a.foundation/old").exists() and (tmp_path / "b.embedded/old").exists()


def test_a_state_is_kept_for_resuming_and_nothing_is_left_of_a_finished_run(tmp_path):
    with pytest.raises(RuntimeError), state_of(tmp_path, "a", "run") as state:
        state.mkdir()
        raise RuntimeError("stopped")
    with state_of(tmp_path, "a", "run") as state:
        state.rmdir()
    assert list(tmp_path.iterdir()) == []


def test_a_state_whose_deletion_was_killed_is_none(tmp_path, monkeypatch):
    run = trained()
    save_state(tmp_path, Position(2, None), *run)

    def killed(folder, ignore_errors):
        next(folder.rglob("*.safetensors")).unlink()  # which file goes first is the file system's affair
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(shutil, "rmtree", killed)
        discard(tmp_path)
    assert any(tmp_path.iterdir()) and load_state(tmp_path, *run) is None


def test_one_process_trains_a_run_and_others_of_its_launch_join_it(tmp_path, monkeypatch):
    with state_of(tmp_path, "a", "run") as state:
        with pytest.raises(UserError, match="Another process trains this very run"), state_of(tmp_path, "a", "run"):
            pass
        monkeypatch.setenv("RANK", "1")
        with state_of(tmp_path, "a", "run") as other:
            assert other == state


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "a").write_text("no folder")
    with pytest.raises(UserError, match="cannot be written"), state_of(tmp_path, "a", "run"):
        pass
