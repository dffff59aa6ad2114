"""How often the tars of columns lie on disk: here, in DVC's cache unless DVC links them, and as cached samples."""

from configparser import ConfigParser, Error
from pathlib import Path

from spasemsr.mounts import mount_of

_REFLINKS = ("btrfs", "xfs", "bcachefs", "apfs")  # file systems that can share blocks between files
_ADVICE = "dvc config --local cache.type reflink,hardlink,symlink"


def copies(folder: Path = Path()) -> int:
    """Two where DVC links what lies in the folder to its cache, else three."""
    return 2 if linked(folder) else 3


def linked(folder: Path = Path()) -> bool:
    """Whether DVC puts no second copy of an out into its cache: what it tries first and the file system can do."""
    for kind in _kinds(folder):
        if kind == "copy":
            return False
        if kind != "reflink" or mount_of(folder).kind in _REFLINKS:
            return True
    return False


def where(folder: Path = Path()) -> str:
    """Where copies of the columns lie, in words."""
    return "here, linked to DVC's cache, and again as samples" if linked(folder) else "here, in DVC's cache, as samples"


def remedy(folder: Path = Path()) -> str:
    """What saves a copy, beginning with a space; nothing where none can be saved."""
    return "" if linked(folder) else f" Or save DVC's copy: {_ADVICE} (what it links is read-only)."


def _kinds(folder: Path) -> list[str]:
    """DVC's `cache.type` of a project; DVC's own default where none is set."""
    parser = ConfigParser()
    for name in ("config", "config.local"):
        try:
            parser.read(folder / ".dvc" / name, encoding="utf-8")
        except (Error, OSError):
            continue
    return [kind.strip() for kind in parser.get("cache", "type", fallback="reflink,copy").strip("'").split(",")]
