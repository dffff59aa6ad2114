"""`spasemsr doctor`: what a person runs first on a GPU machine; each line says what is so, and what to change.

`ok` is in order, `--` is worth knowing, `!!` keeps the profile from running. Unlike `plan` and `check` it computes: the
smallest thing each library of the paper's models does, on the device.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import layout
from pipeline.planning import storage
from pipeline.tools import inventory
from spasemsr.cache import default_root
from spasemsr.config import Params, Profile, ProfileName, load_params
from spasemsr.errors import UserError
from spasemsr.mounts import Mount, mount_of
from spasemsr.spec import WeightsSpec
from spasemsr.weights import store


@dataclass(frozen=True)
class Finding:
    """One line: `ok`, `--` or `!!`, what was found, and what to do about it."""

    mark: str
    what: str
    remedy: str = ""


def doctor(profile: ProfileName | None = None) -> Iterator[str]:
    """All findings for a profile, by default that of params.yaml. Raises UserError at the end if any is `!!`."""
    params = load_params()
    name = profile or params.profile
    wanted: Profile = getattr(params, name).running(params.methods, params.learners)
    yield f"profile {name}"
    bad = 0
    checks = (devices, _weights_of(wanted), _disk_of(params, name), mounts, ray, _steps_of(wanted))
    for check in checks:
        for finding in check():
            bad += finding.mark == "!!"
            yield f"{finding.mark}  {finding.what}"
            if finding.remedy:
                yield f"    {finding.remedy}"
    if bad:
        things = f"{bad} thing{'s keep' if bad > 1 else ' keeps'}"
        raise UserError(f"{things} profile {name} from running here.", "Change what the lines marked !! say.")


def devices() -> Iterator[Finding]:
    """The driver against this build of torch, and each GPU: its kind, whether the build knows it, what is free."""
    import torch

    build = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        version = Path("/proc/driver/nvidia/version")
        if not version.is_file():
            yield Finding("--", f"no NVIDIA driver is loaded here ({build})", "A GPU needs one: look at nvidia-smi.")
        else:
            said = version.read_text().splitlines()[0]
            remedy = f"Install a driver that supports CUDA {torch.version.cuda}, and look at CUDA_VISIBLE_DEVICES."
            yield Finding("!!", f"{build} cannot use the driver: {said}", remedy)
        return
    known = [int(arch.removeprefix("sm_")) for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = 10 * properties.major + properties.minor
        free, total = torch.cuda.mem_get_info(index)
        what = f"GPU {index}: {properties.name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free ({build})"
        if known and not any(arch // 10 == capability // 10 and arch <= capability for arch in known):
            yield Finding("!!", f"{what}: this build has no code for sm_{capability}", f"It has: {known}.")
        elif free < 0.9 * total:
            yield Finding(
                "--", f"{what}: somebody else uses it", "See nvidia-smi, or name others: CUDA_VISIBLE_DEVICES."
            )
        else:
            yield Finding("ok", what)


def _weights_of(profile: Profile) -> Callable[[], Iterator[Finding]]:
    """Every registry model of the profile: here, whole, and of the digests that are known of it; or done without."""

    def weights() -> Iterator[Finding]:
        optional = inventory.done_without(profile)
        for name in inventory.used_by(profile):
            try:
                found = store.locate(name, None)
            except UserError as error:
                yield Finding("--" if name in optional else "!!", error.what, error.remedy)
            else:
                yield Finding("ok", f"{name}: all files hashed, {found.sha256[:12]}")
        for source in inventory.nowhere(profile):
            yield Finding("!!", f"{source}: no file or folder of that name", "Correct `source` in params.yaml.")

    return weights


def _disk_of(params: Params, name: ProfileName) -> Callable[[], Iterator[Finding]]:
    """Room for every copy of the columns of the photographs that are here."""

    def disk() -> Iterator[Finding]:
        from pipeline.planning.columns import column_costs
        from pipeline.planning.counts import count
        from pipeline.planning.hardware import free_disk

        try:
            counts = count(params, name)
        except UserError as error:
            remedy = "Set `photographs` in params.yaml; what N patches would take: spasemsr plan --samples N"
            yield Finding("--", error.what, remedy)
            return
        tars = sum(cost.bytes for cost in column_costs(params, name, counts, None, {}))
        times, free = storage.copies(), free_disk(layout.SHARDS)
        what = f"columns of {counts.train} patches: {times} x {tars / 1e9:.1f} GB {storage.where()}"
        what += f"; {free / 1e9:.1f} GB free"
        if times * tars > free:
            yield Finding("!!", what, f"Set SPASEMSR_CACHE to another disk, or lower max_patches.{storage.remedy()}")
        else:
            yield Finding("ok", what, storage.remedy().strip() if times > 2 and 10 * tars > free else "")

    return disk


def mounts() -> Iterator[Finding]:
    """Where the project and the sample cache lie, and which mount options matter there."""
    for what, folder in (("project", Path.cwd()), ("sample cache", default_root())):
        mount = mount_of(folder)
        yield Finding(*_of_mount(f"{what} on {mount.point} ({mount.kind or 'unknown'})", mount))


def _of_mount(what: str, mount: Mount) -> tuple[str, str, str]:
    if "ro" in mount.options:
        return "!!", f"{what} is read-only", "Mount it for writing, or set SPASEMSR_CACHE to another folder."
    if mount.kind.startswith("nfs") and not {"lookupcache=pos", "lookupcache=positive"} & set(mount.options):
        remedy = "Mount it with lookupcache=pos: else a file that another machine wrote may be missing for a minute."
        return "--", what, remedy
    if mount.kind == "tmpfs":
        return "--", f"{what} is memory", "It is gone after a restart: set SPASEMSR_CACHE to a disk."
    return "ok", what, ""


def ray() -> Iterator[Finding]:
    """Whether a cluster is named, and whether strangers could run code on it."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Finding("ok", "no Ray cluster is named (RAY_ADDRESS): stages run on this machine")
        return
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray/auth_token").expanduser()
    if os.environ.get("RAY_AUTH_MODE") != "token":
        yield Finding(
            "!!", f"Ray at {address} without a token: anyone who reaches it can run code",
            "ray get-auth-token --generate; then set RAY_AUTH_MODE=token on every machine.",
        )  # fmt: skip
    elif not os.environ.get("RAY_AUTH_TOKEN") and not token.is_file():
        yield Finding("!!", f"RAY_AUTH_MODE is token and {token} is missing", "Copy it from the first machine.")
    else:
        yield Finding("ok", f"Ray at {address}, with a token")
    if not mount_of(default_root()).shared:
        remedy = "Set SPASEMSR_CACHE to a folder that all machines mount."
        yield Finding("--", f"the sample cache {default_root()} lies on this machine alone", remedy)


