"""The nodes of rows on an engine: their fields travel in one text, and only the different ones are put together here.

So a template means the same as in files, whatever the engine can do with texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from flowstat.errors import TraceError
from flowstat.read.cells import pod_service
from flowstat.read.columns import Columns
from flowstat.read.mapping import Mapping
from flowstat.read.nodes import template_of
from flowstat.read.words import shown

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["as_text", "fields_of", "joined", "namer", "nothing_in"]

BETWEEN = "\x1f"
"""Unit separator: stands between the fields, where there are several."""


def as_text(value: ir.Value) -> ir.StringValue:
    """Return a value as text."""
    text: ir.StringValue = value if value.type().is_string() else value.cast("string")
    return text


def fields_of(columns: Columns, names: Sequence[str], mapping: Mapping, origin: str) -> dict[str, str]:
    """Return the fields that make a node's name, and the column of each.

    Raises
    ------
    TraceError
        If a field of the template is no column.
    """
    own = columns.activity or columns.name
    template = template_of(_template(columns, mapping))
    if template is None:
        assert own is not None
        return {"name": own}
    known = {"service": columns.service or (columns.worker if columns.pod else None), "name": own}
    known |= {"worker": columns.worker, "key": columns.key, "status": columns.status}
    found: dict[str, str] = {}
    for field in template.fields:
        column = known.get(field) or (field if field in names else None)
        if column is None:
            some = ", ".join(repr(shown(name)) for name in names[:20]) + (", ..." if len(names) > 20 else "")
            raise TraceError(
                f"{origin} has no column {shown(repr(field))}, a field of the template of nodes; it has {some}"
            )
        found[field] = column
    return found


def _template(columns: Columns, mapping: Mapping) -> str | None:
    return mapping.node or ("{service}.{name}" if columns.service or columns.pod else None)


def joined(values: Sequence[ir.StringValue]) -> ir.StringValue:
    """Return the fields of each row in one text; a single field as it is."""
    first, *rest = values
    if not rest:
        return first
    import ibis

    whole = first.fill_null("")
    for value in rest:
        whole = whole + ibis.literal(BETWEEN) + value.fill_null("")
    return whole


def nothing_in(names: ir.StringColumn, fields: int) -> ir.BooleanColumn:
    """Return which joined texts have nothing in any of so many fields."""
    return names.isnull() | (names == BETWEEN * (fields - 1))


def namer(fields: dict[str, str], columns: Columns, mapping: Mapping, origin: str) -> Callable[[str], str]:
    """Return what makes a node's name of the joined fields."""
    template = template_of(_template(columns, mapping))
    if template is None:
        return str
    pods = columns.service is None

    @cache
    def node(text: str) -> str:
        values = text.split(BETWEEN)
        if len(values) != len(fields):
            where = " or ".join(map(repr, fields.values()))
            raise TraceError(f"{origin}: a control character (U+001F) in {where}: no node's name can hold it")
        words = dict(zip(fields, values, strict=True))
        if pods and "service" in words:
            words["service"] = pod_service(words["service"])
        return template.name(words)

    return node
