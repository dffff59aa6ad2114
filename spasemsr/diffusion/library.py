"""The classes of diffusers that layers here are made of, imported in half the time: without what its pipelines need.

diffusers looks which packages are installed and imports them beside its models: transformers, torchvision and scipy
take 2.6 of 5.6 seconds, and nothing here uses a pipeline, a quantized checkpoint or a LoRA, which need them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Attention", "ResnetBlock2D", "Transformer2DModel"]

_ONLY_PIPELINES = ("transformers", "torchvision", "scipy")


@contextmanager
def _hidden(packages: tuple[str, ...]) -> Iterator[None]:
    """Inside, those of these packages that are not imported yet cannot be found."""
    names = [name for name in packages if name not in sys.modules]
    try:
        for name in names:
            sys.modules[name] = None  # type: ignore[assignment]  # the import system's own mark of what is not there
        yield
    finally:
        for name in names:
            del sys.modules[name]


with _hidden(_ONLY_PIPELINES):
    from diffusers import Transformer2DModel
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D
