"""What a command has imported by the time it says its first words: in a process of its own, which ends there."""

import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "torchvision", "transformers", "diffusers", "accelerate", "pyiqa", "basicsr", "spandrel")
HEAVY += ("segment_anything", "skimage", "sklearn", "matplotlib", "gradio", "ray", "scipy.stats", "webdataset")

_SCRIPT = """
import logging, os, sys

def end():
    print("\\nimported", *[name for name in {heavy!r} if name in sys.modules], flush=True)
    os._exit(0)

class Words(logging.Handler):
    def emit(self, record):
        print("said", record.getMessage(), flush=True)
        if {first}:
            end()

logging.basicConfig(level=logging.INFO, handlers=[Words()])
sys.argv = ["spasemsr", *{arguments!r}]
from pipeline.cli import main
try:
    main()
except SystemExit as error:
    print("status", error.code or 0)
end()
"""


def run(arguments: list[str], folder: Path, first: bool = True, **environment: str) -> tuple[str, set[str]]:
    """What a command printed, and which of HEAVY it has imported, at its first logged line (else at its end)."""
    script = _SCRIPT.format(heavy=HEAVY, arguments=arguments, first=first)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    printed, _, imported = (done.stdout + done.stderr).rpartition("\nimported")
    imported = imported.partition("\n")[0]
    return printed + done.stderr, set(imported.split())
