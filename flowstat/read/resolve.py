"""Spans and logs made canonical: each event once, with who sent it and what it sent.

A child span is a message its parent sent; the send pattern of an event is the sorted multiset of its
children's nodes. In a log, the next event of the case is the only child. The work is done in a
database on disk, so that it takes memory for none of the rows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.ancestors import refuse_cycles
from flowstat.read.canonical import LONELY, links_type, schema
from flowstat.read.database import database, load
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from flowstat.read.traces import TraceFile

__all__ = ["DUPLICATES", "ORPHANS", "canonical_batches"]

ROWS = 1 << 18

DUPLICATES = "events recorded twice, counted once"
ORPHANS = "events whose parent was not recorded, counted but starting no run"

WORDS = ("parent", "name", "key", "sent", "status", "worker")


def canonical_batches(
    file: TraceFile, notices: Notices, memory: int | None = None
) -> Generator[pa.RecordBatch, None, None]:
    """Read a trace as canonical rows, in the order they were recorded, with the column `links` where it has any.

    The rows of a marked trace come as they are. Of others, the same event recorded twice comes once, and what
    a file does not say itself (parent, send pattern) follows from its ids.

    Raises
    ------
    TraceError
        If a file can't be read, or an event is among its own ancestors.
    """
    if file.format == "counts":
        raise TraceError(f"{file.origin} holds counts: the rows that were counted can't be had from it")
    marks = file.marks()
    if marks is not None:
        if marks.orphans:
            notices.note(ORPHANS, file.origin, marks.orphans)
        yield from _telling(file.batches(notices), marks.orphans)
        return
    batches = file.batches(notices)
    first = next(batches, None)
    if first is None:
        return
    with database(memory) as connection:
        if "span_id" in first.schema.names:
            yield from _spans(connection, first, batches, notices, file.origin)
        else:
            yield from _log(connection, first, batches)


def _telling(batches: Iterator[pa.RecordBatch], orphans: int) -> Iterator[pa.RecordBatch]:
    """Let the first batch say how many orphans there are, for a count that won't look at the ids."""
    for k, batch in enumerate(batches):
        yield batch.replace_schema_metadata({LONELY: str(orphans)}) if orphans and not k else batch


def _plain(shape: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in shape])


def _spans(
    connection: DuckDBPyConnection,
    first: pa.RecordBatch,
    rest: Iterator[pa.RecordBatch],
    notices: Notices,
    origin: str,
) -> Iterator[pa.RecordBatch]:
    ids = first.schema.field("trace_id").type
    shape = _plain(pa.schema([*schema(ids), pa.field("links", links_type(ids))]))

    def whole(batch: pa.RecordBatch) -> pa.RecordBatch:
        names = batch.schema.names
        columns = [
            batch.column(names.index(f.name)).cast(f.type) if f.name in names else pa.nulls(len(batch), f.type)
            for f in shape
        ]
        return pa.RecordBatch.from_arrays(columns, schema=shape)

    load(connection, "recorded", chain([first], rest), shape, whole)
    connection.execute(
        """create table event as select * exclude (choice) from (
            select *, rowid as at, row_number() over (
                partition by trace_id, span_id
                order by status not in ('ok', 'error'), name, sent, status, parent_id, rowid
            ) as choice from recorded
        ) where choice = 1"""
    )
    orphans = _notice(connection, notices, origin)
    connection.execute(
        """create table child as
            select trace_id, parent_id as span_id, list_sort(list(name)) as names from event
            where parent_id is not null and status <> 'dropped' group by trace_id, parent_id"""
    )
    patterns = [(names, format_pattern(names)) for (names,) in _rows(connection, "select distinct names from child")]
    _table(connection, "pattern", {"names": [n for n, _ in patterns], "sent": [s for _, s in patterns]})
    linked = _rows(connection, "select 1 from recorded where len(links) > 0 limit 1")
    result = connection.sql(
        """select e.* replace (
            coalesce(e.parent, p.name) as parent,
            coalesce(e.sent, s.sent, '') as sent
        ) from event e
        left join event p on e.trace_id = p.trace_id and e.parent_id = p.span_id
        left join child c on e.trace_id = c.trace_id and e.span_id = c.span_id
        left join pattern s on c.names = s.names
        order by e.at"""
    )
    yield from _telling(_canonical(result, ids, bool(linked)), orphans)


def _notice(connection: DuckDBPyConnection, notices: Notices, origin: str) -> int:
    """Say what was left out, refuse an event that is among its own ancestors, return how many orphans there are."""
    refuse_cycles(connection, "event", origin)
    again = """select coalesce(sum(again), 0), min(trace_id), min(span_id) from (
        select trace_id, span_id, count(*) - 1 as again from recorded group by all having again > 0)"""
    lonely = """select count(*), min(trace_id), min(span_id) from event e where parent_id is not null and not exists (
        select 1 from event p where p.trace_id = e.trace_id and p.span_id = e.parent_id)"""
    for what, query in ((DUPLICATES, again), (ORPHANS, lonely)):
        ((number, trace, span),) = _rows(connection, query)
        if number:
            notices.note(what, f"{origin}: trace {trace}, span {span}", int(number))
    return int(number)


def _log(
    connection: DuckDBPyConnection, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    shape = _plain(first.schema)

    def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(
            [batch.column(batch.schema.names.index(f.name)).cast(f.type) for f in shape], schema=shape
        )

    load(connection, "recorded", chain([first], rest), shape, plain)
    names = [name for (name,) in _rows(connection, "select distinct name from recorded")]
    _table(connection, "pattern", {"name": names, "sent": [format_pattern([name]) for name in names]})
    result = connection.sql(
        """with event as (
            select cast(trace_id as varchar) as trace_id, name, started_at, rowid as at,
                row_number() over run as place, lag(name) over run as parent, lead(name) over run as next
            from recorded window run as (partition by trace_id order by started_at nulls last, rowid)
        )
        select trace_id, cast(place as varchar) as span_id,
            case when place > 1 then cast(place - 1 as varchar) end as parent_id, parent, e.name,
            cast(null as varchar) as key, coalesce(s.sent, '') as sent, cast(null as timestamptz) as sent_at,
            started_at, cast(null as timestamptz) as ended_at, 'ok' as status, cast(null as varchar) as worker
        from event e left join pattern s on e.next = s.name order by e.at"""
    )
    yield from _canonical(result, pa.string(), False)


def _rows(connection: DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def _table(connection: DuckDBPyConnection, name: str, columns: dict[str, list[Any]]) -> None:
    types = {"names": pa.list_(pa.string())}
    arrays = {key: pa.array(values, types.get(key, pa.string())) for key, values in columns.items()}
    connection.register("small", pa.table(arrays))
    connection.execute(f"create table {name} as select * from small")
    connection.unregister("small")


def _canonical(result: DuckDBPyRelation, ids: pa.DataType, linked: bool) -> Iterator[pa.RecordBatch]:
    want = schema(ids)
    if linked:
        want = pa.schema([*want, pa.field("links", links_type(ids))])
    for batch in cast("Iterator[pa.RecordBatch]", result.to_arrow_reader(ROWS)):
        columns = []
        for f in want:
            column = batch.column(batch.schema.names.index(f.name))
            if pa.types.is_dictionary(f.type) and not pa.types.is_dictionary(column.type):
                column = column.cast(pa.string()).dictionary_encode()
            columns.append(column.cast(f.type))
        yield pa.RecordBatch.from_arrays(columns, schema=want)
