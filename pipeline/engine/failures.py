"""What an executor passes items to, wherever it runs: a handler that answers with `Failed` instead of raising.

A failure has to travel between processes and machines, where exceptions with their tracebacks cannot.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from spasemsr.determinism import pin_threads
from spasemsr.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
AFTER_DEATH = "Finished samples are kept: run the stage again, with fewer workers if memory is short."


@dataclass(frozen=True)
class Failed:
    """An item that was not finished: `kind` is an exception's class, or "killed" for a worker that died."""

    kind: str
    what: str
    remedy: str = ""
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failed":
        """An exception in a form that any process can read."""
        if isinstance(error, UserError):
            return cls("UserError", error.what, error.remedy)
        trace = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, str(error).strip() or type(error).__name__, trace=trace)


def guarded(make: Callable[[], Callable[[T], R]]) -> Callable[[T], R | Failed]:
    """A handler that returns `Failed` where `make`'s raises; if `make` itself raises, every item fails with that."""
    try:
        handler = make()
        pin_threads()
    except Exception as error:
        failure = Failed.of(error)
        return lambda item: failure

    def attempt(item: T) -> R | Failed:
        try:
            return handler(item)
        except Exception as error:
            return Failed.of(error)

    return attempt
