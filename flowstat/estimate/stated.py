"""Counting rows that say themselves what each event sent: only their ids have to be looked at, not joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from flowstat.estimate.counts import Counts
from flowstat.estimate.tally import tree_counts
from flowstat.read.ancestors import refuse_cycles
from flowstat.read.notices import Notices
from flowstat.read.resolve import ORPHANS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["count_stated"]


def count_stated(
    connection: DuckDBPyConnection, table: str, origin: str, notices: Notices, quoted: bool = False
) -> Counts | None:
    """Count a table of canonical rows, each with its send pattern; None if some event is in it twice.

    Parameters
    ----------
    table
        Columns trace_id, span_id, parent_id, parent, name, sent, status.
    quoted
        Whether its texts are in JSON: only the distinct ones need then be read.

    Raises
    ------
    TraceError
        If an event is among its own ancestors, or a send pattern is none.
    """

    def ask(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    if ask(f"select 1 from {table} group by trace_id, span_id having count(*) > 1 limit 1"):
        return None
    refuse_cycles(connection, table, origin)
    ((orphans, trace, span),) = ask(
        f"""select count(*), min(a.trace_id), min(a.span_id) from {table} a
        anti join {table} b on a.trace_id = b.trace_id and a.parent_id = b.span_id where a.parent_id is not null"""
    )
    if orphans:
        notices.note(ORPHANS, f"{origin}: trace {trace}, span {span}", orphans)
    columns = ("name", "sent", "status", "root", "parent", "n")
    dropped = '"dropped"' if quoted else "dropped"
    found = ask(
        f"""select name, sent, status, parent_id is null, case when status = '{dropped}' then parent end, count(*)
        from {table} group by all"""
    )
    if quoted:
        found = [tuple(orjson.loads(v) if isinstance(v, str) else v for v in row) for row in found]
    # Orphans are told of already, and no row is its own parent: as if every parent were there.
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    rows = [row | {"status": row["status"] or "ok"} for row in rows]
    known = {"children": None, "selves": 0, "unsaid": 0}
    return tree_counts([row | known | {"messages": 0 if row["root"] else row["n"]} for row in rows], origin, notices)
