"""The controls of one object on the page: a click chooses or draws it, beside the picture it is named and dialled."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spasemsr.serving import editing
from spasemsr.serving.answers import shown_errors
from spasemsr.serving.editing import AS_THE_REST, HOW, ITS_OWN, Edit, Row
from spasemsr.serving.session import Session

if TYPE_CHECKING:
    from gradio.components import Component

CHOOSES, DRAWS = "chooses an object", "draws a box: two corners"
NONE = "Click an object in the picture first."


def object_controls(session: Session, file: "Component", marked: "Component", table: "Component") -> "list[Component]":
    """The controls, where the page stands, and what they do; returns what `shown_controls` has the values of.

    `file` holds the photograph, `marked` shows it with its objects, and `table` lists them.
    """
    import gradio as gr

    does = gr.Radio([CHOOSES, DRAWS], value=CHOOSES, label="A click in the picture", elem_id="does")
    held = gr.State((None, None))  # of an Edit: chosen, corner
    with gr.Row():
        name = gr.Textbox(label="The chosen object (Enter renames it)", max_length=512, elem_id="name")
        how = gr.Radio(list(HOW), value=AS_THE_REST, label="Its strength", elem_id="how")
        own = gr.Slider(0, 1, 0.5, step=0.05, label="Faithful to sharp", visible=False, elem_id="own")
        remove = gr.Button("Remove it", elem_id="remove")

    def changed(change: Callable[[Edit], Edit], path: str | None, rows: list[Row], was: tuple[Any, Any]) -> Any:
        if path is None:
            return gr.skip()
        edit = change(Edit(rows, *was))
        table = gr.skip() if edit.rows == rows else edit.rows  # somebody may be typing in it
        with shown_errors():
            return session.mark(path, edit), table, *shown_controls(edit)

    def clicked(path: Any, rows: Any, was: Any, doing: str, shown: Any, event: gr.SelectData) -> Any:
        height, width = shown.shape[:2]
        point = 100 * event.index[0] / width, 100 * event.index[1] / height
        act = editing.drawn_at if doing == DRAWS else editing.chosen_at
        return changed(lambda edit: act(edit, point), path, rows, was)

    def chosen_changed(change: Callable[[Edit], Edit], path: Any, rows: Any, was: Any) -> Any:
        if was[0] is None:
            raise gr.Error(NONE, print_exception=False)
        return changed(change, path, rows, was)

    def named(path: Any, rows: Any, was: Any, text: str) -> Any:
        return chosen_changed(lambda edit: editing.renamed(edit, text), path, rows, was)

    def dialled(path: Any, rows: Any, was: Any, way: Any, strength: float) -> Any:
        return chosen_changed(lambda edit: editing.strengthened(edit, way, strength), path, rows, was)

    def gone(path: Any, rows: Any, was: Any) -> Any:
        return chosen_changed(editing.removed, path, rows, was)

    controls = [held, name, how, own]
    given, shown = [file, table, held], [marked, table, *controls]
    for listen, act, asked in (
        (marked.select, clicked, [does, marked]),
        (name.submit, named, [name]),
        (how.input, dialled, [how, own]),
        (own.release, dialled, [how, own]),
        (remove.click, gone, []),
    ):
        listen(act, [*given, *asked], shown, show_progress="hidden", api_visibility="private")
    return controls


def shown_controls(edit: Edit) -> tuple[Any, ...]:
    """The controls' values for the chosen object, or for none."""
    import gradio as gr

    how, strength = edit.strength
    return (edit.chosen, edit.corner), edit.name, how, gr.Slider(value=strength, visible=how == ITS_OWN)
