"""The page: upload, see and edit the model's conditions, restore, compare, download. Gradio draws it.

It is bound to this machine unless asked otherwise, needs no network and reports to nobody: system fonts, no analytics,
and a content security policy that forbids the browser to ask anybody else.
"""

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Literal

from spasemsr.errors import UserError
from spasemsr.images.formats import READ, SUFFIXES
from spasemsr.serving.answers import at_once, reporting, shown_errors
from spasemsr.serving.controls import object_controls, script, shown_controls
from spasemsr.serving.preview import preview_button, preview_sheet
from spasemsr.serving.session import Asked, Session
from spasemsr.upscaling.settings import Settings

if TYPE_CHECKING:
    from gradio import Blocks

log = logging.getLogger(__name__)

HEADERS = ["object", "left %", "top %", "right %", "bottom %", "own strength"]
WAITING = 8  # visitors in the queue; one picture is restored at a time
MAX_BYTES = 100_000_000
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'"
)
_INTRODUCTION = """# SpaSemSR
Upload a degraded photograph. What is seen in it, and where, is listed below it: correct that, the model believes it."""


def serve_forever(session: Session, host: str, port: int) -> None:
    """Serve until Ctrl-C; port 0 takes a free one. Raises UserError if the port is taken or Gradio is missing."""
    page, address = start(session, host, port)
    log.info("page      %s (Ctrl-C ends it)", address)
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        log.info("page      closed")
    finally:
        page.close()


def start(session: Session, host: str, port: int) -> tuple["Blocks", str]:
    """Serve in the background; returns the page, to close it, and its address."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    _ask_ourselves_directly(host)
    try:
        import gradio
    except ImportError:
        raise UserError("Gradio is not installed.", "Install the extra: pip install 'spasemsr[serve]'") from None
    from starlette.middleware import Middleware

    page = build_page(session)
    page.queue(max_size=WAITING, default_concurrency_limit=1)
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port or None,
            share=False,
            quiet=True,
            show_error=True,
            max_file_size=MAX_BYTES,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=[],
            head=script(),
            theme=gradio.themes.Base(font=sans, font_mono=mono),
            app_kwargs={"middleware": [Middleware(_Policy)]},
        )
    except OSError as error:
        raise UserError(f"The page cannot be served on {host}:{port}: {error}", "Take another --port.") from None
    return page, address


def _ask_ourselves_directly(host: str) -> None:
    """Keep what the page asks of itself (whether it is up, its own queue) from going through a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1", host]))


def build_page(session: Session) -> "Blocks":
    """Components and what happens between them."""
    import gradio as gr

    with gr.Blocks(title="SpaSemSR", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column():
                limit = f"{READ}, up to {session.max_pixels / 1e6:g} million pixels"
                file = gr.File(
                    label=f"Photograph ({limit})", file_types=sorted(SUFFIXES), type="filepath", elem_id="photograph"
                )
                marked = gr.Image(
                    label="The model's conditions",
                    show_label=False,
                    interactive=False,
                    format="png",
                    buttons=[],
                    elem_id="marked",
                )
                table = gr.Dataframe(
                    headers=HEADERS,
                    datatype=["str", *["number"] * 4, "str"],
                    column_count=6,
                    type="array",
                    interactive=True,
                    label="Objects, the surest first (no name removes one; strength 0 faithful to 1 sharp, or off)",
                    elem_id="objects",
                    render=False,
                )
                controls = object_controls(session, file, marked, table)
                table.render()
                caption = gr.Textbox(label="How the photograph is degraded", max_length=512, elem_id="caption")
            with gr.Column():
                slider = gr.ImageSlider(
                    label="Before and after", interactive=False, format="png", buttons=["fullscreen"], elem_id="result"
                )
                summary = gr.Markdown(elem_id="summary")
                shown = session.choices or [""]
                chosen = gr.Dropdown(shown, value=shown[0], label="Method", visible=len(shown) > 1, elem_id="method")
                with gr.Row():
                    scale = gr.Radio([2, 3, 4], value=4, label="Enlarge")
                    dial = gr.Slider(0, 1, 0.5, step=0.05, label="Faithful to sharp", elem_id="dial")
                    seed = gr.Number(0, precision=0, minimum=0, label="Seed", elem_id="seed")
                safe = gr.Checkbox(True, label="What is written stays as faithful as it can", elem_id="text")
                with gr.Row():
                    preview = preview_button()
                    restore = gr.Button("Restore", variant="primary", elem_id="restore")
                    stop = gr.Button("Stop", variant="stop", elem_id="stop")
                    download = gr.DownloadButton("Download", interactive=False, elem_id="download")
                compared = [file, table, caption, seed, safe, chosen, controls[0]]
                sheet, comparing = preview_sheet(session, preview, compared)
        seen = gr.JSON(visible=False)

        def emptied(request: gr.Request) -> tuple[Any, ...]:
            session.stop(request.session_hash or "")
            none = gr.DownloadButton(value=None, interactive=False)
            return [], "", None, "", none, gr.Image(value=None, visible=False), *shown_controls()

        def looked(path: str | None, method: str) -> Any:
            with shown_errors():
                rows, text = session.look(path, method) if path else ([], "")
            return {"path": path, "rows": rows, "text": text}

        def restored(
            path: str | None,
            rows: list[list[Any]],
            text: str,
            times: int,
            sharpness: float,
            number: float,
            written: bool,
            method: str,
            turn: int,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio knows that the function reports)
        ) -> tuple[Any, ...]:
            if path is None:
                raise gr.Error("Upload a photograph first.", print_exception=False)
            text_is: Literal["safe", "free"] = "safe" if written else "free"
            settings = Settings(scale=times, dial=sharpness, seed=int(number or 0), text=text_is)
            report, visitor = reporting(progress, "Restoring", "tiles"), request.session_hash or ""
            with shown_errors():
                shown = session.restore(Asked(path, rows, text, settings, visitor, method, turn), report)
            ready = gr.DownloadButton(value=str(shown.file), interactive=True)
            return (shown.before, shown.after), shown.summary, ready

        def stopped(request: gr.Request) -> None:
            session.stop(request.session_hash or "")

        asked = [file, table, caption, scale, dial, seed, safe, chosen]
        begun, turn = at_once(restore.click, session)
        restoring = begun.then(restored, [*asked, turn], [slider, summary, download], api_visibility="private")
        # Another photograph: what is on its way for the one before is not waited for, and nothing of it stays.
        file.change(None, cancels=[comparing, restoring])
        emptying = [table, caption, slider, summary, download, sheet, *controls]
        file.change(
            emptied, None, emptying, queue=False, trigger_mode="multiple", show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        looking = file.change(
            looked, [file, chosen], seen, trigger_mode="multiple", show_progress_on=[marked, table, caption],
            api_visibility="private",
        )  # fmt: skip
        known = [table, controls[0], caption, file, seen]
        looking.success(None, known, [caption, table, *controls], js="objects.seen")
        stop.click(stopped, queue=False, show_progress="hidden", api_visibility="private")
    return page


class _Policy:
    """Sends the content security policy with every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self._app(scope, receive, sending)
