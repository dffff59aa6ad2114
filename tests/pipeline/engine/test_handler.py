"""What runs where in a worker: reading lanes prepare, one thread computes; and what is written down about it."""

import json
import platform
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.engine import handler
from pipeline.engine.account import read_accounts
from spasemsr.data.job import InputRef
from tests.worlds.toy_columns import HR, LR, NOTE, NoteWorker, Toy, patches_of, photographs, toy_job

PATCHES = patches_of(photographs(2))


class PreparingWorker(NoteWorker):
    """Notes in which threads it prepares and computes."""

    threads: ClassVar[dict[str, set[str]]] = {"prepare": set(), "compute": set()}

    def prepare(self, sample):
        self.threads["prepare"].add(threading.current_thread().name.partition("_")[0])

    def __call__(self, samples):
        self.threads["compute"].add(threading.current_thread().name.partition("_")[0])
        return super().__call__(samples)


def built(tmp_path) -> Toy:
    toy = Toy(tmp_path)
    toy.hr(PATCHES)
    toy.lr(PATCHES)
    return toy


def test_what_needs_no_model_is_prepared_in_the_lanes(tmp_path):
    built(tmp_path).note(PATCHES, make=PreparingWorker)
    assert PreparingWorker.threads == {"prepare": {"lane"}, "compute": {"computing"}}


def test_another_batch_size_computes_nothing_again(tmp_path):
    """It changes a network's results by rounding, as another GPU does, and is tuned to a card."""
    toy, inputs = built(tmp_path), (InputRef(HR, splits=("train",)), InputRef(LR, splits=("val",)))
    before, again = (
        toy.build(toy_job(NOTE, NoteWorker, inputs, {"network": {"batch_size": size}}, batch_size=size), PATCHES)
        for size in (1, 3)
    )
    assert (again.computed, again.cached, again.digest) == (0, again.total, before.digest)


def test_devices_and_versions_that_made_a_column_are_kept_and_mixtures_said(tmp_path, monkeypatch, caplog):
    toy = built(tmp_path)
    first = toy.note(PATCHES[:2])
    (made_with,) = first.made_with
    assert made_with.startswith(f"CPU {platform.machine()}: numpy {np.__version__}")
    monkeypatch.setattr(handler, "made_with", lambda: "NVIDIA H100: torch 9")
    with caplog.at_level("WARNING"):
        account = toy.note(PATCHES)
    assert account.made_with == sorted([made_with, "NVIDIA H100: torch 9"])
    assert "samples of several devices or versions" in caplog.text and made_with in caplog.text
    caplog.clear()
    toy.note(PATCHES, version=2)  # another model: nothing is inherited
    assert "several devices" not in caplog.text


def test_an_account_without_newer_fields_is_read(tmp_path):
    toy = built(tmp_path)
    toy.note(PATCHES)
    (path,) = toy.cache.root.glob("accounts/*/features+note.json")
    values = json.loads(path.read_text())
    del values["made_with"]
    path.write_text(json.dumps(values))
    accounts = read_accounts(toy.cache.root, Path.cwd())
    assert [account.made_with for account in accounts if account.column == "features/note"] == [[]]
