"""The doctor: each finding with what to change, and a tiny step of every kind of network."""

from pathlib import Path

import pytest
import torch

from pipeline.tools import doctor, inventory, tiny_steps
from spasemsr.backends.networks.runtime import DEVICE
from spasemsr.config import load_params
from spasemsr.errors import UserError
from spasemsr.mounts import Mount
from tests.worlds import ROOT


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "data/raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name, place in (("SPASEMSR_CACHE", "cache"), ("SPASEMSR_MODELS", "models"), ("HF_HUB_CACHE", "hub")):
        monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def said(findings) -> dict[str, str]:
    return {finding.what: finding.mark for finding in findings}


def gathered(lines) -> tuple[list[str], str]:
    """What was said, and the refusal at the end."""
    found = []
    try:
        found.extend(lines)
    except UserError as error:
        return found, str(error)
    return found, ""


def test_the_embedded_profile_needs_nothing(folder):
    lines, refusal = gathered(doctor.doctor("embedded"))
    assert refusal == "" and not [line for line in lines if line.startswith("!!")]
    assert any(line.startswith("ok  no network of the paper runs") for line in lines)


def test_a_machine_without_gpu_and_weights_is_told_what_to_change(folder, monkeypatch):
    monkeypatch.delenv(DEVICE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found: list[str] = []
    with pytest.raises(UserError, match=r"\d+ things keep profile foundation from running here"):
        for line in doctor.doctor("foundation"):
            found.append(line)
    text = "\n".join(found)
    assert "!!  sam-vit-h (2.6 GB, Apache-2.0) is not" in text and "spasemsr models fetch sam-vit-h" in text
    assert "--  There are no photographs" in text and "spasemsr plan --samples N" in text
    assert "!!  This model needs a GPU" in text and "SPASEMSR_DEVICE=cpu" in text


@pytest.mark.parametrize("kind", [*tiny_steps.STEPS, tiny_steps.TRAINING])
def test_a_tiny_step_runs_and_a_device_that_computes_otherwise_is_found(kind, monkeypatch):
    assert tiny_steps.run(kind, torch.device("cpu")) < 60
    step = (tiny_steps.STEPS | {tiny_steps.TRAINING: tiny_steps.training})[kind]

    def wrong():
        network, call = step()
        results = iter([call(network, torch.device("cpu"))])
        first = next(results)
        answers = iter([first, 1.1 * first])
        return network, lambda made, device: next(answers)

    monkeypatch.setitem(tiny_steps.STEPS, "wrong", wrong)
    with pytest.raises(ArithmeticError, match="differs from the CPU"):
        tiny_steps.run("wrong", torch.device("cpu"))


def test_every_network_of_the_paper_has_a_tiny_step():
    foundation = load_params(ROOT / "params.yaml").foundation
    listed = foundation.running(("spasemsr", "seesr", "segsr", "megasr"), tuple(foundation.learners))
    assert {spec.kind for spec in doctor._networks(listed)} <= tiny_steps.STEPS.keys()


def test_what_a_driver_raises_is_said_and_counted(folder, monkeypatch):
    def broken(kind, device):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setenv(DEVICE, "cpu")
    monkeypatch.setattr(tiny_steps, "run", broken)
    profile = load_params().foundation
    found = list(doctor._steps_of(profile)())
    assert {finding.mark for finding in found} == {"!!"} and all(finding.remedy for finding in found)
    assert "sam on cpu: RuntimeError: CUDA error: no kernel image is available" in said(found)
    assert len(found) == len(tiny_steps.STEPS) + 1


@pytest.mark.parametrize(
    ("kind", "options", "mark"),
    [
        ("ext4", ("rw",), "ok"), ("ext4", ("ro",), "!!"), ("nfs4", ("rw",), "--"),
        ("nfs4", ("rw", "lookupcache=pos"), "ok"), ("tmpfs", ("rw",), "--"),
    ],
)  # fmt: skip
def test_mount_options_that_matter(folder, monkeypatch, kind, options, mark):
    monkeypatch.setattr(doctor, "mount_of", lambda path: Mount(path, kind, options))
    assert set(said(doctor.mounts()).values()) == {mark}


def test_a_cluster_without_a_token_is_refused(folder, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "first:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert said(doctor.ray())["Ray at first:6379 without a token: anyone who reaches it can run code"] == "!!"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert "!!" in said(doctor.ray()).values()
    (folder / "token").write_text("secret")
    assert said(doctor.ray())["Ray at first:6379, with a token"] == "ok"


def test_a_gpu_that_the_build_does_not_know_is_named(monkeypatch):
    def pretend(major: int, free: int):
        properties = type("P", (), {"name": "NVIDIA X", "major": major, "minor": 0})
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free, 80 * 10**9))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
        return [finding.mark for finding in doctor.devices()]

    assert pretend(8, 79 * 10**9) == ["ok"]
    assert pretend(8, 10 * 10**9) == ["--"]
    assert pretend(6, 79 * 10**9) == ["!!"]


def test_what_a_server_serves_is_not_looked_for_here():
    """docs/llava-endpoint.md: `source` is then the name under which the server has it."""
    profile = load_params(ROOT / "params.yaml").foundation
    served = {"source": "llava-hf/llava-1.5-7b-hf", "endpoint": "http://host:8000"}

    def nowhere(**changes):
        caption = profile.caption.model_copy(update=served | changes)
        return inventory.nowhere(profile.model_copy(update={"caption": caption}))

    assert nowhere(endpoint=None) == [served["source"]] and nowhere() == []
