"""Conditions removed and replaced: edits of a batch of one, for every stage that asks what guidance does.

A method names its `conditions`; an edit of one it does not have is never made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from spasemsr.data.dataset import Batch, Objects

if TYPE_CHECKING:
    from torch import Tensor

Condition = Literal["tags", "boxes", "caption", "maps", "soft"]
State = Literal["own", "none", "other", "truth"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
STATES: tuple[State, ...] = get_args(State)


def untagged(batch: Batch) -> Batch:
    """No object at all: neither a word without a place nor a place without a word is a condition."""
    return _each(batch, lambda objects: replace(objects, tags=[], scores=[], boxes=objects.boxes[:0]))


def unplaced(batch: Batch) -> Batch:
    """The tags, but nowhere in particular, as in training where boxes were dropped."""
    return _each(batch, lambda objects: replace(objects, located=False))


def retagged(batch: Batch, tags: Sequence[str]) -> Batch:
    """Other tags at the same places, repeated or cut to as many as there are; none where there are no others."""
    if not tags:
        return untagged(batch)
    return _each(batch, lambda objects: replace(objects, tags=[tags[i % len(tags)] for i in range(len(objects.tags))]))


def exchanged(batch: Batch, one: str, other: str) -> Batch:
    """Two tags exchanged, wherever they occur; places and everything else stay."""
    names = {one: other, other: one}
    return _each(batch, lambda objects: replace(objects, tags=[names.get(tag, tag) for tag in objects.tags]))


def moved(batch: Batch, boxes_N4: np.ndarray) -> Batch:
    """The tags at other places, repeated or cut to as many as there are; nowhere where there are no others."""
    if not len(boxes_N4):
        return unplaced(batch)
    return _each(batch, lambda objects: replace(objects, boxes=boxes_N4[np.arange(len(objects.tags)) % len(boxes_N4)]))


def recaptioned(batch: Batch, caption: str) -> Batch:
    """Another caption; the empty one is none."""
    return replace(batch, captions=[caption] * len(batch.captions))


def refeatured(batch: Batch, features: Mapping[str, "Tensor"]) -> Batch:
    """Other values of some features; all else stays."""
    return replace(batch, features={**batch.features, **features})


def silenced(batch: Batch, names: Sequence[str]) -> Batch:
    """Features without information: zeros, which in a map of labels is one label everywhere."""
    return refeatured(batch, {name: batch.features[name] * 0 for name in names if name in batch.features})


def in_state(
    batch: Batch,
    condition: Condition,
    state: State,
    other: Batch,
    truth: Batch | None,
    condition_features: Mapping[str, Sequence[str]],
) -> Batch | None:
    """The batch with one condition in a state, or None where the state does not exist.

    `other` is the batch of another image, `truth` this one's with its objects and features found on hr;
    `condition_features` names the features of a condition that consists of some. The truth of tags is hr's objects with
    their places; boxes and captions have none of their own.
    """
    match condition, state:
        case _, "own":
            return batch
        case "tags", "none":
            return untagged(batch)
        case "tags", "other":
            return retagged(batch, other.objects[0].tags)
        case "tags", "truth":
            return None if truth is None else replace(batch, objects=truth.objects)
        case "boxes", "none":
            return unplaced(batch)
        case "boxes", "other":
            return moved(batch, other.objects[0].boxes)
        case "caption", "none":
            return recaptioned(batch, "")
        case "caption", "other":
            return recaptioned(batch, other.captions[0])
        case "maps" | "soft", "none":
            return silenced(batch, condition_features[condition])
        case "maps" | "soft", "other" | "truth":
            return _features_of(batch, other if state == "other" else truth, condition_features[condition])
    return None


def _features_of(batch: Batch, source: Batch | None, names: Sequence[str]) -> Batch | None:
    """None where there is no source, or its picture is of another size."""
    found = {} if source is None else {name: source.features[name] for name in names if name in source.features}
    fits = all(value.shape == batch.features[name].shape for name, value in found.items())
    return refeatured(batch, found) if found and fits else None


def _each(batch: Batch, edit: Callable[[Objects], Objects]) -> Batch:
    return replace(batch, objects=[edit(objects) for objects in batch.objects])
