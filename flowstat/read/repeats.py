"""Events that were recorded twice: which of their rows counts. One rule, for every format and every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["IDS", "by_bytes", "distinct_spans", "repeated"]

IDS = ("trace_id", "span_id")

CONTENT = ("name", "sent", "status", "parent_id", "started_at", "parent", "sent_at", "ended_at", "key", "worker")
"""The columns by which rows of one event are put in order, the first first."""


def repeated(spans: ir.Table) -> ir.Table:
    """Return trace_id, span_id and the number of rows of each event that has several."""
    rows = spans.group_by(*IDS).agg(rows=spans.count())
    return rows.filter(rows.rows > 1)


def distinct_spans(spans: ir.Table, order: Mapping[str, Callable[[ir.Table], ir.Value]] | None = None) -> ir.Table:
    """Return one row of each event: one that was handled before others, then the first by content.

    Parameters
    ----------
    spans
        Columns trace_id and span_id, and any others.
    order
        By what rows are put in order in place of some column, where that does not sort as it should.

    Notes
    -----
    Handled are the statuses ok and error. Content is compared column by column: the node's name, the send pattern,
    the status, the parent's id, the start, the sender, the other times (sending, end), key and worker, then what
    other columns there are: first what counts depend on, so that what they do not read can't matter to them. Texts go
    by their bytes in UTF-8, which is the order of their code points; ids are compared as texts, numbers too ("10" is
    before "9"), since other formats have the same ids as texts. What is unknown comes last.
    """
    import ibis

    again = spans.semi_join(repeated(spans), IDS)
    names = [c for c in CONTENT if c in again.columns]
    names += [c for c in again.columns if c not in (*IDS, *CONTENT) and not again[c].type().is_nested()]
    special = {"parent_id": _id_as_text} | dict(order or {})
    values = [special[c](again) if c in special else again[c] for c in names]
    keys = [by_bytes(value).asc(nulls_first=False) for value in values]
    if "status" in again.columns:
        keys.insert(0, ibis.ifelse(again.status.isin(["ok", "error"]), 0, 1).asc())
    place = ibis.row_number().over(ibis.window(group_by=[again[c] for c in IDS], order_by=keys))
    chosen = again.mutate(place=place).filter(ibis._.place == 0).select(*spans.columns)
    return spans.anti_join(repeated(spans), IDS).union(chosen)


def _id_as_text(spans: ir.Table) -> ir.Value:
    return spans.parent_id if spans.parent_id.type().is_string() else spans.parent_id.cast("string")


def by_bytes(value: ir.Value) -> ir.Value:
    """Return what sorts as a text's bytes do; other values, and texts of engines that sort so anyway, as they are."""
    if not value.type().is_string():
        return value
    backends, _ = value.as_table()._find_backends()
    # PostgreSQL sorts texts as the database's language does.
    return _octets()(value) if any(backend.name == "postgres" for backend in backends) else value


@cache
def _octets() -> Callable[[ir.Value], ir.Value]:
    import ibis
    import ibis.expr.datatypes as types

    @ibis.udf.scalar.builtin(name="convert_to", signature=((types.string, types.string), types.binary))
    def convert(text, encoding):  # type: ignore[no-untyped-def]
        """PostgreSQL's bytes of a text."""

    return lambda value: convert(value, "UTF8")
