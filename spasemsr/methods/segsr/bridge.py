"""The dual-modality bridge (SegSR sec. 3.3): labels steer the image's diffusion, the image steers that of the labels.

B batch, K classes, C latent channels, W the label denoiser's width, h w latent cells.

The seg controller turns s_tau into one state for each level of the UNet; ImgAided turns z_t into features for the label
denoiser. Both end in zero convs, so that at the start neither diffusion changes the other.
"""

from collections.abc import Sequence
from itertools import pairwise

from diffusers.models.adapter import AdapterBlock
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from spasemsr.methods.segsr.denoiser import ResidualBlock

BLOCKS = 2  # residual blocks of a level
STEM_BLOCKS = 3


class SegController(nn.Module):
    """s_tau -> C_t, one (B, C_d, h_d, w_d) for each level of the UNet: a T2I-Adapter on class embeddings.

    With SD 2.1-base's channels and embeddings of 16 the levels have 76,862,400 numbers; embedding and zero convs apart.
    """

    def __init__(self, classes: int, embedding: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.embed = nn.Linear(classes, embedding, bias=False)  # of one-hot labels; averages are mixtures
        self.enter = nn.Conv2d(embedding, channels[0], 3, padding=1)
        narrow = (channels[0], *channels[:-1])
        self.levels = nn.ModuleList(
            AdapterBlock(before, after, BLOCKS, down=depth > 0)
            for depth, (before, after) in enumerate(zip(narrow, channels, strict=True))
        )
        self.zero = nn.ModuleList(nn.Conv2d(width, width, 1) for width in channels)
        for conv in self.zero:
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, segments_BKhw: Tensor) -> list[Tensor]:
        """One-hot labels (B, K, h, w) -> what is added to the UNet at the end of each of its levels."""
        hidden = self.enter(self.embed(segments_BKhw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        states = []
        for level, zero in zip(self.levels, self.zero, strict=True):
            hidden = level(hidden)
            states.append(zero(hidden))
        return states


class ImageAid(nn.Module):
    """z_t -> I_t (B, W, h, w): a conv, three residual blocks that know the time, and a last conv of zeros."""

    def __init__(self, channels: int, stem: int, width: int) -> None:
        super().__init__()
        self.width, time = stem, 4 * stem
        self.time = nn.Sequential(nn.Linear(stem, time), nn.GELU(), nn.Linear(time, time))
        self.enter = nn.Conv2d(channels, stem, 3, padding=1)
        widths = (stem, *[width] * STEM_BLOCKS)
        self.blocks = nn.ModuleList(ResidualBlock(before, after, time) for before, after in pairwise(widths))
        self.out = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, latents_BChw: Tensor, timesteps_B: Tensor) -> Tensor:
        """(B, C, h, w) at timesteps (B,) -> (B, W, h, w)."""
        time = self.time(get_timestep_embedding(timesteps_B, self.width, downscale_freq_shift=1).to(latents_BChw.dtype))
        hidden = self.enter(latents_BChw)
        for block in self.blocks:
            hidden = block(hidden, time)
        return self.out(hidden)
