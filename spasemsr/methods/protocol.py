"""What the trainer knows of a network, and what everything that restores pictures knows of a method.

`Trainable` is for whatever only learns (a restorer, a student of a frozen teacher), `Method` for what also restores.
Both are modules. What callers vary (sampling, threads, progress) is an argument of `restore`: nobody changes a method
to use it. Shapes: B batch, H W pixels of the output, u v pixels of lr, f pixels of a latent cell's side.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from spasemsr.data.dataset import Batch, Objects
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.diffusion.tiling import Tile, TileMap
from spasemsr.methods.noise import Noise

Called = Callable[[], None]  # called after every call of the network; may raise to stop
Boxes = Sequence[tuple[int, int, int, int]]  # left, top, right and bottom in pixels of the result


class Addition(nn.Module):
    """A part that can be added to a trained network: weights without it load, and `silence` makes it change nothing."""

    @abstractmethod
    def silence(self) -> None:
        """Set the parameters so that a network with this part computes what the same without it does."""


class Trainable(nn.Module):
    """A network and its losses; `columns` are what training joins."""

    columns: frozenset[str]

    @abstractmethod
    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Named scalar losses with their weights applied; the trainer minimises their sum."""

    @abstractmethod
    def trainable(self) -> dict[str, nn.Module]:
        """What is optimized and saved, under stable names; empty for a baseline."""

    def set_engine(self, *, checkpointing: bool, compiled: bool) -> None:
        """How the network computes in training: activations again in backward, compiled; never what it computes.

        What has no such choice leaves this as it is.
        """


@dataclass(frozen=True)
class Grid:
    """Sizes that memory is planned by: channels of a latent, f, and channels of the network's first level.

    `learned` says whether latents are made by a network, which takes memory of its own.
    """

    channels: int
    cell: int
    width: int
    learned: bool


class Method(Trainable):
    """A super-resolution method; `restore_columns` are what `restore` reads of a sample.

    `conditions` are what its results follow besides the picture: `tags`, `boxes`, `caption`, `maps` (of labels, edges,
    depth), `soft` (a recogniser's representation). `condition_features` names the features that the last two consist
    of. `constraints` names what of hr a loss of its own holds parts of the network to, and the features of hr, beside
    its latents, that each is compared with. `object_rows` are the keys that each object has in `attentions`.
    """

    restore_columns: frozenset[str]
    conditions: frozenset[str] = frozenset()
    condition_features: Mapping[str, tuple[str, ...]] = {}
    constraints: Mapping[str, tuple[str, ...]] = {}
    object_rows: int = 0
    adds_to_restored: bool = False  # whether its result is the restorer's image and something beside
    grid: Grid
    num_train_timesteps: int  # of its diffusion, T

    @abstractmethod
    def restore(
        self,
        batch: Batch,
        noise: Noise,
        sampling: SampleSpec,
        run_tiles: TileMap = map,
        called: Called | None = None,
        boxes: Boxes | None = None,
    ) -> Tensor:
        """lr (B, 3, u, v) -> (B, 3, H, W) in [0, 1].

        `run_tiles` works through the tiles of one step: `map`, or that of a thread pool. Neither it nor `called`, which
        threads call too, changes a bit. With `boxes`, pixels outside of them need not be restored.
        """

    @abstractmethod
    def calls(self, height: int, width: int, sampling: SampleSpec) -> int:
        """How often `restore` calls the network for lr of height x width pixels."""

    def attentions(self) -> dict[str, nn.Module]:
        """By layer, the cross-attentions whose keys are `object_rows` rows for no object, then for each object."""
        return {}

    def selected(self, objects: Objects) -> Objects:
        """Those of a picture's objects that have keys in `attentions`, in the order of these."""
        return objects

    def seeing(self, batch: Batch, shown_B3HW: Tensor) -> Batch:
        """The batch with the features of another picture, as if the network were shown that, in [0, 1]."""
        return batch

    def read_off(
        self, batch: Batch, hr_B3HW: Tensor, noise: Noise, sampling: SampleSpec
    ) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """By name of `constraints`, layer by layer, what the network says of hr and what hr is, (B, ., h_i, w_i) twice.

        At the last timestep, where sampling starts and latents show next to nothing of hr. `batch` holds what `restore`
        reads, and those features of hr, (B, 3, H, W) in [0, 1], that `constraints` names.
        """
        return {}

    @abstractmethod
    def in_tile(self, batch: Batch, tile: Tile, height: float, width: float) -> Batch:
        """The batch as a tile of its picture (height x width cells) sees it: annotations, not pixels."""
