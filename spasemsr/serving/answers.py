"""What every action of the page needs around it: failures as Gradio shows them, and the bar that shows progress."""

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spasemsr.serving.session import Refusal, Session


@contextmanager
def shown_errors() -> Iterator[None]:
    """Turn a Refusal into the message Gradio shows."""
    import gradio

    try:
        yield
    except Refusal as refusal:
        raise gradio.Error(str(refusal), print_exception=False) from None


def at_once(click: Callable[..., Any], session: Session) -> tuple[Any, Any]:
    """The event of a click, before its work comes up in the queue, and the turn it gets: a later stop is of that."""
    import gradio

    turn = gradio.State(0)
    return click(session.begin, None, turn, queue=False, show_progress="hidden", api_visibility="private"), turn


def reporting(progress: Any, doing: str, unit: str) -> Callable[[int, int], None]:
    """A function of how many `unit` of how many are done, which moves Gradio's bar, from any thread."""
    context = contextvars.copy_context()  # tiles are worked on in threads, which do not know the visitor

    def report(done: int, total: int) -> None:
        context.copy().run(progress, (done, total), desc=doing, unit=unit)

    return report
