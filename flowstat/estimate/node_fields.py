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
from flowstat.read.node_columns import node_template
from flowstat.read.whole_ids import EXACT

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["as_text", "joined", "known", "namer"]

BETWEEN = "\x1f"
"""Unit separator: stands between the fields, where there are several."""


def known(value: ir.Value) -> ir.BooleanColumn:
    """Return whether there is a value: not a number is none."""
    there = value.notnull()
    return there & ~value.isnan() if value.type().is_floating() else there


def as_text(value: ir.Value) -> ir.StringValue:
    """Return a value as plain text; a whole number without a point, however it is stored, as in files.

    Types that Ibis takes for text, such as PostgreSQL's enumerations, are none to the engine.
    """
    import ibis
    import ibis.expr.datatypes as types
    import ibis.expr.operations as operations

    text: ir.StringValue = operations.Cast(value, to=types.string).to_expr()
    if value.type().is_floating():
        short = known(value) & (value.abs() < EXACT)
        whole = ibis.cases((short, value.floor() == value), else_=False)
        number = ibis.cases((whole, value), else_=ibis.null(value.type())).cast("int64")
        text = ibis.cases((whole, number.cast("string")), (known(value), text), else_=ibis.null("string"))
    return text


def joined(values: Sequence[ir.StringValue]) -> ir.StringValue:
    """Return the fields of each row in one text; a single field as it is; null where there is nothing in any."""
    import ibis

    first, *rest = values
    whole = first.fill_null("") if rest else first
    for value in rest:
        whole = whole + ibis.literal(BETWEEN) + value.fill_null("")
    return whole.nullif(BETWEEN * len(rest))


def namer(fields: dict[str, str], columns: Columns, mapping: Mapping, origin: str) -> Callable[[str], str]:
    """Return what makes a node's name of the joined fields."""
    template = node_template(columns, mapping)
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
