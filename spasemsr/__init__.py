"""SpaSemSR: spatial-semantic guided diffusion super-resolution, from photographs to shards to a trained model."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__"]


def __getattr__(name: str) -> Any:
    """`Upscaler`, imported when it is asked for: it needs torch, which nothing else at this level does."""
    if name == "Upscaler":
        return import_module("spasemsr.upscaling.upscaler").Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
