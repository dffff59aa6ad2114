"""LLaVA behind an endpoint: a real local server that speaks the protocol, and everything that can go wrong with it."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from spasemsr.backends.captioner import build_captioner
from spasemsr.backends.captioner import spec as captioner_spec
from spasemsr.backends.captioner.spec import LlavaCaptionerSpec
from spasemsr.backends.grounding import build_tagger
from spasemsr.backends.grounding.spec import LlavaTaggerSpec
from spasemsr.backends.networks import chat
from spasemsr.backends.networks.chat import ATTEMPTS, ChatEndpoint
from spasemsr.errors import UserError

MODEL = "llava-hf/llava-1.5-7b-hf"
IMAGES = [np.full((8, 12, 3), 40 * k, np.uint8) for k in range(1, 5)]


class Engine(ThreadingHTTPServer):
    """Answers with the mean grey level of the image it was sent; `faults` are used up first, one a request."""

    daemon_threads = True
    faults: list[str]
    version: str | None = "0.11.2"
    model = MODEL
    answer: str | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.requests, self.keys = [], [], []
        self.released = threading.Event()  # what a slow answer waits for
        self.together = threading.Barrier(1)  # requests that must be under way before one is answered

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        if self.path == "/version" and self.server.version:
            self.reply({"version": self.server.version})
        elif self.path == "/v1/models":
            self.reply({"data": [{"id": self.server.model, "root": self.server.model}]})
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.keys.append(self.headers.get("Authorization"))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        self.server.together.wait(10)
        if fault == "drop":
            self.connection.close()
        elif fault == "busy":
            self.send_response(429)
            self.send_header("Retry-After", "7")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault == "slow":
            self.server.released.wait(10)
            self.connection.close()
        elif fault.isdigit():
            self.send_error(int(fault), "no such thing")
        else:
            url = request["messages"][0]["content"][0]["image_url"]["url"]
            pixels = cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
            said = self.server.answer or f"a blurred image of level {int(pixels.mean())}"
            message = {"content": None if fault == "silent" else said}
            reply = {"model": "another" if fault == "model" else request["model"], "choices": [{"message": message}]}
            self.reply(reply, cut=fault == "cut")

    def reply(self, value: object, cut: bool = False) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.connection.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    server = Engine()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def ask(engine: Engine, pauses: list[float] | None = None) -> list[str]:
    waited = pauses if pauses is not None else []
    return ChatEndpoint(engine.url + "/v1", MODEL, 16, wait=waited.append).ask(IMAGES, "How is it?")


EXPECTED = [f"a blurred image of level {40 * k}" for k in range(1, 5)]


def test_answers_come_in_the_order_of_the_images(engine):
    assert ask(engine) == EXPECTED
    assert {request["temperature"] for request in engine.requests} == {0}
    assert {request["max_tokens"] for request in engine.requests} == {16}
    assert {request["messages"][0]["content"][1]["text"] for request in engine.requests} == {"How is it?"}


def test_all_images_of_a_batch_are_under_way_at_once(engine):
    """An engine batches what it has; one at a time would leave it nothing to batch."""
    engine.together = threading.Barrier(len(IMAGES))
    assert ask(engine) == EXPECTED


@pytest.mark.parametrize("fault", ["drop", "cut", "busy", "503"])
def test_what_may_pass_is_tried_again(engine, fault):
    engine.faults = [fault, fault]
    pauses: list[float] = []
    assert ask(engine, pauses) == EXPECTED
    assert len(pauses) == 2 and (set(pauses) == {7.0} if fault == "busy" else min(pauses) > 0)


def test_an_answer_is_waited_for_as_long_as_a_full_queue_takes_and_no_longer(engine, monkeypatch):
    assert chat._TIMEOUT >= 120
    monkeypatch.setattr(chat, "_TIMEOUT", 0.3)
    engine.faults = ["slow"]
    pauses: list[float] = []
    assert ask(engine, pauses) == EXPECTED and len(pauses) == 1


def test_what_does_not_pass_ends_after_a_limited_number_of_attempts(engine):
    engine.faults = ["503"] * 100
    with pytest.raises(UserError, match=rf"failed {ATTEMPTS} times.*status 503"):
        ChatEndpoint(engine.url, MODEL, 16, wait=lambda seconds: None).ask(IMAGES[:1], "?")
    assert len(engine.requests) == ATTEMPTS


@pytest.mark.parametrize(
    ("fault", "message"),
    [("400", "refuses with status 400"), ("model", "answered with model 'another'"), ("silent", "sent no answer")],
)
def test_what_is_wrong_is_said_and_not_tried_again(engine, fault, message):
    engine.faults = [fault]
    with pytest.raises(UserError, match=message):
        ChatEndpoint(engine.url, MODEL, 16).ask(IMAGES[:1], "?")
    assert len(engine.requests) == 1


def test_a_model_that_is_not_served_is_refused_before_any_image(engine):
    engine.model = "something-else"
    with pytest.raises(UserError, match=f"serves something-else, not '{MODEL}'"):
        ChatEndpoint(engine.url, MODEL, 16)


def test_no_server_is_said_with_what_to_do(engine):
    engine.server_close()
    with pytest.raises(UserError, match="failed") as error:
        ChatEndpoint(engine.url, MODEL, 16, wait=lambda seconds: None)
    assert "reachable" in error.value.remedy


def test_engine_version_and_model_are_the_identity(engine):
    spec = LlavaCaptionerSpec(kind="llava", source=MODEL, endpoint=engine.url, question="?")
    one = captioner_spec.identity_of(spec)
    engine.version = "0.12.0"
    other = captioner_spec.identity_of(spec)
    assert one["revision"] == f"vllm 0.11.2 {MODEL}" and other != one
    assert (one["kind"], one["version"], one["precision"]) == ("llava_endpoint", 1, "endpoint")
    engine.version = None
    assert captioner_spec.identity_of(spec)["revision"] == f"unknown engine {MODEL}"


def test_the_key_is_sent_and_a_proxy_is_not_asked_for_this_machine(engine, monkeypatch):
    monkeypatch.setenv("SPASEMSR_ENDPOINT_KEY", "secret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(engine) == EXPECTED
    assert set(engine.keys) == {"Bearer secret"}


def test_captioner_and_tagger_stand_on_it(engine):
    common = {"kind": "llava", "source": MODEL, "endpoint": engine.url, "question": "?"}
    captioner = build_captioner(LlavaCaptionerSpec(**common))
    assert captioner.caption(IMAGES) == EXPECTED
    engine.answer = "Grass, a red car and the sky."
    tagger = build_tagger(LlavaTaggerSpec(**common))
    assert [tag.text for tag in tagger.tag(IMAGES[:1])[0]] == ["grass", "red car", "sky"]


def test_where_the_engine_stands_is_no_part_of_what_it_computes():
    specs = [
        LlavaCaptionerSpec(kind="llava", source=MODEL, question="?", endpoint=endpoint)
        for endpoint in (None, "http://one:8000", "http://two:8000/v1")
    ]
    assert len({json.dumps(spec.content(), sort_keys=True) for spec in specs}) == 1
    with pytest.raises(ValueError, match="endpoint"):
        LlavaCaptionerSpec(kind="llava", source=MODEL, question="?", endpoint="one:8000")
