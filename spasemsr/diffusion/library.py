"""The classes of diffusers that layers here are made of, imported without what its pipelines and compiled models need.

diffusers looks which packages are installed and imports them beside its models: transformers, torchvision and scipy
take 2.6 of 5.6 seconds, and nothing here uses a pipeline, a quantized checkpoint or a LoRA, which need them. torch's
compiler, which it imports for two decorators, takes another one; whoever compiles imports it then.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["Attention", "ResnetBlock2D", "Transformer2DModel"]

_ONLY_PIPELINES = ("transformers", "torchvision", "scipy")
_COMPILER = "torch._dynamo"


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


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Inside, torch's compiler, if it is not imported yet, is a module whose two decorators change nothing.

    One marks classes whose construction may be compiled as it is, as diffusers leaves out itself where there is no
    compiler, the other keeps hooks of pipelines from being compiled.
    """
    if _COMPILER in sys.modules:
        yield
        return

    def same(decorated: Any = None, *_: Any, **__: Any) -> Any:
        return decorated if decorated is not None else same

    compiler: Any = ModuleType(_COMPILER)
    compiler.allow_in_graph = compiler.disable = same
    sys.modules[_COMPILER] = compiler
    try:
        yield
    finally:
        del sys.modules[_COMPILER]


with _hidden(_ONLY_PIPELINES), _without_compiler():
    from diffusers import Transformer2DModel
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D
