"""The preview on the page: one piece of the photograph by several ways and strengths, side by side.

A click into the photograph says which piece; before one it is that with most detail.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spasemsr.serving.answers import at_once, reporting, shown_errors
from spasemsr.serving.session import Asked, Session
from spasemsr.upscaling.settings import Settings

if TYPE_CHECKING:
    from gradio.components import Component


def preview_button() -> "Component":
    """The button, where the page stands."""
    import gradio as gr

    return gr.Button("Preview", elem_id="preview")


def preview_sheet(session: Session, button: "Component", asked: Sequence["Component"]) -> tuple["Component", Any]:
    """The sheet, where the page stands, and the event that fills it.

    `asked` are photograph, table, caption, seed, whether text is safe, method, and what clicks left behind.
    """
    import gradio as gr

    gr.Markdown("*Preview* compares ways on one piece: where you last clicked, or else where most detail is.")
    sheet = gr.Image(
        label="One piece, several ways",
        show_label=False,  # it would lie over the sheet
        visible=False,
        interactive=False,
        format="png",
        buttons=["fullscreen"],
        elem_id="sheet",
    )

    def compared(
        path: str | None,
        rows: list[list[Any]],
        text: str,
        number: float,
        written: bool,
        method: str,
        held: dict[str, Any],
        turn: int,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio knows that the function reports)
    ) -> Any:
        if path is None:
            raise gr.Error("Upload a photograph first.", print_exception=False)
        settings = Settings(seed=int(number or 0), text="safe" if written else "free")
        report, visitor = reporting(progress, "Comparing", "ways"), request.session_hash or ""
        at = (held["place"][0] / 100, held["place"][1] / 100) if held["place"] else None
        with shown_errors():
            pixels = session.compare(Asked(path, rows, text, settings, visitor, method, turn), report, at)
        return gr.Image(value=pixels, visible=True)

    begun, turn = at_once(button.click, session)
    return sheet, begun.then(compared, [*asked, turn], sheet, api_visibility="private")
