"""SpaSemSR: spatial-semantic guided diffusion super-resolution, from photographs to shards to a trained model.

What users import stands here. This file is above every room of the package; none of them imports a name from it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spasemsr.upscaling.upscaler import Upscaler

    __version__: str

__all__ = ["Upscaler", "__version__"]


def __getattr__(name: str) -> Any:
    """Found when it is asked for: `Upscaler` needs torch, and `import spasemsr.errors` must not."""
    if name == "Upscaler":
        from spasemsr.upscaling.upscaler import Upscaler

        return Upscaler
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
