"""All columns there are for the methods that are run: the common ones, and what each method needs beyond them."""

from collections.abc import Mapping

from spasemsr.data.columns import Column, common_columns
from spasemsr.methods import method
from spasemsr.methods.face import Section


def columns_of(sections: Mapping[str, Section]) -> dict[str, Column]:
    """Columns by name, in the order of their stages, for methods with these sections."""
    read = {name for section in sections.values() for name in section.model.columns}
    return common_columns(read) | {column.name: column for name in sections for column in method(name).columns()}
