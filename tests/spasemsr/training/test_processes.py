"""Several processes of one launch: they stop together, resume together or not at all, and compute as params say."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.worlds import ROOT, warm

PROGRAM = """
import os, sys, time
from pathlib import Path
import torch
from spasemsr.data.dataset import Batch
from spasemsr.training import loop
from spasemsr.training.spec import TrainSpec

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
rank = int(os.environ.get("RANK", 0))
state = folder / (f"state{rank}" if "--apart" in sys.argv else "state")
save = loop.save_state

def slowly(*arguments):
    time.sleep(2)  # when one process leaves, torchrun gives the others 30 s: less than 12 GB take to be written
    save(*arguments)

def batches(step, slice_, slices):
    (folder / f"step{rank}").write_text(str(step))
    time.sleep(0.05)
    return Batch(["key"], torch.ones(1, 3, 2, 2), [], [], None, {}, None)

class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, batch, noise):
        said = self.layer(batch.lr.mean((2, 3)))
        (folder / f"type{rank}").write_text(str(said.dtype))
        return {"square": said.float().square().mean()}

    def trainable(self):
        return {"layer": self.layer}

loop.save_state = slowly if "--slow" in sys.argv else save
spec = TrainSpec(steps=steps, global_batch=2, lr=0.01, warmup_steps=1, precision="fp32", save_every=2)
try:
    loop.train(Line(), batches, spec, 5, state, folder / f"losses{rank}.csv")
except SystemExit:
    (folder / f"left{rank}").write_text(str(any(state.glob("step-*"))))
    raise
except loop.UserError as error:
    os.write(1, f"ERROR {error}\\n".encode())  # at once, since both processes say it into one pipe
    sys.exit(3)
"""


def launch(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    python = warm.python()
    command = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python", python]
    return subprocess.Popen(
        [*command, str(program), str(folder), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(300)
def test_asked_to_stop_the_others_wait_until_the_state_is_saved(tmp_path):
    running = launch(tmp_path, "100000", "--slow", ACCELERATE_MIXED_PRECISION="bf16")
    while not (tmp_path / "step0").exists() or int((tmp_path / "step0").read_text() or 0) < 1:
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    said = running.communicate()[0]
    assert [(tmp_path / f"left{rank}").read_text() for rank in (0, 1)] == ["True", "True"], said
    # `accelerate launch` and its file may ask for another precision than params.yaml
    assert {(tmp_path / f"type{rank}").read_text() for rank in (0, 1)} == {"torch.float32"}


@pytest.mark.timeout(300)
def test_processes_that_do_not_share_the_state_are_refused(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    first = [warm.python(), str(tmp_path / "program.py"), str(tmp_path), "4"]
    subprocess.run(first, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    (tmp_path / "state").rename(tmp_path / "state0")  # the second machine has an empty folder
    apart = launch(tmp_path, "6", "--apart")
    said = apart.communicate()[0]
    assert apart.returncode != 0
    assert "ERROR The processes would resume at different steps" in said
    assert "process 0 on" in said and "step 4" in said and "step 0" in said


@pytest.mark.parametrize(("gradients", "hook"), [("fp32", "no"), ("bf16", "bf16")])
def test_gradients_are_exchanged_in_place_and_as_params_say(gradients, hook):
    from spasemsr.training.loop import _accelerator
    from spasemsr.training.spec import TrainSpec

    handler = _accelerator(TrainSpec(gradients=gradients)).ddp_handler
    assert handler.gradient_as_bucket_view and handler.comm_hook.value == hook
