"""What computes a result, known from a spec alone: nothing is built and no weights are loaded."""

from collections.abc import Mapping
from typing import Any

from spasemsr.spec import Spec, WeightsSpec

Identity = dict[str, Any]  # kind, version, revision, weights_sha256, precision


def identify(spec: Spec, versions: Mapping[str, int], kind: str | None = None) -> Identity:
    """The identity of the backend that a spec with a `kind` builds; `versions` is the role's table of them.

    It enters every cache key, so that a changed model is never mistaken for the old one. Weights are located and
    hashed; a server is asked. Raises UserError for weights that are not here or not what was recorded of them, and for
    a server that does not answer.
    """
    own: str = spec.kind  # type: ignore[attr-defined]  # every backend's spec has one
    identity: dict[str, Any] = {
        "kind": kind or own,
        "version": versions[own],
        "revision": "",
        "weights_sha256": "",
        "precision": "fp32",
    }
    endpoint = getattr(spec, "endpoint", None)
    if isinstance(spec, WeightsSpec) and endpoint is not None:  # the server says what it serves
        from spasemsr.backends.networks.chat import ChatEndpoint

        identity["kind"] += "_endpoint"
        identity |= {"revision": ChatEndpoint(endpoint, spec.source, 1).revision, "precision": "endpoint"}
    elif isinstance(spec, WeightsSpec):
        from spasemsr.weights.store import locate

        found = locate(spec.source, spec.revision, spec.parts)
        identity |= {"revision": found.revision, "weights_sha256": found.sha256, "precision": spec.precision}
    return identity
