"""Text encoder: strings -> token states that attention reads."""

from typing import TYPE_CHECKING, assert_never

from spasemsr.backends.text_encoder.spec import ClipTextSpec, HashedTextSpec, TextEncoderSpec

if TYPE_CHECKING:
    from spasemsr.backends.protocols import TextEncoder


def build_text_encoder(spec: TextEncoderSpec, device: str = "auto") -> "TextEncoder":
    """The text encoder of a spec; "auto" is the CPU for the embedded one, a GPU for a network if there is one."""
    match spec:
        case HashedTextSpec():
            from spasemsr.backends.text_encoder.hashed import HashedTextEncoder

            return HashedTextEncoder(spec).to("cpu" if device == "auto" else device)
        case ClipTextSpec():
            from spasemsr.backends.text_encoder.clip_text import ClipText

            return ClipText(spec, device)
    assert_never(spec)
