"""From the start of each process to the first line that says what it does: `python benchmarks/startup.py`.

Run it in a project whose `dvc repro` is up to date: nothing is computed, so what is left is reading arguments and
params, importing, hashing weights and naming samples. Stages of methods are ended at that line, the others run through
and so are timed as `dvc repro -f` would find them. `check` and commands that must refuse are timed to their end.
Each command runs once before it is timed, so that the disk's cache is warm for all alike; processor time is counted
too, because other work on the machine stretches the clock.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLUMNS = ("ingest", "synthesize", "restore", "ground", "caption", "latents")
OF_METHODS = ("features", "train", "evaluate", "dial")
WHOLE = (["--help"], ["check"], ["upscale", "no-such-picture.jpg", "-o", "out"], ["train", "no-such-method"])


def timed(command: list[str], until: str) -> tuple[float, float, str]:
    """Seconds by the clock and of the processor until a line that begins with `until` ("": the end), and that line."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        last = line.strip() or last
        if until and line.startswith(until):
            break
    seconds = time.monotonic() - start
    if until:
        process.kill()
    process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds if until else time.monotonic() - start, used, last


def report(command: list[str], until: str, shown: list[str]) -> float:
    """Time a command, the second of two runs, and print a row; seconds by the clock."""
    timed(command, until)
    seconds, used, line = timed(command, until)
    print(f"{seconds:7.2f} {used:7.2f}  {' '.join(shown):<38} {line[:70]}", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["spasemsr"])
    chosen = parser.parse_args()
    os.environ["PYTHONUNBUFFERED"] = "1"
    print("  clock    cpu  seconds")
    stages = [[name] for name in COLUMNS]
    stages += [[stage, method] for method in chosen.methods for stage in OF_METHODS]
    total = sum(report(stage, stage[0], stage) for stage in [*stages, ["report"]])
    print(f"{total:7.2f}          all stages, to their first line")
    with tempfile.TemporaryDirectory() as folder:
        for command in WHOLE:
            report([str(Path(folder) / "out") if word == "out" else word for word in command], "", command)


if __name__ == "__main__":
    main()
