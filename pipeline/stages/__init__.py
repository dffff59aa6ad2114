"""One file per stage of `dvc.yaml`, named as there. No stage imports another."""
