"""Parquet tables of spans that DuckDB can count where they lie, without a reader between."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from flowstat.estimate.recorded import LONG_AGO, Recorded
from flowstat.read.cells import statuses, words
from flowstat.read.columns import ROOT_WORDS
from flowstat.read.database import files, quoted
from flowstat.read.tables import parquet_spans

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from flowstat.read.traces import TraceFile

__all__ = ["may_be_in_place", "view_in_place"]

# A directory called `name=x` is no column.
OPTIONS = "file_row_number = true, hive_partitioning = false"


def may_be_in_place(file: TraceFile) -> bool:
    """Whether a trace is Parquet of which `view_in_place` may be asked."""
    if file.format != "table":
        return False
    # To DuckDB names that differ in case only are one.
    if any(_has_twins(pq.read_schema(part).names) for part in file.parts):
        return False
    found = {parquet_spans(part, file.origin, file.mapping) for part in file.parts}
    return len(found) == 1 and None not in found


def _has_twins(names: list[str]) -> bool:
    return len({name.lower() for name in names}) < len(names)


def view_in_place(connection: DuckDBPyConnection, file: TraceFile) -> Recorded | None:
    """See a table's Parquet files as `spans`; None if some row of them needs a reader, to be understood or refused.

    Raises
    ------
    duckdb.Error
        If a file is damaged.
    """
    found = {parquet_spans(part, file.origin, file.mapping) for part in file.parts}
    columns = found.pop()
    if found or columns is None or columns.sent:
        return None
    kinds = {(_kind(part, columns.trace), _zoned(part, columns.started)) for part in file.parts}
    kind, _ = kinds.pop()
    if kinds:
        return None

    def ask(what: str) -> list[tuple[object, ...]]:
        return connection.execute(f"select {what} from {source}").fetchall()

    source = f"read_parquet({files(file.parts)}, {OPTIONS})"
    trace, span, parent, name = map(_name, (columns.trace, columns.span, columns.parent, columns.name))
    if kind == "string":
        empty = f"{trace} = '' or trim({span}, '0') = ''"
        # Whole numbers that became decimals are for the reader.
        ids = (trace, span, parent)
        empty += "".join(f" or ends_with({column}, '.0') or contains({column}, 'e+')" for column in ids)
        roots = ["0" * width for width in range(1, 65)]
        roots += [form(word) for word in ROOT_WORDS for form in (str.lower, str.upper, str.title)]
        root = f"{parent} in ({', '.join(map(quoted, roots))})"
    else:
        empty, root = f"{span} = 0", f"{parent} = 0"
    odd = f"{trace} is null or {span} is null or {name} is null or {name} = '' or {empty}"
    if ask(f"count(*) filter ({odd})") != [(0,)]:
        return None

    # The words of an enumeration are in order, and so are their codes.
    connection.execute(f"create type node as enum (select distinct {name} from {source} order by 1)")
    names = [str(text) for (text,) in connection.execute("select unnest(enum_range(null::node))").fetchall()]
    types = dict.fromkeys(("trace_id", "span_id", "parent_id"), kind) | {"name": "int32"}
    made = {
        "trace_id": trace,
        "span_id": span,
        "parent_id": f"case when {root} then null else {parent} end",
        "name": f"enum_code({name}::node)::integer",
        "place": "file_row_number",
    }
    if columns.status:
        status = _name(columns.status)
        said = [str(word) for (word,) in ask(f"distinct {status}") if word is not None]
        meant, unknown = statuses(words(pa.array(said, pa.string())))
        if unknown:
            return None
        other = {word: meaning for word, meaning in zip(said, meant.to_pylist(), strict=True) if meaning != "ok"}
        if other:
            cases = " ".join(f"when {quoted(word)} then '{meaning}'" for word, meaning in other.items())
            made["status"], types["status"] = f"case {status} {cases} else 'ok' end", "string"
    if columns.started:
        made["started_at"] = f"coalesce(epoch_ns({_name(columns.started)}), {LONG_AGO})"
        types["started_at"] = "int64"
    view = ", ".join(f"{what} as {column}" for column, what in made.items())
    connection.execute(f"create view spans as select {view} from {source}")
    return Recorded(types, names)


def _kind(part: Path, column: str | None) -> str:
    kind = pq.read_schema(part).field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return str(kind)


def _zoned(part: Path, column: str | None) -> bool:
    return column is not None and pq.read_schema(part).field(column).type.tz is not None


def _name(column: str | None) -> str:
    return '"' + str(column).replace('"', '""') + '"'
