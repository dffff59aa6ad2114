"""mypy finds nothing in either package; what it checks is set in `pyproject.toml`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_types():
    command = [sys.executable, "-m", "mypy", "--no-error-summary"]  # its cache, .mypy_cache, makes a second run quick
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, f"\n{result.stdout}{result.stderr}"
