"""Kinds of feature extractor: the frozen vision models whose features a method learns from."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.backends.identity import Identity, identify
from spasemsr.backends.networks.spec import SAM_PATCH, RamArchitecture, SamArchitecture, ram_size_of, size_of
from spasemsr.scenes.spec import MAX_REGIONS, ScenesSpec
from spasemsr.spec import NUMBER, Positive, Precision, Spec, WeightsSpec

CELL = 8  # pixels of a filter bank's cell
Filters = Annotated[int, Field(ge=1, le=32), NUMBER]  # as many as the bank of them has
VERSIONS = {  # raised when the same image gets other features
    "filter_bank": 1,
    "filter_rows": 1,
    "colour_layout": 1,
    "edges": 1,
    "sharpness": 1,
    "texture_classes": 1,
    "sam": 1,
    "ram": 1,
    "clip_vision": 1,
    "depth_anything": 1,
    "segformer": 1,
    "segformer_features": 1,
    "known": 1,
    "student_map": 1,
    "student_labels": 1,
    "student_rows": 1,
}


class FilterBankSpec(Spec):
    """Embedded image features in the place of SAM: fixed multi-scale filters, one cell per latent cell."""

    kind: Literal["filter_bank"]
    channels: Filters = 16
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the features of a square image of `side` pixels."""
        return self.channels, side // CELL, side // CELL


class SamFeaturesSpec(WeightsSpec):
    """Segment Anything's image encoder; `unit_scale` takes off the scale and shift of its last normalisation."""

    kind: Literal["sam"]
    architecture: SamArchitecture = "vit_h"
    unit_scale: bool = True
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the features of a square image: every size is resized to the network's."""
        size = size_of(self.architecture)
        return size.channels, size.image_size // SAM_PATCH, size.image_size // SAM_PATCH


class FilterRowsSpec(Spec):
    """Embedded rows in the place of a recogniser's representation: filters averaged over the cells of a grid."""

    kind: Literal["filter_rows"]
    filters: Filters = 30
    grid: Positive = 4
    batch_size: Positive = 1

    @property
    def width(self) -> int:
        """Numbers of a row: the filters, and where its cell is."""
        return self.filters + 2

    def shape(self, side: int) -> tuple[int, int]:
        """Rows and their width, for any image."""
        return 1 + self.grid**2, self.width


class ColourLayoutSpec(Spec):
    """Embedded rows in the place of CLIP's image embedding: colours of the cells of a grid."""

    kind: Literal["colour_layout"]
    grid: Positive = 4
    batch_size: Positive = 1

    @property
    def width(self) -> int:
        """Numbers of a row: mean and deviation of three planes, and where its cell is."""
        return 8

    def shape(self, side: int) -> tuple[int, int]:
        """Rows and their width, for any image."""
        return 1 + self.grid**2, self.width


class PlainMapSpec(Spec):
    """Embedded maps: `edges` in the place of HED, `sharpness` in that of a depth network, which it is not."""

    kind: Literal["edges", "sharpness"]
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """One channel, and the cells of a square image of `side` pixels."""
        return 1, side // CELL, side // CELL


class TextureClassesSpec(Spec):
    """Embedded labels in the place of a segmenter: 16 textures, by strength and direction."""

    kind: Literal["texture_classes"]
    batch_size: Positive = 1

    @property
    def classes(self) -> int:
        """K, the number of labels."""
        return 16

    def shape(self, side: int) -> tuple[int, int, int]:
        """One channel, and the cells of a square image of `side` pixels."""
        return 1, side // CELL, side // CELL


class RamRowsSpec(WeightsSpec):
    """The representation of the Recognize Anything Model, or of a student of it in the same layout (DAPE)."""

    kind: Literal["ram"]
    architecture: RamArchitecture = "swin_l"
    batch_size: Positive = 1

    @property
    def width(self) -> int:
        """D, the width of a row."""
        return ram_size_of(self.architecture).width

    def shape(self, side: int) -> tuple[int, int]:
        """Rows and their width, for any image."""
        return ram_size_of(self.architecture).rows, self.width


class ClipVisionSpec(WeightsSpec):
    """The last states of a CLIP image encoder; its sizes are stated, and compared with the checkpoint's."""

    kind: Literal["clip_vision"]
    hidden: Positive = 1280
    rows: Positive = 257
    batch_size: Positive = 1

    @property
    def width(self) -> int:
        """D, the width of a row."""
        return self.hidden

    def shape(self, side: int) -> tuple[int, int]:
        """Rows and their width, for any image."""
        return self.rows, self.hidden


