"""The JSON schema of `params.yaml`, by which an editor completes and checks it."""

from typing import Any

from spasemsr.config import Params

FILLED = "scenes"  # of kind `known`: taken from the profile's data before params are checked, so a file need not say it


def params_schema() -> dict[str, Any]:
    """Draft 2020-12, made of the specs; numbers' bounds and the kinds of each backend are in it."""
    schema = Params.model_json_schema()
    for definition in schema["$defs"].values():
        if "kind" in definition.get("properties", {}) and FILLED in definition.get("required", ()):
            definition["required"].remove(FILLED)
    return schema
