"""A table of any columns on an engine, seen as the columns that counting knows.

What words and numbers mean is as in files (`flowstat.read.rows`), said as expressions that the engine computes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Words
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from flowstat.errors import TraceError
from flowstat.estimate.id_columns import (
    BROKEN,
    alike,
    broken,
    empty,
    in_parts,
    of_decimals,
    roots,
    rounded,
    whole,
    zero,
)
from flowstat.estimate.node_fields import as_text, joined, namer
from flowstat.read.canonical import REQUIRED
from flowstat.read.columns import ERROR_WORDS, OK_WORDS, Columns, find_columns
from flowstat.read.mapping import Mapping
from flowstat.read.node_columns import fields_of, node_template
from flowstat.read.repeats import IDS
from flowstat.read.words import shown

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["Found", "Prepared", "prepare"]

SEQUENCE = ("row", "rownumber", "rownr", "seq", "sequence", "sequencenumber", "position", "eventnumber", "eventnr")
"""Names of a column of whole numbers that says in which order a log's events came, `_` left out."""

UNKNOWN = "unknown_status"
"""Column that says whether a status is no word that is known."""

BAD = "bad_row"
"""Column that says whether a row has not as many fields as there are columns."""

WRONG = {BROKEN: "whole number as an id", BAD: "fitting number of fields"}
"""What a row does not have where such a column is true; what else it lacks does not matter then."""


