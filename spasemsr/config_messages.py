"""How a wrong value in `params.yaml` is reported: its key as written there, its value, and what is allowed."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def explained(items: Sequence[Any], root: type[BaseModel]) -> list[str]:
    """The errors of a `root` model as lines, without those that only follow from another one.

    A list lacks members that were refused themselves; scenes stated in `data` are handed on to every `known` kind.
    """
    places = [tuple(item["loc"]) for item in items]
    scenes = any(_of_scenes(place) for place in places)

    def follows(item: Any) -> bool:
        place = tuple(item["loc"])
        refused = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        return (item["type"] == "too_short" and refused) or (scenes and "scenes" in place and not _of_scenes(place))

    return [explain(item, root) for item in items if not follows(item)]


def _of_scenes(place: tuple[str | int, ...]) -> bool:
    return place[1:3] == ("data", "scenes")


def explain(item: Any, root: type[BaseModel]) -> str:
    """One pydantic error of a `root` model as 'key = value: what is allowed'."""
    parts, fields = _place(item["loc"], root)
    key, value = ".".join(parts) or "params", item.get("input")
    if item["type"] == "extra_forbidden":
        return f"{key} = {value!r}: no such key" + (f" (allowed: {', '.join(fields)})" if fields else "")
    if item["type"] == "missing":
        return f"{key}: missing"
    if item["type"] == "union_tag_invalid":
        return f"{key}.kind = {item['ctx']['tag']!r}: choose one of {item['ctx']['expected_tags']}"
    if item["type"] == "tuple_type":
        return f"{key} = {value!r}: a list is needed, as in [{value}]"
    shown = "" if isinstance(value, dict | BaseModel) else f" = {value!r}"
    return f"{key}{shown}: {item['msg'].removeprefix('Value error, ')}"


def _place(loc: tuple[str | int, ...], root: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Where an error lies as `params.yaml` writes it, without pydantic's names of union members; keys allowed there."""
    parts: list[str] = []
    fields: dict[str, FieldInfo] = _fields(root)
    choices: dict[str, dict[str, FieldInfo]] = {}
    named = False
    for part in loc:
        if part in choices and not named:  # the `kind` of a union, not a key
            fields, choices = choices[str(part)], {}
            continue
        parts.append(str(part))
        info = None if named else fields.get(str(part))
        named = False
        if info is None:
            continue
        models, named = list(_models(info.annotation)), get_origin(info.annotation) is dict
        if len(models) == 1:
            fields = _fields(models[0])
        choices = {kind: _fields(model) for model in models for kind in _kinds(model)} if len(models) > 1 else {}
    return parts, list(fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Those that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    """What `kind` a union's member may have."""
    return get_args(model.model_fields["kind"].annotation)
