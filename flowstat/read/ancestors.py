"""No event is among its own ancestors: a run that could have happened is a forest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstat.errors import TraceError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["refuse_cycles"]


def refuse_cycles(connection: DuckDBPyConnection, table: str, origin: str) -> None:
    """Raise if following the parents of some event leads back to it.

    Parameters
    ----------
    table
        A table or view with trace_id, span_id and parent_id.
    origin
        The trace's name in the message.

    Raises
    ------
    TraceError
        Naming such an event.

    Notes
    -----
    Ids that grow from parent to child, as counters do, prove that there is no cycle, at the cost of one scan. In
    runs where some do not, every event jumps to its ancestor's ancestor until it has passed the root; what has not
    after log2(n) jumps never will.
    """
    ((doubtful,),) = _all(connection, f"select count(*) from {table} where parent_id >= span_id")
    if not doubtful:
        return
    connection.execute(
        f"""create temp table up as select distinct trace_id, span_id, parent_id as above from {table}
        where parent_id is not null and trace_id in (select trace_id from {table} where parent_id >= span_id)"""
    )
    ((left,),) = _all(connection, "select count(*) from up")
    for _ in range(int(left).bit_length() + 1):
        if not left:
            break
        connection.execute(
            """create or replace temp table higher as select a.trace_id, a.span_id, b.above
            from up a join up b on a.trace_id = b.trace_id and a.above = b.span_id"""
        )
        connection.execute("drop table up; alter table higher rename to up")
        ((left,),) = _all(connection, "select count(*) from up")
    if left:
        ((trace, span),) = _all(connection, "select trace_id, span_id from up order by all limit 1")
        raise TraceError(
            f"{origin}: trace {trace}, span {span}: this event is among its own ancestors ({left:,} events hang on a "
            "cycle of parents): the ids are damaged"
        )
    connection.execute("drop table up")


def _all(connection: DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()
