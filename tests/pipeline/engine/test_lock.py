"""One process per out, and no stage that outlives the dvc which started it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipeline.engine import lock
from spasemsr.errors import UserError

GONE = f"{socket.gethostname()} {2**22 + 1}"  # says a claim whose process is not there
HOLD = """
import logging, sys, time
from pathlib import Path
from pipeline.engine.lock import exclusive
logging.basicConfig(level=logging.INFO, format="%(message)s")
with exclusive("ground", Path(sys.argv[1])):
    print("held", time.monotonic(), flush=True)
    time.sleep(float(sys.argv[2]))
    print("left", time.monotonic(), flush=True)
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen:
    words = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_copy_waits_and_says_for_whom(tmp_path):
    first = hold(tmp_path, 1.5)
    assert first.stdout.readline().startswith("held")
    second = hold(tmp_path, 0)
    said = second.communicate(timeout=30)
    left = float(first.communicate(timeout=30)[0].split()[1])
    assert float(said[0].split()[1]) >= left
    assert said[1].strip() == f"ground    waits: process {first.pid} is building the same outs"
    with lock.exclusive("caption", tmp_path), lock.exclusive("ground", tmp_path):
        assert (tmp_path / ".ground.lock-held").read_text() == f"{os.getpid()}\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        ".ground.lock-held": "",
        ".caption.lock-held": "",
    }


def test_a_killed_holder_leaves_no_lock(tmp_path):
    first = hold(tmp_path, 60)
    assert first.stdout.readline().startswith("held")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    with lock.exclusive("ground", tmp_path):
        pass


def test_a_folder_that_cannot_hold_the_lock_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"\.ground\.lock-held"), lock.exclusive("ground", tmp_path / "file"):
        pass


STAGE = """
import os, sys, time
from pipeline.engine.lock import end_with_dvc
end_with_dvc()
print(os.getpid(), flush=True)
time.sleep(60)
"""
DVC = """#!{python}
import os, subprocess, sys
subprocess.run(["bash", "-c", "{python} " + sys.argv[1] + "; true"], env={{**os.environ, "DVC_STAGE": "ground"}})
"""


@pytest.mark.parametrize("name", ["dvc", "some_program_that_calls_dvc"])
def test_a_stage_ends_when_its_dvc_is_killed(tmp_path, name):
    (tmp_path / "stage.py").write_text(STAGE)
    dvc = tmp_path / name
    dvc.write_text(DVC.format(python=sys.executable))
    dvc.chmod(0o755)
    parent = subprocess.Popen([str(dvc), str(tmp_path / "stage.py")], stdout=subprocess.PIPE, text=True)
    stage = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.6)
    assert stage.is_running()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs([stage], timeout=5)[1] == []


def test_nothing_is_watched_without_dvc(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr(lock, "_watch", lambda dvc: pytest.fail("watched"))
    lock.end_with_dvc()


def test_where_storage_has_no_flock_a_touched_file_holds_the_outs(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    claims = tmp_path / ".ground.lock-claims"
    with lock.exclusive("ground", tmp_path):
        (claim,) = claims.iterdir()
        assert str(os.getpid()) in claim.read_text()
    assert not claims.exists()
    claims.mkdir()
    (claims / "gone").write_text(GONE)
    monkeypatch.setattr(lock, "_touched", lambda path: pytest.fail("watched for a minute"))
    with caplog.at_level("WARNING"), lock.exclusive("ground", tmp_path):
        (claim,) = claims.iterdir()
        assert str(os.getpid()) in claim.read_text()
    assert f"waits: {GONE} holds the same outs" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == [".ground.lock-held"]


def test_a_claim_of_another_machine_counts_as_long_as_it_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_STALE_SECONDS", 0.3)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.02)
    claims = tmp_path / ".ground.lock-claims"
    claims.mkdir()
    (claims / "a").write_text("elsewhere 1")
    ends = time.monotonic() + 0.6

    def touch():
        while time.monotonic() < ends:
            os.utime(claims / "a")
            time.sleep(0.05)

    holder = threading.Thread(target=touch)
    holder.start()
    with lock.claimed("ground", claims):
        assert time.monotonic() >= ends
    holder.join()


def test_a_claim_that_has_gone_is_not_watched_for_a_minute(tmp_path, monkeypatch):
    """As when its holder ends between the look into the folder and the look at the file."""
    monkeypatch.setattr(lock, "_STALE_SECONDS", 0.4)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.1)
    assert lock._abandoned(tmp_path / "gone") is False  # True is said once the time is over


def test_of_two_that_find_the_same_claim_abandoned_one_takes_it_over(tmp_path, monkeypatch):
    """The slower of them removes the abandoned claim when the faster one's is there already."""
    claims = tmp_path / "claims"
    claims.mkdir()
    (claims / "gone").write_text(GONE)
    both, taken, tried = threading.Barrier(2), threading.Event(), threading.Event()
    inside: list[int] = []
    counts: list[int] = []

    def abandoned(claim: Path) -> bool:
        if claim.name != "gone":
            tried.set()
            return False
        if both.wait(30) == 0:
            assert taken.wait(30)
        return True

    def hold() -> None:
        with lock.claimed("ground", claims):
            inside.append(threading.get_ident())
            counts.append(len(inside))
            if taken.is_set():
                tried.set()
            taken.set()
            assert tried.wait(30)
            inside.remove(threading.get_ident())

    monkeypatch.setattr(lock, "_abandoned", abandoned)
    waiting = [threading.Thread(target=hold) for _ in range(2)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert counts == [1, 1] and not claims.exists()
