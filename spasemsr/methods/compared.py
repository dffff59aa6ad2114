"""The baselines that `evaluate.baselines` of params.yaml names: what each name means, and how it is called; no torch.

`bicubic` and `restorer` are this project's. Any other name is a network that spandrel knows: an entry of
`spasemsr models list`, or the path of a file.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from spasemsr.backends.identity import Identity
from spasemsr.backends.restorer.spec import SpandrelRestorerSpec, identity_of
from spasemsr.weights.packages import NotInstalled

log = logging.getLogger(__name__)

BICUBIC, RESTORER = "bicubic", "restorer"
_LABELS = {
    BICUBIC: "Bicubic",
    RESTORER: "Restorer (DRM)",
    "bsrnet": "BSRNet",
    "realesrgan-x4plus": "Real-ESRGAN x4plus",
    "realesrgan-x4plus-ncnn": "Real-ESRGAN x4plus",
}


def row_name(baseline: str) -> str:
    """The name of a baseline in tables and file names: a path goes by its file's name without the ending."""
    return Path(baseline).stem if "/" in baseline else baseline


def label(row: str) -> str:
    """A row's name as tables and the page show it."""
    return _LABELS.get(row, row)


def network_of(baseline: str) -> SpandrelRestorerSpec:
    """The spec of a baseline that is a network, in float32 whatever the profile computes in."""
    return SpandrelRestorerSpec(kind="spandrel", source=baseline, precision="fp32")


def networks(baselines: Sequence[str]) -> dict[str, Identity]:
    """The networks among these baselines and what they are; one whose package is not installed is left out, and said.

    Raises UserError for weights that are not here, or not what they should be.
    """
    found = {}
    for baseline in baselines:
        if baseline in (BICUBIC, RESTORER):
            continue
        try:
            found[baseline] = identity_of(network_of(baseline))
        except NotInstalled as error:
            log.warning("%s is left out of the baselines. %s %s", baseline, error.what, error.remedy)
    return found