def _steps_of(profile: Profile) -> Callable[[], Iterator[Finding]]:
    """One tiny computation on the device for each kind of backend that runs a network; none for an embedded profile."""

    def steps() -> Iterator[Finding]:
        from pipeline.tools import tiny_steps
        from spasemsr.backends.networks.runtime import choose_device

        kinds = sorted({spec.kind for spec in _networks(profile)} & tiny_steps.STEPS.keys())
        if not kinds:
            yield Finding("ok", "no network of the paper runs in this profile")
            return
        try:
            device = choose_device("auto")
        except UserError as error:
            yield Finding("!!", error.what, error.remedy)
            return
        for kind in (*kinds, tiny_steps.TRAINING):
            try:
                took = tiny_steps.run(kind, device)
            except Exception as error:  # whatever a driver or library raises is what the person came for
                yield Finding(
                    "!!", f"{kind} on {device}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", _REMEDY
                )
            else:
                yield Finding("ok", f"{kind}: a tiny one ran on {device} in {took:.1f} s, and agrees with the CPU")

    return steps


_REMEDY = "Look at the driver and at CUDA_VISIBLE_DEVICES; make env restores the pinned packages."


def _networks(section: Any) -> Iterator[Any]:
    """Every spec of a profile that names weights."""
    if isinstance(section, WeightsSpec):
        yield section
    fields = type(section).model_fields if hasattr(type(section), "model_fields") else ()
    for name in fields:
        yield from _networks(getattr(section, name))
