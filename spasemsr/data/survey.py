"""Looks at every candidate photograph once: usable or not and why, which split, which patches.

An image's verdict is a function of its bytes and the limits, so it is cached by content; an image's split and patches
are functions of the image alone, so adding photographs never moves the others (one exception, see `assign_splits`).
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from spasemsr.data.likeness import look_of, near_copies, pixels_sha256
from spasemsr.data.patches import MAX_SIDE, Patch, Split, bucket_of, grid, make_key
from spasemsr.data.sources import Photograph, Sources, fixed_split
from spasemsr.data.spec import DataSpec
from spasemsr.errors import RejectedSample, UserError
from spasemsr.hashing import fingerprint, sha256_bytes
from spasemsr.images.flat import decode
from spasemsr.images.formats import READ
from spasemsr.images.names import is_utf8, shown

VERSION = 1  # of crops
VERDICT = 5  # of what is remembered of a file: bump it when `decode` accepts, rejects or treats a file differently
_REMEMBERED_BYTES = 1 << 15  # a smaller file is decoded again in less time than its verdict takes to look up


class Store(Protocol):
    """The part of the sample cache used here."""

    def get(self, key: str) -> bytes | None:
        """The payload that was put under this key, or None."""
        ...

    def put(self, key: str, payload: bytes, label: str = "") -> None:
        """Keep a payload; `label` says what it is when the cache is listed."""
        ...


@dataclass(frozen=True)
class Usable:
    """A photograph that decodes: its content hash, size in pixels and the treatments decoding applies."""

    photograph: Photograph
    sha256: str
    height: int
    width: int
    treatments: tuple[str, ...]
    pixels_sha256: str = ""  # of what decoding gives; "" is like no other
    look: int = 0  # see `likeness`


@dataclass(frozen=True)
class Reject:
    """A candidate that cannot be used, with a countable reason and an explanation."""

    photograph: Photograph
    reason: str
    detail: str

    def plain(self) -> dict[str, str]:
        """The line of `rejects.jsonl`."""
        return {**asdict(self.photograph), "reason": self.reason, "detail": self.detail}


def examine(photograph: Photograph, sources: Sources, spec: DataSpec, store: Store) -> Usable | Reject:
    """Decode one candidate, or take the verdict of an earlier run on the same bytes."""
    try:
        if not is_utf8(photograph.path):
            raise RejectedSample("name_not_utf8", f"rename it: {shown(photograph.path)} is not UTF-8")
        data = sources.read(photograph.source, photograph.path, spec.max_bytes)
        sha256 = sha256_bytes(data)
        verdict = _verdict(data, spec) if len(data) < _REMEMBERED_BYTES else _remembered(data, sha256, spec, store)
        if "reason" in verdict:
            raise RejectedSample(verdict["reason"], verdict["detail"])
        height, width = verdict["height"], verdict["width"]
        if min(height, width) < spec.patch:
            raise RejectedSample("too_small", f"{width}x{height} holds no patch of {spec.patch}x{spec.patch} pixels")
        if max(height, width) > MAX_SIDE:
            raise RejectedSample("too_large", f"{width}x{height} is over the limit of {MAX_SIDE} pixels a side")
    except RejectedSample as reject:
        return Reject(photograph, reject.reason, reject.detail)
    treatments = tuple(verdict["treatments"])
    return Usable(photograph, sha256, height, width, treatments, verdict["pixels_sha256"], int(verdict["look"], 16))


def _remembered(data: bytes, sha256: str, spec: DataSpec, store: Store) -> dict[str, Any]:
    key = fingerprint({"verdict": VERDICT, "sha256": sha256, "max_pixels": spec.max_pixels})
    known = store.get(key)
    if known is not None:
        return json.loads(known)
    verdict = _verdict(data, spec)
    if verdict.get("reason") != "needs_package":  # which may be installed by the next run
        store.put(key, json.dumps(verdict, sort_keys=True).encode(), "ingest verdict")
    return verdict


def _verdict(data: bytes, spec: DataSpec) -> dict[str, Any]:
    try:
        decoded = decode(data, spec.max_pixels)
    except RejectedSample as reject:
        return {"reason": reject.reason, "detail": reject.detail}
    height, width = decoded.pixels.shape[:2]
    same = {"pixels_sha256": pixels_sha256(decoded.pixels), "look": f"{look_of(decoded.pixels):x}"}
    return {"height": height, "width": width, "treatments": list(decoded.treatments), **same}


def drop_duplicates(usable: Sequence[Usable]) -> tuple[list[Usable], list[Reject]]:
    """Equal files, and equal pixels in other files, are one image: the first by source and path; the others rejects."""
    images: list[Usable] = []
    first: dict[str, Usable] = {}
    rejects: list[Reject] = []
    for image in sorted(usable, key=lambda image: image.photograph):
        for what, name in (("bytes", image.sha256), ("pixels", image.pixels_sha256)):
            if name and (kept := first.get(name)):
                same = f"the same {what} as {kept.photograph.source} {kept.photograph.path}"
                rejects.append(Reject(image.photograph, "duplicate", same))
                break
        else:
            images.append(image)
            first |= {image.sha256: image, image.pixels_sha256: image}
    return images, rejects


def refuse_bad_input(candidates: int, rejects: Sequence[Reject], spec: DataSpec) -> None:
    """Stop when there is nothing to work on, or when so much is unusable that the input itself must be wrong.

    Raises UserError listing the first ten rejects. Duplicates do not count.
    """
    if candidates == 0:
        raise UserError(
            f"No photographs: the folder holds no {READ} file, and data.packages is empty.",
            "Put photographs into the folder `photographs` of params.yaml, or name packages: [skimage].",
        )
    bad = [reject for reject in rejects if reject.reason != "duplicate"]
    if bad and (len(bad) == candidates or len(bad) / candidates > spec.max_reject_rate):
        shown = "".join(f"\n  {r.photograph.source} {r.photograph.path}: {r.reason}, {r.detail}" for r in bad[:10])
        more = f"\n  and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise UserError(
            f"{len(bad)} of {candidates} photographs cannot be used (max_reject_rate is {spec.max_reject_rate}):"
            f"{shown}{more}",
            "Replace or remove them, or raise data.max_reject_rate if some of them are good.",
        )


def assign_splits(images: Sequence[Usable], spec: DataSpec) -> dict[str, Split]:
    """sha256 -> split, by the image's own hash, among those large enough for a validation patch.

    A package's photograph may have a fixed split (`fixed_split`). Near copies share that of one that is fixed to val,
    else of the one with the lowest hash. Only where that would leave a split empty (a handful of images) does one image
    move: the one with the lowest hash into val, or the one with the highest into train. Raises UserError when there
    cannot be two splits.
    """
    if len(images) < 2:
        raise UserError(
            f"Only {len(images)} usable photograph: training and validation need one each, and never the same.",
            "Add photographs to the folder `photographs` of params.yaml.",
        )
    can_validate = sorted(image.sha256 for image in images if min(image.height, image.width) >= spec.val_patch)
    if not can_validate:
        raise UserError(
            f"No photograph is as large as a validation patch ({spec.val_patch}x{spec.val_patch} pixels).",
            "Add a larger photograph, or lower data.val_patch (NIQE needs 192).",
        )
    groups = near_copies([image.look for image in images])
    leader = {images[i].sha256: min(images[j].sha256 for j in group) for group in groups for i in group}
    leaders = {leader.get(image.sha256, image.sha256) for image in images}
    if len(leaders) < 2:
        raise UserError(
            f"All {len(images)} photographs are copies of one: training and validation need one each.",
            "Add other photographs to the folder `photographs` of params.yaml.",
        )
    able = {leader.get(sha, sha) for sha in can_validate}
    fixed: dict[str, Split] = {}
    for image in images:
        lead, split = leader.get(image.sha256, image.sha256), fixed_split(image.photograph, spec)
        if split is not None:
            fixed[lead] = "val" if "val" in (split, fixed.get(lead)) else split
    by_hash = {sha for sha in able if int(sha[48:56], 16) / 2**32 < spec.val_fraction}
    chosen = {sha for sha in able if fixed.get(sha, "val" if sha in by_hash else "train") == "val"}
    if not chosen:
        chosen = {min(able)}
    if chosen == leaders:
        chosen.remove(max(chosen))
    val = {image.sha256 for image in images if leader.get(image.sha256, image.sha256) in chosen}
    return {image.sha256: "val" if image.sha256 in val else "train" for image in images}


def cut(image: Usable, split: Split, spec: DataSpec) -> list[Patch]:
    """The patches of one image: training ones spread by hash, validation ones from the centre outwards."""
    size, limit = (spec.patch, spec.max_patches) if split == "train" else (spec.val_patch, spec.val_max_patches)
    stride = spec.stride if split == "train" else size
    corners = grid(image.height, image.width, size, stride)
    if split == "train":
        corners.sort(key=lambda corner: fingerprint([image.sha256, *corner]))
    else:
        centre = ((image.height - size) / 2, (image.width - size) / 2)
        corners.sort(key=lambda corner: (abs(corner[0] - centre[0]) + abs(corner[1] - centre[1]), corner))
    return [
        Patch(
            key=make_key(image.sha256, y, x),
            split=split,
            bucket=bucket_of(image.sha256, spec.num_buckets),
            source=image.photograph.source,
            path=image.photograph.path,
            sha256=image.sha256,
            y=y,
            x=x,
            size=size,
        )
        for y, x in corners[:limit]
    ]


def summarize(images: Sequence[Usable], patches: Sequence[Patch], rejects: Sequence[Reject], ignored: int) -> dict:
    """The counts of `reports/ingest.json`."""

    def counts(values: Iterable[str]) -> dict[str, int]:
        return dict(sorted(Counter(values).items()))

    return {
        "images": counts({patch.sha256: patch.split for patch in patches}.values()),
        "patches": counts(patch.split for patch in patches),
        "treatments": counts(name for image in images for name in image.treatments),
        "rejects": counts(reject.reason for reject in rejects),
        "near_copies": sum(len(group) - 1 for group in near_copies([image.look for image in images])),
        "ignored_files": ignored,
    }
