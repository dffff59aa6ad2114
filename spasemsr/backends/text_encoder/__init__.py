"""Text encoder: strings -> token states that attention reads."""

from typing import assert_never

from spasemsr.backends.protocols import TextEncoder
from spasemsr.backends.text_encoder.hashed import HashedTextEncoder
from spasemsr.backends.text_encoder.spec import ClipTextSpec, HashedTextSpec, TextEncoderSpec


def build_text_encoder(spec: TextEncoderSpec, device: str = "auto") -> TextEncoder:
    """The text encoder of a spec; "auto" is the CPU for the embedded one, a GPU for a network if there is one."""
    match spec:
        case HashedTextSpec():
            return HashedTextEncoder(spec).to("cpu" if device == "auto" else device)
        case ClipTextSpec():
            from spasemsr.backends.text_encoder.clip_text import ClipText

            return ClipText(spec, device)
    assert_never(spec)
