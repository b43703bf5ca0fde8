"""Ids in the columns of an engine's table: as one type, whole, and none where they stand for none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstat.estimate.node_fields import as_text

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["alike", "broken", "empty", "in_parts", "whole", "zero"]


def in_parts(value: ir.Value) -> bool:
    """Return whether a column of numbers can hold parts of one."""
    kind = value.type()
    return bool(kind.is_floating() or (kind.is_decimal() and kind.scale != 0))


def _known(value: ir.Value) -> ir.BooleanColumn:
    known = value.notnull()
    return known & ~value.isnan() if value.type().is_floating() else known


def broken(value: ir.Value) -> ir.BooleanColumn:
    """Return whether a number is no whole one, or so large that its last digits are lost."""
    import ibis

    kind = value.type()
    limit = 2**24 if kind.is_float32() else 2**53 if kind.is_floating() else 2**63 - 1
    wrong = ibis.cases((value.abs() > limit, True), else_=value.floor() != value)
    return (_known(value) & wrong).fill_null(False)


def whole(value: ir.Value) -> ir.Value:
    """Return ids as they are; whole numbers beside nulls, stored as doubles, as whole numbers."""
    import ibis

    if not in_parts(value):
        return value
    none = ibis.null(value.type())
    return ibis.cases((_known(value) & ~broken(value), value), else_=none).cast("int64")


def alike(span: ir.Value, parent: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return ids of spans and of parents as one type."""
    one, other = span.type(), parent.type()
    if one.is_integer() and other.is_decimal():
        return span, parent.cast(one)
    if one.copy(nullable=True) == other.copy(nullable=True) or (one.is_integer() and other.is_integer()):
        return span, parent
    return as_text(span), as_text(parent)


def zero(value: ir.Value) -> ir.BooleanColumn:
    """Return whether an id is zeros only: which means that there is none; false for a null."""
    kind = value.type()
    if kind.is_numeric():
        found = value == 0
    elif kind.is_string():
        found = (value.replace("0", "") == "") & (value != "")
    else:
        found = value.isnull() & value.notnull()
    return found.fill_null(False)


def empty(value: ir.Value) -> ir.BooleanColumn:
    """Return whether there is no id."""
    missing = value.isnull()
    return missing | (value == "") if value.type().is_string() else missing
