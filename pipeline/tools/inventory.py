"""Facts about pretrained models: the table of `spasemsr models list`, and which ones a profile uses."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spasemsr.config import Params, Profile, load_params
from spasemsr.errors import UserError
from spasemsr.methods.compared import BICUBIC, RESTORER
from spasemsr.methods.stored import WEIGHTS
from spasemsr.weights import store
from spasemsr.weights.entry import Entry, HubSource, PackageSource, Source
from spasemsr.weights.packages import folder_in
from spasemsr.weights.registry import ENTRIES, entry


def lines() -> Iterator[str]:
    """One block per model, then how digests are known."""
    for model in ENTRIES.values():
        known = sum(bool(file.sha256) for file in model.files)
        yield f"{model.name:<24}{store.gigabytes(model.size):>8}  {state(model):<30}{model.licence}"
        yield f"{'':<24}{'':>8}  {model.purpose}"
        for source in model.sources:
            yield f"{'':<24}{'':>8}  from {source}{_packaged(source, model)}"
        if model.unknown:
            yield f"{'':<24}{'':>8}  could not be looked up: {model.unknown}"
        if not model.pinned:
            yield f"{'':<24}{'':>8}  no commit is known: fetch it with --revision"
        yield f"{'':<24}{'':>8}  {known} of {len(model.files)} files with a published sha256"
        if reason := without_digest(model):
            yield f"{'':<24}{'':>8}  {reason}"
    yield f"Files without a published sha256 are trusted on first fetch and recorded in {store.LOCK}; commit that file."


def without_digest(model: Entry) -> str:
    """Which files of a model have no digest in the registry, and what pins them instead; "" where all have one."""
    names = ", ".join(file.name for file in model.files if not file.sha256)
    if not names:
        return ""
    pinned = any(isinstance(source, HubSource) and source.revision for source in model.sources)
    return f"none was found for {names}" + ("; the commit pins them" if pinned else "")


def _packaged(source: Source, model: Entry) -> str:
    """What is the matter with the package that holds a model; nothing for another source."""
    try:
        if isinstance(source, PackageSource):
            folder_in(source, model)
    except UserError as error:
        return f": {error.what.removeprefix(f'{model.name}: ')}"
    return ""


def state(model: Entry) -> str:
    """Whether a model is here, and whether its files may be loaded."""
    place = next((place for place, _ in store.places(model)), None)
    if place is None:
        return "not here"
    recorded = store.read_lock().get(store.lock_name(model, None), {}).get("files", {})
    unknown = [file.name for file in model.files if not file.sha256 and file.name not in recorded]
    if unknown:
        return f"here, {len(unknown)} files unrecorded"
    sizes = [(place / file.name).stat().st_size for file in model.files]
    wrong = any(file.size and file.size != size for file, size in zip(model.files, sizes, strict=True))
    return "here, but a file is cut off" if wrong else "here"


def here() -> list[Entry]:
    """The models of which all files are on this machine."""
    return [model for model in ENTRIES.values() if not state(model).startswith("not here")]


def chosen(names: Sequence[str]) -> list[Entry]:
    """Models by name; `profile` stands for all that the active profile of params.yaml uses."""
    found: dict[str, Entry] = {}
    for name in names:
        wanted = _of_params() if name == "profile" else [name]
        found |= {one: entry(one) for one in wanted}
    return list(found.values())


def _of_params() -> list[str]:
    """What the methods that params.yaml lists use in its profile."""
    params = load_params(Path("params.yaml"))
    return used_by(params.active.running(params.methods, params.learners))


def used_by(profile: Profile) -> list[str]:
    """The registry models that a profile names as a `source`, in the order of its stages."""
    return [source for source in sources(profile) if source in ENTRIES]


def done_without(profile: Profile) -> list[str]:
    """Models that a profile uses for names and baselines where their package is installed, and this one is not."""
    optional = {*profile.evaluate.baselines, *_sources(profile.ground.plain())}
    packaged = {name for name, model in ENTRIES.items() if all(isinstance(s, PackageSource) for s in model.sources)}
    wanted = [name for name in used_by(profile) if name in optional & packaged]
    return [name for name in wanted if state(ENTRIES[name]) == "not here"]


def sources(profile: Profile) -> list[str]:
    """Every `source` of a profile and its baselines' networks, names of the registry and paths, in order of stages."""
    networks = [name for name in profile.evaluate.baselines if name not in (BICUBIC, RESTORER)]
    return list(dict.fromkeys([*_sources(profile.plain()), *networks]))


def nowhere(profile: Profile) -> list[str]:
    """Those sources that neither the registry knows nor the disk holds."""
    return [name for name in sources(profile) if name not in ENTRIES and not Path(name).expanduser().exists()]


def require_there(params: Params) -> None:
    """Refuse what a later stage would miss after hours of work: sources that are nowhere, initial weights.

    A registry model whose files are not here is not asked for: its stage says so, and may need none of them by then.
    Raises UserError naming the first.
    """
    if lacking := nowhere(params.active.running(params.methods, params.learners)):
        raise UserError(
            f"{params.profile}: {lacking[0]} is no model of `spasemsr models list`, and no file or folder.",
            "Correct that `source`, or name in `evaluate.baselines`, in params.yaml; nothing was run.",
        )
    for name in params.methods:
        init = params.active.train_of(name).init
        if init is not None and not (weights := Path(init) / WEIGHTS).is_file():
            raise UserError(
                f"{params.profile}: training of {name} is to start from {weights}, which does not exist.",
                "Set train.init to a folder of weights, or to null to start from random ones; nothing was run.",
            )


def _sources(section: Any) -> Iterator[str]:
    if isinstance(section, dict):
        if isinstance(section.get("source"), str) and not section.get("endpoint"):  # a server has what it serves
            yield section["source"]
        for value in section.values():
            yield from _sources(value)
