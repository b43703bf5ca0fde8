"""Ids in the columns of an engine's table: as one type, whole, and none where they stand for none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flowstat.estimate.node_fields import as_text, known
from flowstat.read.columns import ROOT_WORDS
from flowstat.read.whole_ids import EXACT

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["BROKEN", "alike", "broken", "empty", "in_parts", "of_decimals", "roots", "rounded", "whole", "zero"]

BROKEN = "broken_id"
"""Column that says whether an id is a number, but not a whole one that is stored exactly."""

NUMBER = "^[0-9]+([.]0)?$|^[0-9]([.][0-9]+)?e[+][0-9]+$"
DECIMAL = "[.]0$|e[+]"
"""Which of those were written as decimals."""

LARGE = "[0-9]{200}|e[+][0-9]{3}"
"""Those that may be more than an engine takes as a number."""

FIRST = 100
"""How many ids are looked at before all are: mostly they say already that they are no numbers."""


def in_parts(value: ir.Value) -> bool:
    """Return whether a column of numbers can hold parts of one."""
    kind = value.type()
    return bool(kind.is_floating() or (kind.is_decimal() and kind.scale != 0))


def rounded(value: ir.Value) -> ir.BooleanColumn:
    """Return whether a number is so large that its last digits are lost."""
    kind = value.type()
    beyond = 2**24 if kind.is_float32() else EXACT if kind.is_floating() else 2**63
    return (known(value) & (value.abs() > beyond - 1)).fill_null(False)


def broken(value: ir.Value) -> ir.BooleanColumn:
    """Return whether a number is no whole one, or so large that its last digits are lost."""
    import ibis

    # Ibis makes a whole number of what is rounded down, which of others is an error.
    return ibis.cases((~known(value), False), (rounded(value), True), else_=value.floor() != value)


def whole(value: ir.Value) -> ir.Value:
    """Return ids as they are, texts plain; whole numbers beside nulls, stored as doubles, as whole numbers."""
    import ibis

    if value.type().is_string():
        return as_text(value)
    if not in_parts(value):
        return value
    none = ibis.null(value.type())
    return ibis.cases((known(value) & ~broken(value), value), else_=none).cast("int64")


def alike(span: ir.Value, parent: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return ids of spans and of parents as one type."""
    one, other = span.type(), parent.type()
    if one.is_integer() and other.is_decimal():
        return span, parent.cast(one)
    if one.copy(nullable=True) == other.copy(nullable=True) or (one.is_integer() and other.is_integer()):
        return span, parent
    return as_text(span), as_text(parent)


def roots(parent: ir.Value) -> ir.Value:
    """Return parents' ids, null where they say that there is no parent."""
    import ibis

    cased = [change(word) for word in ROOT_WORDS for change in (str.lower, str.upper, str.title)]
    nobody = zero(parent) | parent.isin(cased) if parent.type().is_string() else zero(parent)
    return ibis.ifelse(nobody, ibis.null(parent.type()), parent)


def of_decimals(rows: ir.Table, peek: Callable[[ir.Table], list[dict[str, Any]]]) -> ir.Table:
    """Return spans whose ids in texts are whole numbers again, if they were written as decimals: `1.0`.

    The rule is that of `flowstat.read.whole_ids`, but of all rows at once: what lost digits is `BROKEN`.
    """
    import ibis

    for columns in (("trace_id",), ("span_id", "parent_id")):
        if all(rows[c].type().is_string() for c in columns) and _are_decimals(rows.select(*columns), peek):
            lost = [_lost_digits(rows[c]) for c in columns]
            lost += [rows[BROKEN]] if BROKEN in rows.columns else []
            plain = {c: rows[c].re_replace("[.]0$", "") for c in columns}
            rows = rows.mutate(**plain, **{BROKEN: ibis.or_(*lost)})
    return rows


def _are_decimals(ids: ir.Table, peek: Callable[[ir.Table], list[dict[str, Any]]]) -> bool:
    """Whether all ids are whole numbers, and some were written as decimals."""
    for row in peek(ids.limit(FIRST)):
        if not all(re.search(NUMBER, text) for text in row.values() if text):
            return False

    def some(texts: Sequence[ir.Value]) -> ir.Scalar:
        import ibis

        return ibis.or_(*(text.fill_null(False) for text in texts)).sum()

    columns = [ids[c].nullif("") for c in ids.columns]
    decimal = some([c.re_search(DECIMAL) for c in columns])
    other = some([~c.re_search(NUMBER) for c in columns])
    (found,) = peek(ids.agg(decimal=decimal, other=other))
    return bool(found["decimal"]) and not found["other"]


def _lost_digits(number: ir.Value) -> ir.BooleanColumn:
    """Return whether a text is a decimal beyond what a decimal keeps."""
    import ibis

    decimal = number.re_search(DECIMAL)
    beyond = ibis.cases(
        (number.re_search(LARGE), True), (decimal, number.cast("float64") >= EXACT), else_=ibis.literal(False)
    )
    return (decimal & beyond).fill_null(False)


def zero(value: ir.Value) -> ir.BooleanColumn:
    """Return whether an id is zeros only: which means that there is none; false for a null."""
    kind = value.type()
    if kind.is_numeric():
        found = value == 0
    elif kind.is_string():
        found = (value.replace("0", "") == "") & (value != "")
    elif kind.is_uuid():
        found = as_text(value).re_search("^[0-]*$")
    elif kind.is_binary():
        backends, _ = value.as_table()._find_backends()
        # Ibis writes bytes in a way that PostgreSQL does not take; as a text, zeros are \000 there.
        there = any(backend.name == "postgres" for backend in backends)
        found = as_text(value).re_search(r"^([\\]000)+$") if there else value.isin([bytes(k) for k in range(1, 33)])
    else:
        found = value.isnull() & value.notnull()
    return found.fill_null(False)


def empty(value: ir.Value) -> ir.BooleanColumn:
    """Return whether there is no id."""
    missing = value.isnull()
    return missing | (value == "") if value.type().is_string() else missing
