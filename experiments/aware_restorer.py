"""The weights of `restore: {kind: aware}`: `python experiments/aware_restorer.py PHOTOGRAPHS OUT [--steps N]`.

A plain loop on one core (restorer_loop.py), on crops of the photographs (crops.py). The network starts from the weights
of `restore: {kind: compact}`, so at step 0 it is that.
"""

import crops
import restorer_loop
import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.restorer.aware import SCALE
from spasemsr.backends.restorer.aware_network import AwareNetwork
from spasemsr.backends.restorer.spec import COMPACT
from spasemsr.weights.tensors import read_state_dict

PATCH, BATCH = 56, 6  # lr pixels, patches
RATE, NEW_RATE = 5e-4, 1e-3  # of Adam; for what the old network lacks
WARMUP, EMA, CLIP = 200, 0.999, 1.0


def loss_of(errors_B: Tensor, references_B: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, error relative to bicubic's on the crop).

    Half of the loss is that relative error, which counts patches as the PSNR of a whole picture does; half is the
    logarithm of the patch's own error, without which smooth patches keep their noise.
    """
    relative = (errors_B / (references_B + 5e-5)).mean()
    return (relative + torch.log(errors_B + 2e-5).mean()) / 2, relative


def start_from_compact(network: AwareNetwork) -> None:
    """The trunk of the old network; `skip` makes nearest, its base, out of bicubic."""
    state = read_state_dict(COMPACT)
    network.body.load_state_dict({name.removeprefix("body."): value.float() for name, value in state.items()})
    impulses = torch.zeros(25, 1, 9, 9)
    for i in range(25):
        impulses[i, 0, 2 + i // 5, 2 + i % 5] = 1
    bases = [
        functional.interpolate(impulses, scale_factor=SCALE, mode="nearest"),
        functional.interpolate(impulses, scale_factor=SCALE, mode="bicubic", align_corners=False),
    ]
    centre = (bases[0] - bases[1])[:, 0, 4 * SCALE : 5 * SCALE, 4 * SCALE : 5 * SCALE].reshape(5, 5, SCALE**2)
    with torch.no_grad():
        network.skip.weight.zero_()
        network.skip.bias.zero_()
        for colour in range(3):
            network.skip.weight[colour * SCALE**2 : (colour + 1) * SCALE**2, colour] = centre.permute(2, 0, 1)


def main() -> None:
    """Train and write."""
    chosen = restorer_loop.parser(__doc__, steps=7000, cooldown=5000).parse_args()
    torch.manual_seed(crops.SEED)
    network = AwareNetwork()
    start_from_compact(network)
    old = [value for name, value in network.named_parameters() if name.startswith("body")]
    new = [value for name, value in network.named_parameters() if not name.startswith("body")]
    optimizer = torch.optim.Adam([{"params": old, "lr": RATE}, {"params": new, "lr": NEW_RATE}], betas=(0.9, 0.99))

    def learn(_: int, batch: crops.Batch) -> list[float]:
        restored = network(batch.lr_B3hw, network.modulation(batch.whole_B3hw, batch.measures_BM))
        loss, relative = loss_of(crops.squared(restored - batch.hr_B3HW), batch.references_B)
        restorer_loop.descend(network, optimizer, loss, CLIP)
        return [float(relative.detach())]

    networks = nn.ModuleDict({"network": network})
    restorer_loop.train(chosen, networks, {"network": optimizer}, learn, WARMUP, EMA, PATCH, BATCH)


if __name__ == "__main__":
    main()
