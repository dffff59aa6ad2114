"""Captioner: degraded images -> one line each that says how they are degraded, not what they show."""

from typing import TYPE_CHECKING, assert_never

from spasemsr.backends.captioner.spec import CaptionerSpec, KnownCaptionerSpec, LlavaCaptionerSpec, RuleCaptionerSpec

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Captioner


def build_captioner(spec: CaptionerSpec, device: str = "auto") -> "Captioner":
    """The captioner of a spec; the embedded one needs no device, others take `choose_device`'s words."""
    match spec:
        case RuleCaptionerSpec():
            from spasemsr.backends.captioner.rules import RuleCaptioner

            return RuleCaptioner()
        case LlavaCaptionerSpec():
            from spasemsr.backends.networks.llava import LlavaCaptioner

            return LlavaCaptioner(spec, device)
        case KnownCaptionerSpec():
            from spasemsr.backends.captioner.known import KnownCaptioner

            return KnownCaptioner(spec.scenes)
    assert_never(spec)
