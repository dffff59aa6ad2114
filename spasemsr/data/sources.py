"""Where pictures come from: files that ship inside installed packages, read in place, and one folder of the user's.

Nothing is copied: a photograph is named by its source and its path within it, so records hold no path of a machine.
Procedural scenes, where a profile asks for them, take the place of both and are made when they are read.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from spasemsr.data.patches import Split
from spasemsr.data.spec import DataSpec
from spasemsr.errors import UserError
from spasemsr.images.names import files_below, looks_like_a_picture, shown
from spasemsr.images.opening import read_bytes
from spasemsr.pixels import png_bytes
from spasemsr.scenes.scene import make_scene
from spasemsr.scenes.spec import ScenesSpec


@dataclass(frozen=True)
class Shipped:
    """The photographs of one package: where they lie from its own folder, and which of them the weights that this
    project ships were trained on (data/pretrained/nano/README.md); what they have not seen can test them.
    """

    folder: str
    trained_on: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of all photographs, those of `trained_on` first."""
        return (*self.trained_on, *self.unseen)


# Photographs whose licence allows use (docs/datasets.md); the packages' drawings, scans of text and Middlebury's
# unlicensed pair are left out.
PACKAGE_PHOTOGRAPHS: dict[str, Shipped] = {
    "skimage": Shipped(
        "data",
        ("brick.png", "camera.png", "coffee.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "rocket.jpg"),
        ("astronaut.png", "chelsea.png", "clock_motion.png", "coins.png", "grass.png", "retina.jpg"),
    ),
    "sklearn": Shipped("datasets/images", ("flower.jpg",), ("china.jpg",)),
    "matplotlib": Shipped("mpl-data/sample_data", ("grace_hopper.jpg",)),
    # five of Kodak's, beside the package; nothing of the package itself is imported
    "pyiqa": Shipped("../ResultsCalibra/ref_dir", (), ("I03.bmp", "I04.bmp", "I06.bmp", "I08.bmp", "I19.bmp")),
}


SCENES = "scenes"  # the source of procedural pictures; their path is their number


@dataclass(frozen=True, order=True)
class Photograph:
    """A candidate image file: `source` is "folder", "package:<name>" or "scenes", `path` relative to it, with "/"."""

    source: str
    path: str


@dataclass(frozen=True)
class Sources:
    """The photographs of one configuration; resolves a record's (source, path) back to a file."""

    packages: tuple[str, ...]
    folder: Path
    scenes: ScenesSpec | None = None

    @classmethod
    def of(cls, spec: DataSpec, folder: str) -> Self:
        """The sources of section `data`, with the folder that `photographs` names."""
        return cls(spec.packages, Path(folder), spec.scenes)

    def root(self, source: str) -> Path:
        """The folder that a source's paths are relative to. Raises UserError for a package that is not installed."""
        if source == "folder":
            return self.folder
        name = source.removeprefix("package:")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"The package {name} is not installed.", "Remove it from data.packages, or run: make env")
        return Path(spec.submodule_search_locations[0]) / PACKAGE_PHOTOGRAPHS[name].folder

    def file(self, source: str, path: str) -> Path:
        """Where a photograph lies: its path below the root of its source."""
        return self.root(source) / path

    def read(self, source: str, path: str, max_bytes: int) -> bytes:
        """The bytes of a record's file; those of a scene are made. Raises RejectedSample as `read_bytes` does."""
        if source == SCENES and self.scenes is not None:
            return png_bytes(make_scene(self.scenes, int(Path(path).stem)).picture())
        return read_bytes(self.file(source, path), max_bytes)

    def photographs(self) -> tuple[list[Photograph], int]:
        """All candidates, sorted, and the number of files that are no images by their suffix (ignored)."""
        if self.scenes is not None:
            return [Photograph(SCENES, f"{number:05d}.png") for number in range(self.scenes.count)], 0
        found = [
            Photograph(f"package:{name}", path) for name in self.packages for path in PACKAGE_PHOTOGRAPHS[name].names
        ]
        ignored = 0
        if not self.folder.exists():
            raise UserError(
                f"The folder {shown(self.folder)} does not exist.", "Create it, or set `photographs` in params.yaml."
            )
        if not self.folder.is_dir():
            raise UserError(
                f"{shown(self.folder)} is not a folder.", "Set `photographs` in params.yaml to a folder of images."
            )
        for path in files_below(self.folder):
            if looks_like_a_picture(path):
                found.append(Photograph("folder", path.relative_to(self.folder).as_posix()))
            else:
                ignored += 1
        return sorted(found), ignored


def fixed_split(photograph: Photograph, spec: DataSpec) -> Split | None:
    """The split that a package's photograph is assigned under `hold_out: unseen`; None where its hash decides."""
    shipped = PACKAGE_PHOTOGRAPHS.get(photograph.source.removeprefix("package:"))
    if spec.hold_out == "hash" or shipped is None or not photograph.source.startswith("package:"):
        return None
    return "val" if photograph.path in shipped.unseen else "train"


def missing_from_packages(names: Sequence[str]) -> list[str]:
    """Photographs that a package's installed version no longer ships."""
    sources = Sources(tuple(names), Path())
    return [
        f"{name}/{path}"
        for name in names
        for path in PACKAGE_PHOTOGRAPHS[name].names
        if not sources.file(f"package:{name}", path).is_file()
    ]
