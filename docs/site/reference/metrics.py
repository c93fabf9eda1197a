"""Every metric, from their table."""

from __future__ import annotations

from megabroker.ops.metrics.table import FAMILIES
from reference.rest import described, plain

__all__ = ["text"]


def text() -> str:
    """Return the page, without its title."""
    pieces = []
    for family in FAMILIES:
        labels = ", ".join(f"``{label}``" for label in family.labels)
        said = f"{plain(family.help)} A {family.kind}" + (f", by {labels}." if labels else ".")
        pieces.append(described("describe", family.name, [said]))
    return "\n".join(pieces)
