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
from flowstat.read.canonical import LONELY, TIMES, links_type, schema
from flowstat.read.database import database, load
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern
from flowstat.read.repeats import distinct_spans

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

    The rows of a marked trace come as they are. Of others, the same event recorded twice comes once
    (`flowstat.read.repeats.distinct_spans` says which row, and it gets the links of all), and what a file does not
    say itself (parent, send pattern) follows from its ids. With `mapping.cut`, the events that counting takes for cut
    off are pending.

    Raises
    ------
    TraceError
        If a file can't be read, or an event is among its own ancestors.
    """
    if file.format == "counts":
        raise TraceError(f"{file.origin} holds counts: the rows that were counted can't be had from it")
    cut = file.mapping.cut
    marks = file.marks()
    if marks is not None and cut is None:
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
            yield from _spans(connection, first, batches, notices, file.origin, cut)
        else:
            yield from _log(connection, first, batches, cut)


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
    cut: int | None,
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
    _each_once(connection, ids, notices, origin)
    orphans = _check(connection, notices, origin)
    connection.execute(
        """create table child as
            select trace_id, parent_id as span_id, list_sort(list(name)) as names from event
            where parent_id is not null and status <> 'dropped' group by trace_id, parent_id"""
    )
    patterns = [(names, format_pattern(names)) for (names,) in _rows(connection, "select distinct names from child")]
    _table(connection, "pattern", {"names": [n for n, _ in patterns], "sent": [s for _, s in patterns]})
    linked = _rows(connection, "select 1 from recorded where len(links) > 0 limit 1")
    late = f"coalesce(e.sent, s.sent, '') = '' and e.status in ('ok', 'error') and {_late(cut)}"
    result = connection.sql(
        f"""select e.* replace (
            coalesce(e.parent, p.name) as parent,
            coalesce(e.sent, s.sent, '') as sent,
            case when {late} then 'pending' else e.status end as status
        ) from event e
        left join event p on e.trace_id = p.trace_id and e.parent_id = p.span_id
        left join child c on e.trace_id = c.trace_id and e.span_id = c.span_id
        left join pattern s on c.names = s.names
        order by e.at"""
    )
    yield from _telling(_canonical(result, ids, bool(linked)), orphans)


def _each_once(connection: DuckDBPyConnection, ids: pa.DataType, notices: Notices, origin: str) -> None:
    """Make `event`: the rows with their place in the trace (`at`), each event once."""
    twice = "select trace_id, span_id, count(*) - 1 as again from recorded group by all having again > 0"
    number = f"select sum(again), min(trace_id), min(span_id) from ({twice})"
    if not _note(connection, DUPLICATES, number, notices, origin):
        connection.execute("create view event as select *, rowid as at from recorded")
        return
    import ibis

    connection.execute("create view placed as select *, rowid as at from recorded")
    # Only names go into the query, and which columns are texts, numbers or lists.
    kind = "string" if pa.types.is_string(ids) else "uint64"
    types = dict.fromkeys(schema().names, "string") | dict.fromkeys(("trace_id", "span_id", "parent_id"), kind)
    types |= dict.fromkeys(TIMES, "timestamp") | {"links": "array<string>", "at": "int64"}
    each = ibis.to_sql(distinct_spans(ibis.table(types, name="placed")), dialect="duckdb")
    connection.execute(
        f"""create table event as select e.* replace (coalesce(l.links, e.links) as links) from ({each}) e left join (
            select trace_id, span_id, list_sort(list_distinct(flatten(list(links)))) as links
            from recorded semi join ({twice}) using (trace_id, span_id) where links is not null group by all
        ) l using (trace_id, span_id)"""
    )


def _check(connection: DuckDBPyConnection, notices: Notices, origin: str) -> int:
    """Refuse an event that is among its own ancestors; note how many orphans there are, and return it."""
    refuse_cycles(connection, "event", origin)
    lonely = """select count(*), min(trace_id), min(span_id) from event e where parent_id is not null and not exists (
        select 1 from event p where p.trace_id = e.trace_id and p.span_id = e.parent_id)"""
    return _note(connection, ORPHANS, lonely, notices, origin)


def _note(connection: DuckDBPyConnection, what: str, query: str, notices: Notices, origin: str) -> int:
    """Note a number of events, if any, with the ids of one; return the number."""
    ((number, trace, span),) = _rows(connection, query)
    if number:
        notices.note(what, f"{origin}: trace {trace}, span {span}", int(number))
    return int(number or 0)


def _late(cut: int | None) -> str:
    """Return as SQL whether an event `e` is so near the last one that what it sent may have been cut off."""
    if cut is None:
        return "false"
    return f"epoch_ns(e.started_at) > (select max(epoch_ns(started_at))::hugeint - {cut} from event)"


def _log(
    connection: DuckDBPyConnection, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch], cut: int | None
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
        f"""with event as (
            select cast(trace_id as varchar) as trace_id, name, started_at, rowid as at,
                row_number() over run as place, lag(name) over run as parent, lead(name) over run as next
            from recorded window run as (partition by trace_id order by started_at nulls last, rowid)
        )
        select trace_id, cast(place as varchar) as span_id,
            case when place > 1 then cast(place - 1 as varchar) end as parent_id, parent, e.name,
            cast(null as varchar) as key, coalesce(s.sent, '') as sent, cast(null as timestamptz) as sent_at,
            started_at, cast(null as timestamptz) as ended_at,
            case when e.next is null and {_late(cut)} then 'pending' else 'ok' end as status,
            cast(null as varchar) as worker
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
