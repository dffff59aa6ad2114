"""Weights trained with `binding: keys`, to go on from with `binding: bias`: `python experiments/bound.py NANO OUT`.

Weights without strengths load into a network with them silent, so that it restores as before, and then has to learn
them from nothing. Here those of SpaTextAtten start at full strength, as they do where training starts from random
weights: an object's words count in its box alone from the first step on.
"""

import argparse
import json
from pathlib import Path

from spasemsr.methods import method as face_of
from spasemsr.methods.folder import load_init, tensors_of
from spasemsr.methods.spasemsr.binding import RegionBias
from spasemsr.methods.stored import read_model_config
from spasemsr.weights.tensors import save_tensors


def main() -> None:
    """Read the arguments and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder of weights and config.json")
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    config = json.loads((chosen.model / "config.json").read_text())
    config["model"]["spatial"]["binding"] = "bias"
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    described = read_model_config(chosen.out)
    method = face_of(described.method).build(described)
    load_init(chosen.model, method)
    for name, module in method.trainable().items():
        for place, part in module.named_modules():
            if isinstance(part, RegionBias) and "spatext" in f"{name}.{place}":
                part.strength.data.fill_(1.0)
    save_tensors(chosen.out / "weights.safetensors", tensors_of(method.trainable()))


if __name__ == "__main__":
    main()
