"""JSON Lines traces taken into a database at the speed of its own reader, where every line is right.

DuckDB reads lines on all cores, some ten times as fast as Python; but it is lenient with types and can't say
which line is wrong. So each value is taken as JSON text and checked, and where anything is odd nothing is taken: then
`flowstat.read.jsonlines` reads the file line by line, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowstat.read.canonical import STATUSES
from flowstat.read.database import is_pattern, quoted
from flowstat.read.opening import packing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["QUOTED", "load_lines"]

QUOTED = "lines"
"""The table behind, whose texts are still JSON."""

IDS = ("trace_id", "span_id", "parent_id")
TEXTS = ("parent", "name", "sent", "status")


def load_lines(connection: DuckDBPyConnection, table: str, parts: Sequence[Path]) -> bool:
    """Load canonical JSON Lines into a new table, if every line is one row that can be counted.

    Parameters
    ----------
    connection
        See `flowstat.read.database.database`.
    table
        Name of the table: columns trace_id, span_id, parent_id (ubigint, or varchar where they are texts), parent,
        name, sent, status (varchar), and links where any line has some.
    parts
        The trace's files.

    Returns
    -------
    Whether the table was made; if not, the lines have to be read one by one.
    """
    import duckdb

    columns = [*IDS, *TEXTS, "links"]
    types = ", ".join(f"{column}: 'json'" for column in columns)
    # DuckDB does not look at the checksums of packed files.
    if any(packing(part) or is_pattern(part) for part in parts):
        return False
    files = ", ".join(quoted(str(part)) for part in parts)
    lines = (
        f"read_json([{files}], format='newline_delimited', ignore_errors=true, compression='uncompressed', "
        f"columns={{{types}}})"
    )
    try:
        found = connection.execute(f"select trace_id from {lines} limit 1").fetchall()
        if not found or found[0][0] is None:
            return False
        texts = str(found[0][0]).startswith('"')
        connection.execute(f"create table {QUOTED} as select {_values(texts)} from {lines}")
        ((wrong, links, escaped),) = connection.execute(f"select {_checks(texts)} from {QUOTED}").fetchall()
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error:
        # Such as a damaged archive, or an object beyond the limit: read line by line, the place is found.
        wrong = True
    if wrong:
        connection.execute(f"drop table if exists {QUOTED}")
        return False
    text = "json_extract_string({0}, '$')" if escaped else "substr({0}::varchar, 2, length({0}::varchar) - 2)"
    columns = [f"{text.format(c)} as {c}" if texts else c for c in IDS]
    columns += [f"{text.format(c)} as {c}" for c in TEXTS if c != "status"]
    columns.append(f"coalesce({text.format('status')}, 'ok') as status")
    columns += ["links"] if links else []
    connection.execute(f"create view {table} as select {', '.join(columns)} from {QUOTED}")
    return True


def _values(texts: bool) -> str:
    """Return what is kept of a line as SQL: ids as numbers if they are such, all else as JSON."""
    kind = "varchar" if texts else "ubigint"
    values = [*IDS] if texts else [f"try_cast({c}::varchar as ubigint) as {c}" for c in IDS]
    values += TEXTS
    link = f"struct(trace_id {kind}, span_id {kind})[]"
    values.append(f"try_cast(links as {link}) as links")
    wrong = [f"links is not null and try_cast(links as {link}) is null"]
    if not texts:
        # A number with a point or an exponent is no id, though it can be cast.
        wrong.append("parent_id is not null and try_cast(parent_id::varchar as ubigint) is null")
        digits = "(trace_id::varchar || span_id::varchar || coalesce(parent_id::varchar, ''))"
        wrong += [f"contains({digits}, '{mark}')" for mark in ".e"]
    values.append(f"coalesce({' or '.join(wrong)}, false) as wrong")
    return ", ".join(values)


def _checks(texts: bool) -> str:
    """Return as SQL: how many lines are wrong, how many have links, and how many texts have escapes."""
    missing = "trace_id is null or span_id is null or sent is null"
    texts_in = [*TEXTS, *(IDS if texts else ())]
    unlike = " or ".join(f"not starts_with({column}, '\"')" for column in texts_in)
    known = ", ".join(f"'\"{status}\"'" for status in STATUSES)
    unnamed = "(name is null or name::varchar = '\"\"') and status::varchar is distinct from '\"dropped\"'"
    escaped = " or ".join(f"contains({column}, '\\')" for column in texts_in)
    wrong = f"wrong or {missing} or {unnamed} or coalesce({unlike} or status::varchar not in ({known}), false)"
    return f"count(*) filter ({wrong}), count(links), count(*) filter (coalesce({escaped}, false))"
