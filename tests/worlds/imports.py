"""What commands have imported by the time they say their first words, or end: in a process that nothing else uses."""

import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "torchvision", "transformers", "diffusers", "accelerate", "pyiqa", "basicsr", "spandrel")
HEAVY += ("segment_anything", "skimage", "sklearn", "matplotlib", "gradio", "ray", "scipy.stats", "webdataset")

_SCRIPT = """
import logging, os, sys

class Words(logging.Handler):
    def emit(self, record):
        print("said", record.getMessage(), flush=True)
        if {first}:
            raise SystemExit("heard")

logging.basicConfig(level=logging.INFO, handlers=[Words()])
from pipeline.cli import main
for arguments in {commands!r}:
    sys.argv = ["spasemsr", *arguments]
    try:
        main()
    except SystemExit as error:
        print("status", error.code or 0)
    sys.stderr.flush()
    print("\\nimported", *[name for name in {heavy!r} if name in sys.modules], flush=True)
os._exit(0)
"""


def run(commands: list[list[str]], folder: Path, first: bool = True, **environment: str) -> list[tuple[str, set[str]]]:
    """What each command printed, and which of HEAVY were imported by its first logged line (else by its end).

    One process runs them one after the other: what one imports counts for those after it too.
    """
    script = _SCRIPT.format(heavy=HEAVY, commands=commands, first=first)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    printed, *ends = done.stdout.split("\nimported")
    results = []
    for end in ends:
        imported, _, following = end.partition("\n")
        results.append((printed, set(imported.split())))
        printed = following
    assert len(results) == len(commands), done.stdout
    return results
