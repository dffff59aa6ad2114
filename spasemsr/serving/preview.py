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


def preview_sheet(
    session: Session, button: "Component", file: "Component", marked: "Component", asked: Sequence["Component"]
) -> None:
    """The sheet, where the page stands, and what fills it.

    `file` holds the photograph and `marked` shows it; `asked` are table, caption, seed, whether text is safe, method.
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
    place = gr.State(None)  # x and y as shares of the picture, where the person clicked

    def clicked(shown: Any, event: gr.SelectData) -> tuple[float, float]:
        height, width = shown.shape[:2]
        return event.index[0] / width, event.index[1] / height

    def compared(
        path: str | None,
        rows: list[list[Any]],
        text: str,
        number: float,
        written: bool,
        method: str,
        at: tuple[float, float] | None,
        turn: int,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio knows that the function reports)
    ) -> Any:
        if path is None:
            raise gr.Error("Upload a photograph first.", print_exception=False)
        settings = Settings(seed=int(number or 0), text="safe" if written else "free")
        report, visitor = reporting(progress, "Comparing", "ways"), request.session_hash or ""
        with shown_errors():
            pixels = session.compare(Asked(path, rows, text, settings, visitor, method, turn), report, at)
        return gr.Image(value=pixels, visible=True)

    marked.select(clicked, marked, place, show_progress="hidden", api_visibility="private")
    begun, turn = at_once(button.click, session)
    begun.then(compared, [file, *asked, place, turn], sheet, api_visibility="private")
    file.change(
        lambda: (None, gr.Image(value=None, visible=False)), None, [place, sheet], show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
