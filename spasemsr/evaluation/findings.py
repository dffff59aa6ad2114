"""The names in `audit.json`, for the stage that writes it and the page that reads it."""

DIGITS = 4  # of a number in audit.json
CHANGE = "change"  # mean absolute difference to the result under the image's own conditions, grey levels
PROBE_ROWS: dict[str, tuple[str, frozenset[str]]] = {  # name -> how a reader knows it, the conditions it needs
    "own": ("everything the method uses, as it is", frozenset()),
    "exchanged": ("two tags exchanged", frozenset({"tags", "boxes"})),
    "unplaced": ("tags without boxes", frozenset({"tags", "boxes"})),
    "untagged": ("no tags", frozenset({"tags"})),
    "remapped": ("two textures of the maps exchanged", frozenset({"maps"})),
    "unmapped": ("no maps", frozenset({"maps"})),
    "recaptioned": ("the other caption", frozenset({"caption"})),
}
