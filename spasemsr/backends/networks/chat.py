"""A vision language model behind an endpoint that speaks OpenAI's chat protocol, as vLLM and SGLang serve it.

The engine runs in its own environment, on its own GPUs, and batches requests by itself; this side sends the images of a
batch at once and waits. Nothing is sampled (temperature 0). What may pass by itself (no connection, 429, 5xx, an answer
cut short) is tried again a limited number of times with growing pauses; everything else is an error that says what the
server said. Engine, version and model are part of the identity, so another engine's answers are never mixed in.
"""

import base64
import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8

log = logging.getLogger(__name__)

KEY = "SPASEMSR_ENDPOINT_KEY"  # sent as a bearer token where it is set; a secret is no param
ATTEMPTS = 6
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the second to the last attempt
_LONGEST_PAUSE = 60.0  # of what a server may ask for in Retry-After
_TIMEOUT = 300.0  # seconds for one answer: an engine with a full queue is slow, not broken
_AT_ONCE = 64
_LOCAL = ("localhost", "127.0.0.1", "::1")
# Where engines say who they are: path below the server's root, engine, key of the version.
_ENGINES = (("version", "vllm", "version"), ("get_server_info", "sglang", "version"))


class _TryAgain(Exception):
    """A failure that may pass by itself, and the pause the server asked for (0: none)."""

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause


class ChatEndpoint:
    """Images and a question -> raw answers from one served model."""

    def __init__(
        self, endpoint: str, model: str, max_new_tokens: int, wait: Callable[[float], object] = time.sleep
    ) -> None:
        """`endpoint` is the server's root or its `/v1`. UserError if it is not there or lacks the model."""
        self._root = endpoint.rstrip("/").removesuffix("/v1")
        self._model, self._max_new_tokens, self._wait = model, max_new_tokens, wait
        # A proxy of the environment is for the web; a server of this machine is not behind it.
        local = urlsplit(self._root).hostname in _LOCAL
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
        self.revision = f"{self._engine()} {self._served()}"  # what answers: engine, version and model

    def ask(self, images: Sequence[ImageU8], question: str) -> list[str]:
        """(H, W, 3) u8 images -> one answer each, in order. Raises UserError when the server gives none."""
        with ThreadPoolExecutor(min(len(images), _AT_ONCE)) as pool:
            return list(pool.map(lambda image: self._answer(image, question), images))

    def _answer(self, image: ImageU8, question: str) -> str:
        request = {
            "model": self._model,
            "temperature": 0,
            "seed": 0,
            "max_tokens": self._max_new_tokens,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": _data_url(image)}},
                        {"type": "text", "text": question},
                    ],
                }
            ],
        }
        reply = self._call("v1/chat/completions", request)
        if (model := reply.get("model")) != self._model:
            raise UserError(
                f"{self._root} answered with model {model!r}, not {self._model!r}.",
                "Serve the model that params.yaml names as `source`, or name the one that is served.",
            )
        try:
            answer = reply["choices"][0]["message"]["content"]
        except (LookupError, TypeError):
            answer = None
        if not isinstance(answer, str):
            raise UserError(
                f"{self._root} sent no answer: {json.dumps(reply)[:200]}",
                "The endpoint must speak OpenAI's chat completions with images; see docs/llava-endpoint.md.",
            )
        return answer

    def _served(self) -> str:
        """The model of this name among those served, with its `root`, the weights it was started from."""
        reply = self._call("v1/models")
        models = {item.get("id"): item for item in reply.get("data", []) if isinstance(item, dict)}
        if self._model not in models:
            raise UserError(
                f"{self._root} serves {', '.join(map(str, models)) or 'no model'}, not {self._model!r}.",
                "Serve the model that params.yaml names as `source`, or name the one that is served.",
            )
        root = models[self._model].get("root")
        return self._model if root in (None, self._model) else f"{self._model} ({root})"

    def _engine(self) -> str:
        """Name and version of the engine, from the first page that states them."""
        for path, engine, key in _ENGINES:
            try:
                reply = self._once(path, None)
            except (_TryAgain, UserError):
                continue
            if isinstance(version := reply.get(key), str):
                return f"{engine} {version}"
        self._call("v1/models")  # says why, if the server is not there at all
        return "unknown engine"

    def _call(self, path: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """The parsed reply; what may pass is tried `ATTEMPTS` times."""
        for attempt in range(ATTEMPTS):
            try:
                return self._once(path, request)
            except _TryAgain as failure:
                last = failure
                if attempt + 1 < ATTEMPTS:
                    pause = min(failure.pause or _PAUSES[attempt], _LONGEST_PAUSE)
                    log.info("endpoint  %s: %s; again in %.3g s", self._root, failure, pause)
                    self._wait(pause)
        raise UserError(
            f"{self._root}/{path} failed {ATTEMPTS} times, the last time with: {last}",
            "Is the engine running and reachable from here? Finished samples are kept: run the stage again.",
        )

    def _once(self, path: str, request: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        data = None if request is None else json.dumps(request).encode()
        try:
            with self._opener.open(
                urllib.request.Request(f"{self._root}/{path}", data, headers), None, _TIMEOUT
            ) as body:
                reply = json.loads(body.read())
        except urllib.error.HTTPError as error:
            said = error.read(500).decode(errors="replace").strip()
            if error.code == 429 or error.code >= 500:
                raise _TryAgain(
                    f"status {error.code} {said[:80]}", _seconds(error.headers.get("Retry-After"))
                ) from None
            raise UserError(
                f"{self._root}/{path} refuses with status {error.code}: {said}",
                f"Correct `endpoint`, `source` or `question` in params.yaml, or set {KEY}.",
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: JSON that ends too soon
            raise _TryAgain(f"{type(error).__name__}: {error}") from None
        if not isinstance(reply, dict):
            raise _TryAgain("a reply that is no object")
        return reply


def _data_url(image: ImageU8) -> str:
    import cv2

    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _seconds(text: str | None) -> float:
    """Retry-After in seconds; dates and nonsense are left to our own pauses."""
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        return 0.0
