"""Where a run's state lies, who holds it, and which states are deleted."""

import pytest

from spasemsr.errors import UserError
from spasemsr.training.states import state_of


def left(folder):
    """A state as an interrupted run leaves it."""
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    folder.with_name(f"{folder.name}.lock").touch()


def test_abandoned_states_of_the_family_go_and_all_others_stay(tmp_path):
    with state_of(tmp_path, "a.embedded", "running") as running:
        running.mkdir()
        for name in ("a.embedded/old", "a.embedded/mine", "a.foundation/old", "b.embedded/old"):
            left(tmp_path / name)
        with state_of(tmp_path, "a.embedded", "mine") as state:
            assert state == tmp_path / "a.embedded/mine" and (state / "state.json").exists()
            assert running.exists(), "a process holds it"
            assert not (tmp_path / "a.embedded/old").exists()
    assert (tmp_path / "a.foundation/old").exists() and (tmp_path / "b.embedded/old").exists()


def test_a_state_is_kept_for_resuming_and_nothing_is_left_of_a_finished_run(tmp_path):
    with pytest.raises(RuntimeError), state_of(tmp_path, "a", "run") as state:
        state.mkdir()
        raise RuntimeError("stopped")
    with state_of(tmp_path, "a", "run") as state:
        state.rmdir()
    assert list(tmp_path.iterdir()) == []


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
