"""Importing diffusers' layers: what they do not need is left out, and is there for whoever asks afterwards."""

import subprocess
import sys

_IMPORTED = """
import sys
import torch
from spasemsr.diffusion.library import Transformer2DModel
unwanted = ("torch._dynamo", "transformers", "torchvision")
assert not [name for name in unwanted if name in sys.modules]
layer = Transformer2DModel(2, 8, 16, norm_num_groups=4, cross_attention_dim=8)
compiled = torch.compile(lambda x, y: layer(x, encoder_hidden_states=y).sample, backend="eager")
x, y = torch.randn(1, 16, 4, 4), torch.randn(1, 3, 8)
assert torch.allclose(compiled(x, y), layer(x, encoder_hidden_states=y).sample, atol=1e-6)
assert sys.modules["torch._dynamo"].__file__
"""


def test_the_compiler_is_imported_by_whoever_compiles():
    subprocess.run([sys.executable, "-c", _IMPORTED], check=True)
