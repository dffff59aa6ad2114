"""Builders of small worlds: photographs, projects, networks, checkpoints, reports."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
