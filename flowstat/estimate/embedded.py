"""Counting on this machine: spans joined with their parents, logs that have to be sorted, on disk where memory ends.

The definition of the counts is `flowstat.estimate.expression`; DuckDB runs it, over rows whose names and send patterns
are codes. SQL is written here only for examples of what is odd, which take the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flowstat.errors import TraceError
from flowstat.estimate.codes import decode
from flowstat.estimate.counts import Counts
from flowstat.estimate.expression import links_table, log_table, repeats_table, retries_table, tree_table
from flowstat.estimate.in_place import may_be_in_place, view_in_place
from flowstat.estimate.latency_sums import log_latencies, span_latencies
from flowstat.estimate.recorded import LONG_AGO, Recorded, UnlikeIds, load_log, load_spans
from flowstat.estimate.stated import count_stated
from flowstat.estimate.tally import link_counts, log_counts, retry_notice
from flowstat.read.ancestors import refuse_cycles
from flowstat.read.database import database, files
from flowstat.read.notices import Notices
from flowstat.read.repeats import distinct_spans
from flowstat.read.resolve import DUPLICATES, ORPHANS
from flowstat.read.words import shown

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from duckdb import DuckDBPyConnection

    from flowstat.read.traces import TraceFile

__all__ = ["count_log", "count_spans", "note_marked_retries", "note_retries"]

Stage = Callable[[str], None]
Define = Callable[..., "ir.Table"]


def count_spans(
    file: TraceFile,
    batches: Iterator[pa.RecordBatch],
    notices: Notices,
    latencies: bool = False,
    memory: int | None = None,
    begin: Stage = lambda stage: None,
) -> Counts:
    """Count spans by joining each with its children.

    Parameters
    ----------
    file
        Whose spans they are; its `mapping.cut` says which events may have been cut off.
    batches
        The spans, canonical or with `flowstat.read.canonical.span_schema`.
    notices
        What reading found, and what counting finds.
    latencies
        Whether to sum up latencies, too.
    memory
        Bytes that DuckDB may hold in memory.
    begin
        Told what is done next.

    Raises
    ------
    TraceError
        If a row lacks what every span has, a send pattern is none, an event is among its own ancestors, or memory and
        disk do not suffice.

    Notes
    -----
    Of n spans, takes O(n log n) time, and memory beyond its bound only for the distinct pairs of node and pattern.
    """
    counts = _count_in_place(file, notices, latencies, memory, begin)
    if counts is not None:
        return counts
    first = next(batches, None)
    if first is None:
        return Counts(files=file.origins, problems=notices.problems)
    try:
        with database(memory) as connection:
            recorded = load_spans(connection, chain([first], batches), first)
            begin("joining")
            return _Spans(connection, recorded, file, notices).count(latencies)
    except UnlikeIds:
        begin("reading")
    again = Notices(file.mapping.skip_bad)
    with database(memory) as connection:
        recorded = load_spans(connection, file.batches(again), first, pack=False)
        begin("joining")
        return _Spans(connection, recorded, file, again).count(latencies)


def _count_in_place(
    file: TraceFile, notices: Notices, latencies: bool, memory: int | None, begin: Stage
) -> Counts | None:
    """Count Parquet tables without a reader, or return None."""
    if not may_be_in_place(file):
        return None
    import duckdb

    found = Notices()
    with database(memory) as connection:
        try:
            recorded = view_in_place(connection, file)
            if recorded is None:
                return None
            begin("joining")
            counts = _Spans(connection, recorded, file, found).count(latencies)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            # The reader takes less memory, and says better what is wrong with a file.
            return None
    notices.extend(found.problems)
    return replace(counts, problems=notices.problems)


@dataclass
class _Spans:
    """Spans in a database while they are counted."""

    connection: DuckDBPyConnection
    recorded: Recorded
    file: TraceFile
    notices: Notices
    spans: str = "spans"
    """The view or table that has each event once."""

    def count(self, latencies: bool) -> Counts:
        counts = None
        if self.recorded.stated and self.file.mapping.cut is None:
            counts = count_stated(self.connection, self._in_words(), self.file.origin, self.notices)
        if counts is None:
            counts = self._joined()
        more: dict[str, Any] = {"links": self._links()}
        if latencies:
            more["latencies"] = span_latencies(self.connection, self.spans, self.recorded, self.notices)
        if "status" in self.recorded.types:
            note_retries(self.connection, self.spans, self.recorded.types, self.notices, self.recorded.names)
        return replace(counts, files=self.file.origins, problems=self.notices.problems, **more)

    def _joined(self) -> Counts:
        (about,) = self._rows(repeats_table)
        if about["lost"]:
            raise TraceError(f"{self.file.origin}: {about['lost']:,} rows have no trace id or no span id")
        if about["again"]:
            self._leave_out_repeats(int(about["again"]))
        # Ids that grow from parent to child prove that there is no cycle, and so do times.
        doubtful = bool(about["backward"])
        timed = doubtful and "started_at" in self.recorded.types
        if doubtful and not timed:
            self._refuse_cycles(self.spans)
        found = self._arrow(tree_table, self.file.mapping.cut, timed)
        if timed and pc.sum(found["untimed"]).as_py():
            self.connection.execute(
                f"""create view doubtful as select * from {self.spans} where trace_id in (
                    select c.trace_id from {self.spans} c join {self.spans} p
                    on c.trace_id = p.trace_id and c.parent_id = p.span_id where c.started_at <= p.started_at)"""
            )
            self._refuse_cycles("doubtful")
        below = pc.sum(pc.if_else(found["root"], 0, found["n"])).as_py() or 0
        orphans = below - (pc.sum(found["messages"]).as_py() or 0)
        if orphans:
            self.notices.note(ORPHANS, self._orphan(), orphans)
        return decode(found, self.recorded.names, self.recorded.sents, self.file.origin, self.notices)

    def _refuse_cycles(self, spans: str) -> None:
        try:
            refuse_cycles(self.connection, spans, self.file.origin)
        except TraceError:
            if self.recorded.widths is None:
                raise
            # It is to name the event as the trace does.
            self.connection.execute(f"create view spelled as {self.recorded.spelled(spans)}")
            self.connection.execute("drop table if exists up")
            refuse_cycles(self.connection, "spelled", self.file.origin)
            raise

    def _leave_out_repeats(self, number: int) -> None:
        twice = "select trace_id, span_id from spans group by all having count(*) > 1"
        example = self._example(
            f"""select trace_id, span_id from (
                select trace_id, span_id, place, row_number() over (partition by trace_id, span_id order by place) turn
                from spans semi join ({twice}) using (trace_id, span_id)
            ) where turn > 1 order by place limit 1"""
        )
        self.notices.note(DUPLICATES, example, number)
        # Which row is first by content is told by texts, not by codes.
        self.recorded = self.recorded.ordered(self.connection)
        self.connection.execute(f"create table event as {self._sql(_each_once, self.recorded.widths is not None)}")
        self.spans = "event"

    def _orphan(self) -> str:
        return self._example(
            """select trace_id, span_id from spans c anti join spans p
            on c.trace_id = p.trace_id and c.parent_id = p.span_id
            where c.parent_id is not null order by c.place limit 1"""
        )

    def _example(self, query: str) -> str:
        ((trace, span),) = self.connection.execute(query).fetchall()
        return f"{self.file.origin}: {self.recorded.example(trace, span)}"

    def _links(self) -> dict[tuple[str, str], int]:
        if not self.recorded.linked:
            return {}
        rows = self._rows(_stored_links)
        return link_counts(rows, self.file.origin, self.notices, node=self.recorded.names.__getitem__)

    def _in_words(self) -> str:
        """Return the name of a view of the spans with names and patterns as they are."""
        for column, texts in (("name", self.recorded.names), ("sent", self.recorded.sents)):
            table = pa.table({"code": pa.array(range(len(texts)), pa.int32()), "text": pa.array(texts, pa.string())})
            self.connection.register("known", table)
            self.connection.execute(f"create table text_of_{column} as select * from known")
            self.connection.unregister("known")
        status = "s.status" if "status" in self.recorded.types else "'ok'"
        parent = "p.text" if "parent" in self.recorded.types else "null"
        joined = "left join text_of_name p on s.parent = p.code" if parent == "p.text" else ""
        self.connection.execute(
            f"""create view worded as select s.trace_id, s.span_id, s.parent_id, {parent} as parent, n.text as name,
            t.text as sent, {status} as status from spans s left join text_of_name n on s.name = n.code
            left join text_of_sent t on s.sent = t.code {joined}"""
        )
        return "worded"

    def _sql(self, define: Define, *options: Any) -> str:
        return _sql(define, tuple(self.recorded.types.items()), self.spans, *options)

    def _arrow(self, define: Define, *options: Any) -> pa.Table:
        return self.connection.sql(self._sql(define, *options)).to_arrow_table().combine_chunks()

    def _rows(self, define: Define) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._arrow(define).to_pylist()
        return rows


def note_retries(
    connection: DuckDBPyConnection,
    spans: str,
    types: dict[str, str],
    notices: Notices,
    names: list[str] | None = None,
) -> None:
    """Say how many retries there are among the spans of a table whose names are texts, or codes of `names`."""
    query = _sql(retries_table, tuple(types.items()), spans)
    rows = connection.sql(query).to_arrow_table().to_pylist()
    retry_notice(rows, notices, node=names.__getitem__ if names else str)


def note_marked_retries(file: TraceFile, notices: Notices, memory: int | None = None) -> None:
    """Say how many retries there are in canonical Parquet whose ids are known to be right, where it lies.

    Takes two scans of four columns, and memory for the failed events.

    Raises
    ------
    TraceError
        If a file can't be read, or memory and disk do not suffice.
    """
    import duckdb

    types = {"trace_id": "uint64", "parent_id": "uint64", "name": "string", "status": "string"}
    # A directory called `name=x` is no column.
    source = f"read_parquet({files(file.parts)}, hive_partitioning = false)"
    with database(memory) as connection:
        try:
            connection.execute(f"create view spans as select {', '.join(types)} from {source}")
            note_retries(connection, "spans", types, notices)
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            first = shown(str(error).split("\n", 1)[0], 200)
            raise TraceError(f"{file.origin} can't be read as Parquet (truncated or damaged?): {first}") from None


def _each_once(spans: ir.Table, packed: bool) -> ir.Table:
    """Return each event once, of spans as they are stored here."""
    order: dict[str, Callable[[ir.Table], ir.Value]] = {}
    if "started_at" in spans.columns:
        order["started_at"] = lambda rows: rows.started_at.nullif(LONG_AGO)
    if packed:
        # Digits of one number sort like the numbers that they are stored as.
        order["parent_id"] = lambda rows: rows.parent_id
    return distinct_spans(spans, order)


def _stored_links(spans: ir.Table) -> ir.Table:
    import ibis

    trace, span = spans.trace_id.type(), spans.span_id.type()
    shape = {"trace_id": trace, "span_id": span, "linked_trace_id": trace, "linked_span_id": span}
    return links_table(spans, ibis.table(shape, name="links"))


def count_log(
    file: TraceFile,
    batches: Iterator[pa.RecordBatch],
    notices: Notices,
    latencies: bool = False,
    memory: int | None = None,
    begin: Stage = lambda stage: None,
) -> Counts:
    """Count a sequential log in any order, by sorting it: by case, time and place in the file.

    Parameters and errors are those of `count_spans`; the batches have the columns trace_id, name and started_at.
    """
    first = next(batches, None)
    if first is None:
        return Counts(files=file.origins, problems=notices.problems)
    with database(memory) as connection:
        recorded = load_log(connection, chain([first], batches), first)
        begin("sorting")
        query = _sql(log_table, tuple(recorded.types.items()), "spans", file.mapping.cut)
        rows = connection.sql(query).to_arrow_table().to_pylist()
        counts = log_counts(rows, file.origin, notices, node=recorded.names.__getitem__)
        if latencies:
            counts = replace(counts, latencies=log_latencies(connection, recorded, notices))
        return replace(counts, files=file.origins, problems=notices.problems)


@lru_cache(maxsize=128)
def _sql(define: Define, types: tuple[tuple[str, str], ...], name: str, *options: Any) -> str:
    """Return DuckDB's SQL for an expression over a table of those columns."""
    import ibis

    return str(ibis.to_sql(define(ibis.table(dict(types), name=name), *options), dialect="duckdb"))
