"""Kills every column stage at seeded moments, again and again, and compares what resuming makes of it with the truth.

    python benchmarks/chaos.py [--rounds 100] [--stages synthesize ground] [--seed 1] [--workers 2]

A small project (a few drawn photographs, the embedded profile) is built once undisturbed. Then, in every round, a
stage's outs and cache entries are deleted, the stage is started as `spasemsr STAGE` starts it and killed with SIGKILL,
in every fourth round its resumed run is killed too, and it is run to its end: every out must equal the undisturbed one,
byte for byte, with nothing left beside it. With one worker a moment is one of the calls and returns (of Python or C)
that our own code makes, so that a kill can fall between any two operations and a seed names it; with more workers it is
a moment of time. Stages run in forks of the process that built the undisturbed outs and so has paid for the imports.
"""

import argparse
import gc
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import yaml

from pipeline import cli
from spasemsr.cache import Cache

ROOT = Path(__file__).parent.parent
LABELS = {  # of the cache entries that a stage makes
    "ingest": ("hr", "ingest verdict"),
    "synthesize": ("lr",),
    "restore": ("restored",),
    "ground": ("objects",),
    "caption": ("caption",),
    "latents": ("latents",),
    "features": ("features/spasemsr",),
}
OUTS = {stage: [f"data/shards/{labels[0]}"] for stage, labels in LABELS.items()}
OUTS["ingest"] += ["data/patches.jsonl", "data/rejects.jsonl"]
OURS = ("pipeline.", "spasemsr.")
REGIONS = {"tagger": {"kind": "palette"}, "detector": {"kind": "components", "min_score": 0.25}}
SMALL = {"packages": [], "max_patches": 1, "val_patch": 192, "val_max_patches": 1, "variants": 2, "num_buckets": 2}


def draw_photographs(folder: Path, count: int) -> None:
    """Pictures with edges and areas."""
    folder.mkdir()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        pixels = np.full((200, 264, 3), rng.integers(40, 200, 3), np.uint8)
        for _ in range(30):
            y, x = rng.integers(0, 190, 2)
            pixels[y : y + rng.integers(8, 60), x : x + rng.integers(8, 60)] = rng.integers(0, 256, 3)
        cv2.imwrite(str(folder / f"{seed}.png"), pixels)


def make_project(folder: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["embedded"]["data"].update(SMALL)
    params["embedded"]["ground"].update(REGIONS)
    params["photographs"] = "photographs"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    draw_photographs(folder / "photographs", 3)


def run(stage: str, workers: int = 1) -> int:
    """`spasemsr STAGE` in this process; its exit status."""
    sys.argv = ["spasemsr", stage, *(["spasemsr"] if stage == "features" else []), "--workers", str(workers)]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def fork(stage: str, workers: int, kill_at: int | None, counted: Path | None = None) -> int:
    """Start `spasemsr STAGE` in a fork; it kills itself at its event `kill_at`, or counts its events."""
    if pid := os.fork():
        return pid
    try:
        log = os.open("stage.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        events, status = itertools.count(1), 0

        def hook(frame: FrameType, *_: object) -> None:
            if frame.f_globals.get("__name__", "").startswith(OURS) and next(events) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        if kill_at is not None or counted is not None:
            threading.setprofile(hook)
            sys.setprofile(hook)
        status = run(stage, workers)
        sys.setprofile(None)
        if counted is not None:
            counted.write_text(str(next(events)))
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def finish(pid: int, stage: str) -> bool:
    """Wait; whether it was killed. Raises SystemExit with its words if it failed."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"{stage} ended with status {status}:\n{Path('stage.log').read_text()}")
    return status != 0


def tree(stage: str) -> dict[str, bytes]:
    paths = [path for out in OUTS[stage] for path in (Path(out), *Path(out).rglob("*"))]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def forget(stage: str) -> None:
    for label in LABELS[stage]:
        Cache().prune(label)
    for out in map(Path, OUTS[stage]):
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)


def torment(stage: str, rounds: int, workers: int, draw: random.Random) -> None:
    """One stage: the undisturbed run, then the rounds. Raises SystemExit at the first difference."""
    truth, kills, resumed = tree(stage), 0, 0
    forget(stage)
    counted = Path("events")
    start = time.perf_counter()
    finish(fork(stage, workers, None, counted if workers == 1 else None), stage)
    length = time.perf_counter() - start
    events = int(counted.read_text()) if workers == 1 else 0

    def strike() -> bool:
        """Start the stage and kill it at a moment; whether it was not over by then."""
        if workers == 1:
            return finish(fork(stage, workers, draw.randint(1, events)), stage)
        pid = fork(stage, workers, None)
        time.sleep(draw.uniform(0, length))
        os.kill(pid, signal.SIGKILL)
        return finish(pid, stage)

    for number in range(rounds):
        forget(stage)
        while not strike():
            forget(stage)
        kills += 1
        if number % 4 == 3:
            kills += strike()
        finish(fork(stage, workers, None), stage)
        found = re.search(r" (\d+) cached", Path("stage.log").read_text())
        resumed += found is not None and found[1] != "0"
        if tree(stage) != truth:
            raise SystemExit(f"{stage}: round {number} ended in other bytes; left in {os.getcwd()}")
        if left := [str(p) for p in Path("data/shards").rglob(".*.tmp")]:
            raise SystemExit(f"{stage}: round {number} left {left}")
    what = f"{events} events" if events else f"{length:.1f} s"
    print(
        f"{stage:<10} {rounds} rounds  {kills} kills within {what}  {resumed} resumed from entries  identical",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--stages", nargs="+", default=list(LABELS), choices=LABELS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    make_project(folder)
    os.environ["SPASEMSR_CACHE"] = str(folder / "cache")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.chdir(folder)
    for stage in LABELS:
        if run(stage):
            raise SystemExit(f"{stage} failed")
    gc.freeze()
    for stage in args.stages:
        torment(stage, args.rounds, args.workers, random.Random(f"{args.seed} {stage}"))
    os.chdir(ROOT)
    shutil.rmtree(folder)
    gc.unfreeze()


if __name__ == "__main__":
    main()
