"""`python -m pipeline STAGE`: what `dvc repro` runs, taken from the folder one stands in."""

from pipeline.cli import main

main()
