"""The controls of one object on the page: a click chooses or draws it, beside the picture it is named and dialled.

What they do to the table happens in the browser, see `objects.js`; the server draws the picture, the latest last.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from spasemsr.serving.session import Refusal, Row, Session

if TYPE_CHECKING:
    from gradio.components import Component

_DOES = [("chooses an object", "choose"), ("draws a box: two corners", "draw")]
_HOW = [("as the rest", "rest"), ("its own", "own"), ("left out", "out")]


@cache
def script() -> str:
    """The functions of the page's events, as an element of its head."""
    return f"<script>{files(__package__).joinpath('objects.js').read_text('utf-8')}</script>"


def untouched() -> dict[str, Any]:
    """What clicks left behind before there is one, see `objects.js`."""
    return {"chosen": None, "corner": None, "place": None, "of": 0, "edition": 0}


def object_controls(session: Session, file: "Component", marked: "Component", table: "Component") -> list["Component"]:
    """The controls, where the page stands, and what they do; returns those that `shown_controls` has the values of.

    `file` holds the photograph, `marked` shows it with its objects, and `table` lists them.
    """
    import gradio as gr

    does = gr.Radio(_DOES, value="choose", label="A click in the picture", elem_id="does")
    held, amiss = gr.JSON(untouched(), visible=False), gr.Markdown(elem_id="amiss")
    with gr.Row():
        name = gr.Textbox(
            label="The chosen object (Enter renames it)",
            placeholder="Click an object in the picture first.",
            max_length=512,
            elem_id="name",
        )
        how = gr.Radio(_HOW, value="rest", label="Its strength", elem_id="how")
        own = gr.Slider(0, 1, 0.5, step=0.05, label="Faithful to sharp", visible=False, elem_id="own")
        remove = gr.Button("Remove it", elem_id="remove")

    def drawn(path: str | None, rows: list[Row], held: dict[str, Any]) -> tuple[Any, str]:
        if path is None or not held["edition"]:
            return None, ""
        try:
            return session.mark(path, rows, held["chosen"], held["corner"]), ""
        except Refusal as refusal:  # Gradio forgets what waits behind an event that fails: this one does not fail
            return gr.skip(), str(refusal)

    controls = [held, name, how, own]
    for listen, does_it, asked in (
        (marked.select, "clicked", [does]),
        (table.input, "typed", []),
        (name.submit, "renamed", [name]),
        (how.input, "dialled", [how, own]),
        (own.release, "dialled", [how, own]),
        (remove.click, "removed", []),
    ):
        listen(None, [table, held, *asked], [table, *controls], js=f"objects.{does_it}")
    # One at a time, and what came meanwhile after it. Not in the queue: Gradio's browser side closes the stream of a
    # queue with its last answer, and what is asked for at that moment (Restore, say) ends as a broken connection.
    held.change(
        drawn, [file, table, held], [marked, amiss], trigger_mode="always_last", queue=False, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    return controls


def shown_controls() -> tuple[Any, ...]:
    """The controls' values before anything was clicked."""
    import gradio as gr

    return untouched(), "", "rest", gr.Slider(value=0.5, visible=False)
