"""What kind of storage a folder lies on, as far as it changes what a program may rely on."""

from dataclasses import dataclass
from pathlib import Path

import psutil

_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "gluster", "fuse.", "9p", "afs", "virtiofs")


@dataclass(frozen=True)
class Mount:
    """Where a file system is mounted, its type (ext4, nfs4) and the options it was mounted with."""

    point: Path
    kind: str
    options: tuple[str, ...]

    @property
    def shared(self) -> bool:
        """Whether other machines may write there too, so that what they wrote can be seen late."""
        return self.kind.startswith(_NETWORK)


def mount_of(folder: Path) -> Mount:
    """The mount that holds a folder, or the nearest folder above it that exists."""
    folder = folder.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    folder = folder.resolve()
    holding = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    if not holding:
        return Mount(Path(folder.anchor), "", ())
    # Of several at one point the last covers the others.
    found = max(enumerate(holding), key=lambda item: (len(item[1].mountpoint), item[0]))[1]
    return Mount(Path(found.mountpoint), found.fstype, tuple(filter(None, found.opts.split(","))))