@dataclass(frozen=True)
class Found:
    """A table as it is on an engine.

    Attributes
    ----------
    order
        The column that says the order of its rows, if the engine knows it.
    bad
        The column that has something where a row has not as many fields as there are columns, if any.
    """

    table: ir.Table
    order: str | None = None
    bad: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A table of an engine as `flowstat.estimate.expression` takes it.

    Attributes
    ----------
    shape
        `spans` or `log`.
    recorded
        All rows, with canonical columns, `UNKNOWN` for spans with a status, and those of `WRONG` where rows may be so.
    unlinked
        Whether the table has links, but not as a list that the engine can take apart.
    lost
        By what a row may lack, which rows do.
    node
        Returns the node for a name: several fields of a name come as one text, and are put together when only
        the different ones are left.
    """

    shape: Literal["spans", "log"]
    recorded: ir.Table
    lost: Words[str, ir.BooleanColumn]
    node: Callable[[str], str]
    unlinked: bool = False

    def check(self) -> ir.Table:
        """Return a table of one row: how many rows lack what, and how many have an unknown status (`UNKNOWN`)."""
        import ibis

        looked: dict[str, Any] = dict(self.lost)
        if UNKNOWN in self.recorded.columns:
            looked[UNKNOWN] = self.recorded[UNKNOWN]
        return self.recorded.agg(**{what: ibis.coalesce(found.sum(), 0) for what, found in looked.items()})

    def rows(self, all_whole: bool) -> ir.Table:
        """Return the rows that lack nothing; `all_whole` says that all are so."""
        rows = self.recorded if all_whole else self.recorded.filter(*(~lost for lost in self.lost.values()))
        return rows.drop(*(c for c in (UNKNOWN, *WRONG) if c in rows.columns))


def prepare(found: Found, mapping: Mapping, origin: str, peek: Callable[[ir.Table], list[dict[str, Any]]]) -> Prepared:
    """Find the columns of a table and give them their canonical names and values.

    Parameters
    ----------
    found
        Columns of any names: `find_columns` says which means what.
    peek
        Runs a small query.

    Raises
    ------
    TraceError
        If a column is missing or ambiguous, or is of no type that fits.
    """
    table = found.table
    names = [c for c in table.columns if c not in (found.order, found.bad)]
    columns = find_columns(names, mapping, origin)
    fields = fields_of(columns, node_template(columns, mapping), names, origin)
    made: dict[str, ir.Value] = {"name": joined([as_text(table[column]) for column in fields.values()])}
    if found.bad:
        made[BAD] = table[found.bad].notnull()
    if columns.shape == "log":
        made |= _log(found, names, columns, mapping, origin, peek)
        recorded = table.select(**made)
        lost = {"case": empty(recorded.trace_id), "activity": recorded.name.isnull()}
    else:
        canonical = set(REQUIRED) <= set(names) and columns.parent == "parent_id"
        made |= _spans(found, columns, mapping, origin, canonical, peek)
        as_written = table.select(**made)
        recorded = of_decimals(as_written, peek)
        if recorded is not as_written and not canonical:
            # What was 0.0 is zero now.
            recorded = recorded.mutate(parent_id=roots(recorded.parent_id))
        nameless = recorded.name.isnull()
        if "status" in made:
            nameless &= recorded.status != "dropped"
        span = empty(recorded.span_id)
        if not canonical:
            span |= zero(recorded.span_id)
        lost = {"trace id": empty(recorded.trace_id), "span id": span, "name": nameless}
    for column, what in WRONG.items():
        if column in recorded.columns:
            wrong = recorded[column]
            lost = {what: wrong} | {other: missing & ~wrong for other, missing in lost.items()}
    node = namer(fields, columns, mapping, origin)
    return Prepared(columns.shape, recorded, lost, node, columns.shape == "spans" and _unlinked(table, canonical))


def _log(
    found: Found, names: Sequence[str], columns: Columns, mapping: Mapping, origin: str, peek: Callable[..., Any]
) -> dict[str, ir.Value]:
    """Return the columns of a log, but for the name."""
    assert columns.case is not None
    table = found.table
    case = table[columns.case]
    decimal = case.type().is_floating()
    made: dict[str, ir.Value] = {"trace_id": as_text(case) if decimal or case.type().is_string() else case}
    if decimal:
        made[BROKEN] = rounded(case)
    if columns.time is not None:
        made["started_at"] = _time(table, columns.time, mapping.cut is not None, origin, peek)
    sequence = (c for c in names if re.sub("[_ ]", "", c).lower() in SEQUENCE and table[c].type().is_integer())
    order = found.order or next(sequence, None)
    return made if order is None else made | {"row": table[order]}


def _spans(
    found: Found, columns: Columns, mapping: Mapping, origin: str, canonical: bool, peek: Callable[..., Any]
) -> dict[str, ir.Value]:
    """Return the columns of spans, but for the name. In canonical tables, only a null is no parent."""
    import ibis

    assert columns.trace is not None
    assert columns.span is not None
    assert columns.parent is not None
    table = found.table
    ids = [table[column] for column in (columns.trace, columns.span, columns.parent)]
    doubtful = [broken(value) for value in ids if in_parts(value)]
    trace, span, parent = map(whole, ids)
    span, parent = alike(span, parent)
    if not canonical:
        parent = roots(parent)
    made: dict[str, ir.Value] = {"trace_id": trace, "span_id": span, "parent_id": parent}
    if doubtful:
        made[BROKEN] = ibis.or_(*doubtful)
    if columns.sent is not None:
        made["sent"] = as_text(table[columns.sent])
    if columns.status is not None:
        word = as_text(table[columns.status]).strip().lower()
        # A code beside nulls is a decimal in pandas.
        word = ibis.ifelse(word.re_search("^[0-9]+[.]0+$"), word.re_replace("[.]0+$", ""), word)
        made["status"] = ibis.cases(
            (word.isin((*ERROR_WORDS,)), "error"),
            (word == "dropped", "dropped"),
            (word == "pending", "pending"),
            else_="ok",
        )
        made[UNKNOWN] = word.notnull() & word.notin((*ERROR_WORDS, *OK_WORDS, "dropped", "pending"))
    if canonical:
        made["parent"] = as_text(table["parent"])
        if "links" in table.columns and not _unlinked(table, canonical):
            made["links"] = table["links"]
    if columns.started is not None:
        started = table[columns.started]
        # Whole numbers of a canonical table are its nanoseconds, on engines that have none.
        exact = canonical and started.type().is_integer()
        backends, _ = table._find_backends()
        nanoseconds = started.type().is_unknown() and all(backend.name == "duckdb" for backend in backends)
        if exact:
            made["started_at"] = started
        elif mapping.cut is not None or nanoseconds or started.type().is_timestamp():
            # Other times may be none, which matters only where they are asked for.
            made["started_at"] = _time(table, columns.started, True, origin, peek)
    return made


def _unlinked(table: ir.Table, canonical: bool) -> bool:
    """Return whether a canonical table has the column `links`, but not as a list of {trace_id, span_id}."""
    import ibis.expr.operations as ops

    if not canonical or "links" not in table.columns:
        return False
    kind = table["links"].type()
    lists = kind.is_array() and kind.value_type.is_struct() and set(kind.value_type.names) >= set(IDS)
    backends, _ = table._find_backends()
    return not (lists and all(backend.has_operation(ops.Unnest) for backend in backends))


@cache
def _epoch_ns() -> Callable[[ir.Value], ir.Value]:
    import ibis
    import ibis.expr.datatypes as types

    @ibis.udf.scalar.builtin(name="epoch_ns", signature=((types.unknown,), types.int64))
    def nanoseconds(value):  # type: ignore[no-untyped-def]
        """Whole nanoseconds since 1970, as DuckDB knows them."""

    made: Callable[[ir.Value], ir.Value] = nanoseconds
    return made


def _time(table: ir.Table, column: str, exact: bool, origin: str, peek: Callable[..., Any]) -> ir.Value:
    """Return times as timestamps, or as numbers: `exact` says that these have to be nanoseconds."""
    value = table[column]
    kind = value.type()
    if kind.is_timestamp():
        return value
    if kind.is_date():
        return value.cast("timestamp")
    if kind.is_unknown():
        # DuckDB's timestamps of nanoseconds with a zone, which Ibis does not know: they can be put in order at least.
        return _epoch_ns()(value) if exact else value
    if kind.is_string():
        value = as_text(value).strip().nullif("")
        some = peek(table.select(time=value).filter(value.notnull()).limit(1))
        if not some or not re.fullmatch(r"[+-]?[0-9]+", some[0]["time"]):
            # With a zone, so that one in the text counts, and none means UTC.
            return value.cast("timestamp('UTC')")
        value = value.cast("int64")
    elif not kind.is_numeric() or kind.is_boolean():
        raise TraceError(f"{origin}: the column {shown(repr(column))} holds no times, but {kind}: name one with --time")
    return _nanoseconds(value) if exact else value


def _nanoseconds(value: ir.Value) -> ir.Value:
    """Return times of whatever unit as nanoseconds: the largest says which, see `flowstat.read.times`."""
    import ibis

    largest = value.abs().max().as_scalar()
    steps = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
    unit = ibis.cases(*((largest < below, unit) for below, unit in steps), else_=1)
    return (value * unit).cast("int64")