class DepthSpec(WeightsSpec):
    """Depth Anything's relative depth of each cell, stretched to [0, 1] within the image: 1 is near."""

    kind: Literal["depth_anything"]
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """One channel, and the cells of a square image of `side` pixels."""
        return 1, side // CELL, side // CELL


class SegformerLabelsSpec(WeightsSpec):
    """SegFormer's label of each cell; the number of its classes is stated, and compared with the checkpoint's."""

    kind: Literal["segformer"]
    classes: Annotated[int, Field(ge=1, le=255), NUMBER] = 150
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """One channel, and the cells of a square image of `side` pixels."""
        return 1, side // CELL, side // CELL


class SegformerFeaturesSpec(WeightsSpec):
    """SegFormer's fused features of each cell, before its classifier."""

    kind: Literal["segformer_features"]
    channels: Positive = 768
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """Channels, and the cells of a square image of `side` pixels."""
        return self.channels, side // CELL, side // CELL


class KnownLabelsSpec(Spec):
    """The true labels of a procedural scene; in `params.yaml` `scenes` is `data.scenes` and not stated again."""

    kind: Literal["known"]
    scenes: ScenesSpec
    batch_size: Positive = 1

    @property
    def classes(self) -> int:
        """K: label 0 for no texture, and one for each texture."""
        return 1 + MAX_REGIONS

    def shape(self, side: int) -> tuple[int, int, int]:
        """One channel, and the cells of a square image of `side` pixels."""
        return 1, side // CELL, side // CELL


class KnownFeaturesSpec(Spec):
    """The same as features: a channel for every texture."""

    kind: Literal["known"]
    scenes: ScenesSpec
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """Channels, and the cells of a square image of `side` pixels."""
        return MAX_REGIONS, side // CELL, side // CELL


class StudentSpec(WeightsSpec):
    """A small network that says of a degraded picture what an embedded extractor, `of`, says of the original.

    Stage `adapt` trains it; `channels` is its width. A kind for each sort of answer.
    """

    channels: Positive = 32
    precision: Precision = "fp32"
    batch_size: Positive = 1


class StudentMapSpec(StudentSpec):
    """A student of a map in [0, 1]."""

    kind: Literal["student_map"]
    of: PlainMapSpec

    def shape(self, side: int) -> tuple[int, int, int]:
        """The shape of what the teacher `of` makes."""
        return self.of.shape(side)


class StudentLabelsSpec(StudentSpec):
    """A student of labels."""

    kind: Literal["student_labels"]
    of: TextureClassesSpec

    @property
    def classes(self) -> int:
        """K, the number of labels."""
        return self.of.classes

    def shape(self, side: int) -> tuple[int, int, int]:
        """The shape of what the teacher `of` makes."""
        return self.of.shape(side)


class StudentRowsSpec(StudentSpec):
    """A student of rows."""

    kind: Literal["student_rows"]
    of: Annotated[FilterRowsSpec | ColourLayoutSpec, Field(discriminator="kind")]

    @property
    def width(self) -> int:
        """D, the width of a row."""
        return self.of.width

    def shape(self, side: int) -> tuple[int, int]:
        """The shape of what the teacher `of` makes."""
        return self.of.shape(side)


AnyStudentSpec = StudentMapSpec | StudentLabelsSpec | StudentRowsSpec
RowsSpec = Annotated[
    FilterRowsSpec | ColourLayoutSpec | RamRowsSpec | ClipVisionSpec | StudentRowsSpec, Field(discriminator="kind")
]
MapSpec = Annotated[PlainMapSpec | DepthSpec | StudentMapSpec, Field(discriminator="kind")]
LabelsSpec = Annotated[
    TextureClassesSpec | SegformerLabelsSpec | StudentLabelsSpec | KnownLabelsSpec, Field(discriminator="kind")
]
ExtractorSpec = Annotated[
    FilterBankSpec | SamFeaturesSpec | SegformerFeaturesSpec | KnownFeaturesSpec, Field(discriminator="kind")
]
AnyExtractorSpec = ExtractorSpec | RowsSpec | MapSpec | LabelsSpec


def identity_of(spec: AnyExtractorSpec) -> Identity:
    """What computes the features; SAM's are another result than its masks."""
    return identify(spec, VERSIONS, "sam_features" if spec.kind == "sam" else None)
