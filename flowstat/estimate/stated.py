"""Counting rows that say themselves what each event sent: only their ids have to be looked at, not joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstat.estimate.counts import Counts
from flowstat.estimate.tally import tree_counts
from flowstat.read.ancestors import refuse_cycles
from flowstat.read.notices import Notices
from flowstat.read.resolve import ORPHANS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["count_stated"]


HASHES = 1 << 24
"""How many events are looked at together: 128 MB."""


def count_stated(
    connection: DuckDBPyConnection,
    table: str,
    origin: str,
    notices: Notices,
    said: list[dict[str, Any]] | None = None,
) -> Counts | None:
    """Count a table of canonical rows, each with its send pattern; None if some event is in it twice.

    Parameters
    ----------
    table
        Columns trace_id, span_id, parent_id, and, unless they are counted already, parent, name, sent, status.
    said
        What the rows say, if it is counted already: name, sent, status, root, parent (of what was dropped), n.

    Raises
    ------
    TraceError
        If an event is among its own ancestors, or a send pattern is none.
    """

    def ask(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    if not _are_distinct(connection, table):
        return None
    refuse_cycles(connection, table, origin)
    alone = f"""from {table} a anti join {table} b on a.trace_id = b.trace_id and a.parent_id = b.span_id
        where a.parent_id is not null"""
    ((orphans,),) = ask(f"select count(*) {alone}")
    if orphans:
        ((trace, span),) = ask(f"select trace_id, span_id {alone} order by all limit 1")
        notices.note(ORPHANS, f"{origin}: trace {trace}, span {span}", orphans)
    if said is None:
        columns = ("name", "sent", "status", "root", "parent", "n")
        found = ask(
            f"""select name, sent, status, parent_id is null, case when status = 'dropped' then parent end, count(*)
            from {table} group by all"""
        )
        said = [dict(zip(columns, row, strict=True)) for row in found]
    # Orphans are told of already, and no row is its own parent: as if every parent were there.
    known = {"children": None, "selves": 0, "unsaid": 0}
    return tree_counts([row | known | {"messages": 0 if row["root"] else row["n"]} for row in said], origin, notices)


def _are_distinct(connection: DuckDBPyConnection, table: str) -> bool:
    """Whether no event is in a table twice.

    Different hashes prove it, and numpy sorts them ten times as fast as a database groups; only where two are equal
    are the events themselves grouped.
    """
    key = "hash(trace_id, span_id)"
    ((rows,),) = connection.execute(f"select count(*) from {table}").fetchall()
    shares = rows // HASHES + 1
    for share in range(shares):
        some = f"where {key} % {shares} = {share}" if shares > 1 else ""
        hashes = connection.sql(f"select {key} as h from {table} {some}").fetchnumpy()["h"]
        hashes.sort()
        if (hashes[1:] == hashes[:-1]).any():
            twice = f"select 1 from {table} group by trace_id, span_id having count(*) > 1 limit 1"
            return not connection.execute(twice).fetchall()
    return True
