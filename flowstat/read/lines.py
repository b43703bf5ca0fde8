"""JSON Lines traces taken into a database at the speed of its own reader, where every line is right.

DuckDB reads lines on all cores, some ten times as fast as Python; but it is lenient with types and says little of what
is wrong. So each value is taken as JSON text and checked, and where anything is odd nothing is taken: then
`flowstat.read.jsonlines` reads the file line by line, and says what is wrong.

The file is read twice: what is said is grouped at once, the ids alone are kept. The texts of all rows would not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from flowstat.errors import TraceError
from flowstat.read.canonical import STATUSES
from flowstat.read.database import files
from flowstat.read.opening import packing
from flowstat.read.patterns import parse_pattern

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["load_lines", "view_lines"]

IDS = ("trace_id", "span_id", "parent_id")
TEXTS = ("parent", "name", "key", "sent", "status", "worker")


def load_lines(connection: DuckDBPyConnection, table: str, parts: Sequence[Path]) -> list[dict[str, Any]] | None:
    """Load the ids of canonical JSON Lines into a new table, and count what the lines say.

    Parameters
    ----------
    connection
        See `flowstat.read.database.database`.
    table
        Name of the table: columns trace_id, span_id, parent_id (ubigint, or varchar where they are texts).
    parts
        The trace's files.

    Returns
    -------
    Rows of name, sent, status, root (whether it has no parent_id), parent (of what was dropped) and their number
    n; None if the lines have to be read one by one: one is not as it should be, or has links.
    """
    import duckdb

    # DuckDB does not look at the checksums of packed files.
    if any(packing(part) for part in parts):
        return None
    lines = _lines(parts, dict.fromkeys((*IDS, *TEXTS, "links"), "json"))
    try:
        found = connection.execute(f"select trace_id from {lines} limit 1").fetchall()
        if not found or found[0][0] is None:
            return None
        texts = str(found[0][0]).startswith('"')
        found = connection.execute(f"select {_said(texts)} from {lines} group by all").fetchall()
        said = [row for row in starmap(_row, found) if row is not None]
        if len(said) < len(found):
            return None
        kind = "varchar" if texts else "ubigint"
        connection.execute(f"create table {table} as select * from {_lines(parts, dict.fromkeys(IDS, kind))}")
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error:
        # No JSON, a key twice, or an object beyond the limit: read line by line, the place is found.
        return None
    return said


def _row(
    name: str | None, sent: str | None, status: str | None, root: bool, parent: str | None, n: int, wrong: int
) -> dict[str, Any] | None:
    """Return what so many lines say, its texts no longer JSON; None if it is not as it should be."""
    try:
        words = [None if text is None else orjson.loads(text) for text in (name, sent, status, parent)]
    except orjson.JSONDecodeError:
        return None  # NaN, which DuckDB reads
    if wrong or not all(isinstance(word, str | None) for word in words):
        return None
    name, sent, status, parent = words
    status = "ok" if status is None else status
    try:
        parse_pattern(sent or "")
    except TraceError:
        return None
    if sent is None or status not in STATUSES or (parent is None if status == "dropped" else not name):
        return None
    return {"name": name, "sent": sent, "status": status, "root": root, "parent": parent, "n": n}


def view_lines(connection: DuckDBPyConnection, view: str, parts: Sequence[Path], ids: str) -> None:
    """See lines that `load_lines` found right as a view: their ids (of the type given), name and status."""
    columns = dict.fromkeys(IDS, ids) | {"name": "varchar", "status": "varchar"}
    rest = "* replace (coalesce(status, 'ok') as status)"
    connection.execute(f"create view {view} as select {rest} from {_lines(parts, columns)}")


def _lines(parts: Sequence[Path], columns: dict[str, str]) -> str:
    types = ", ".join(f"{column}: '{kind}'" for column, kind in columns.items())
    # Errors are not ignored: so a key that is there twice is one.
    return f"read_json({files(parts)}, format='newline_delimited', compression='uncompressed', columns={{{types}}})"


def _said(texts: bool) -> str:
    """Return what is counted of the lines as SQL, and of how many lines something else is not as it should be."""
    dropped = "status::varchar = '\"dropped\"'"
    # A line without an id makes these numbers differ; what the groups go by is looked at once a group.
    plain = "2 * count(*) - count(trace_id) - count(span_id) + count(links)"
    unlike = [f"not starts_with({column}, '\"')" for column in ("parent", "key", "worker")]
    wrong = f"count(*) filter ({' or '.join([*unlike, _wrong_ids(texts)])})"
    parent = f"case when {dropped} then parent::varchar end"
    return f"name::varchar, sent::varchar, status::varchar, parent_id is null, {parent}, count(*), {plain} + {wrong}"


def _wrong_ids(texts: bool) -> str:
    """Return as SQL whether an id is no text, or no whole number as JSON writes it."""
    if texts:
        return " or ".join(f"not starts_with({column}, '\"')" for column in IDS)
    # Only a number below 2**64 is read as one, but so are 1.0, 1e3, true and the text of a number.
    digits = f"concat({', '.join(f'{column}::varchar' for column in IDS)})"
    return " or ".join(f"contains({digits}, '{mark}')" for mark in '".eE')
