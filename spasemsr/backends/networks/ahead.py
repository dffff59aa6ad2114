"""What a network is fed, computed before its turn: resizing on the CPU takes as long as the network on a GPU.

Reading lanes call `prepare`, the computing thread `take`; an image that nobody prepared is computed when it is taken.
"""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_HELD = 32  # images: three lanes of batches, and more than one pass over each


class Ahead(Generic[T]):
    """Remembers `compute(image)` of the last images, by the image object itself."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self._turn = compute, threading.Lock()
        self._held: dict[int, tuple[Any, T]] = {}  # the image is held too, so that no id is used twice

    def prepare(self, image: Any) -> T:
        """`compute(image)`, remembered for `take`; the threads that prepare call it."""
        computed = self._compute(image)
        with self._turn:
            self._held[id(image)] = image, computed
            while len(self._held) > _HELD:
                del self._held[next(iter(self._held))]
        return computed

    def take(self, image: Any) -> T:
        """What was computed of this image, else compute it now."""
        with self._turn:
            found = self._held.get(id(image))
        return found[1] if found is not None else self.prepare(image)
