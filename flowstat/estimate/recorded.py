"""Spans and logs in a database, ready to be counted: names and send patterns are codes, times whole nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from flowstat.errors import TraceError
from flowstat.estimate.codes import Codes
from flowstat.estimate.hex_ids import PACKED, hex_width, pack
from flowstat.read.canonical import STATUSES, links_type
from flowstat.read.database import load

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


__all__ = ["LONG_AGO", "Recorded", "UnlikeIds", "load_log", "load_spans"]

LONG_AGO = -(2**63)
"""Stands for a time that is unknown: before all others, so that it never counts as late."""


@dataclass(frozen=True)
class Recorded:
    """A view `spans` of what was recorded, in the order of its column `place`.

    Attributes
    ----------
    types
        Ibis types of the columns of `spans` that say something: without status all are ok, without sent all follows
        from the children.
    names, sents
        The texts of the codes.
    stated
        Whether every row says what it sent, or who sent it where no arrow took it.
    linked
        Whether there is a table `links`.
    widths
        How many hexadecimal digits the trace ids and span ids have, where they are stored as numbers.
    """

    types: dict[str, str]
    names: list[str]
    sents: list[str] = field(default_factory=lambda: [""])
    stated: bool = False
    linked: bool = False
    widths: tuple[int, int] | None = None

    def example(self, trace: object, span: object) -> str:
        """Return a span's ids in words."""
        texts = [str(trace), str(span)]
        for k, width in enumerate(self.widths or ()):
            number = (trace, span)[k]
            texts[k] = f"{number.int if isinstance(number, UUID) else number:0{width}x}"
        return f"trace {texts[0]}, span {texts[1]}"

    def spelled(self, spans: str) -> str:
        """Return a query for the ids of a table of spans, as the trace has them."""
        columns = dict.fromkeys(("trace_id", "span_id", "parent_id"), "{}")
        for column, width in zip(columns, (*(self.widths or ()), *(self.widths or ())[1:]), strict=False):
            columns[column] = "replace({}::varchar, '-', '')" if width == 32 else "lower(lpad(to_hex({}), 16, '0'))"
        return f"select {', '.join(f'{how.format(c)} as {c}' for c, how in columns.items())} from {spans}"

    def ordered(self, connection: DuckDBPyConnection) -> Recorded:
        """Give every text the code that is its rank, so that codes sort like texts."""
        joins, changed, orders = [], [], {"name": self.names, "sent": self.sents}
        for column, texts in orders.items():
            order = sorted(texts)
            rank = {text: k for k, text in enumerate(order)}
            codes = pa.array(range(len(texts)), pa.int32())
            known = pa.table({"code": codes, "rank": pa.array([rank[text] for text in texts], pa.int32())})
            connection.register("known", known)
            connection.execute(f"create table rank_of_{column} as select * from known")
            connection.unregister("known")
            orders[column] = order
        for column, of in (("name", "name"), ("parent", "name"), ("sent", "sent")):
            if column in self.types:
                joins.append(f"left join rank_of_{of} r_{column} on c.{column} = r_{column}.code")
                changed.append(f"r_{column}.rank as {column}")
        connection.execute("alter view spans rename to coded")
        connection.execute(
            f"create view spans as select c.* replace ({', '.join(changed)}) from coded c {' '.join(joins)}"
        )
        return replace(self, names=orders["name"], sents=orders["sent"])


class UnlikeIds(TraceError):
    """Some ids are not like those of the first batch, and can't be stored as numbers."""


def load_spans(
    connection: DuckDBPyConnection, batches: Iterator[pa.RecordBatch], first: pa.RecordBatch, pack: bool = True
) -> Recorded:
    """Store spans, canonical or as their formats tell them, and the links among them.

    Parameters
    ----------
    first
        The first of the batches, to see what the ids are.
    pack
        Whether ids of 16 or 32 hexadecimal digits may be stored as numbers.

    Raises
    ------
    UnlikeIds
        If only some ids are such: then store them all as texts.
    TraceError
        If the spans can't be read, or lack what every span has.
    """
    ids = first.schema.field("trace_id").type
    widths = _widths(first) if pack else None
    spans = _Spans(connection, ids, widths)
    load(connection, "recorded", batches, spans.shape, spans.prepare)
    kinds = {pa.uint64(): "uint64", pa.uuid(): "uuid"}
    types = {c: kinds.get(spans.shape.field(c).type, "string") for c in ("trace_id", "span_id", "parent_id")}
    types["name"] = "int32"
    columns = ["trace_id", "span_id", "parent_id", "name", "rowid as place"]
    if spans.given:
        types["sent"] = "int32"
        columns.append("sent")
    if spans.statuses != {"ok"}:
        words = " ".join(f"when {code} then '{status}'" for code, status in enumerate(STATUSES))
        types["status"] = "string"
        columns.append(f"case status {words} end as status")
    if "dropped" in spans.statuses:
        types["parent"] = "int32"
        columns.append("parent")
    if spans.timed:
        types["started_at"] = "int64"
        columns.append("started_at")
    connection.execute(f"create view spans as select {', '.join(columns)} from recorded")
    stated = spans.given and not spans.missing
    return Recorded(types, spans.names.texts, spans.sents.texts, stated, spans.linked, widths)


def _widths(first: pa.RecordBatch) -> tuple[int, int] | None:
    """Return the number of digits of trace and span ids if they can be stored as numbers, and pay for it by a join."""
    columns = dict(zip(first.schema.names, first.columns, strict=True))
    joined = "sent" not in columns or columns["sent"].null_count == len(first)
    if not joined or columns["trace_id"].type != pa.string():
        return None
    trace, span = hex_width(columns["trace_id"]), hex_width(columns["span_id"])
    return (trace, span) if trace and span else None


class _Spans:
    """Turns batches into rows of codes, and keeps in mind what there was."""

    def __init__(self, connection: DuckDBPyConnection, ids: pa.DataType, widths: tuple[int, int] | None) -> None:
        codes = dict.fromkeys(("name", "sent", "parent"), pa.int32())
        trace, span = (ids, ids) if widths is None else (PACKED[widths[0]], PACKED[widths[1]])
        self._ids = ids
        self._widths = widths
        self.shape = pa.schema(
            {"trace_id": trace, "span_id": span, "parent_id": span}
            | codes
            | {"status": pa.int8(), "started_at": pa.int64()}
        )
        self.names = Codes()
        self.sents = Codes("")
        self.statuses: set[str] = set()
        self.given = self.missing = self.timed = self.linked = False
        # Links go to a table of their own while the rows stream into theirs.
        self._side = connection.cursor()

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        length = len(batch)
        made = {c: self._id(k, columns[c]) for k, c in enumerate(("trace_id", "span_id", "parent_id"))}
        made["name"] = self.names.of(columns["name"])
        sent = columns.get("sent")
        if sent is None or sent.null_count == length:
            made["sent"] = pa.nulls(length, pa.int32())
            self.missing |= length > 0
        else:
            made["sent"] = self.sents.of(sent)
            self.given = True
            self.missing |= sent.null_count > 0
        made["status"], found = _status(columns.get("status"), length)
        self.statuses |= found
        made["parent"] = pa.nulls(length, pa.int32())
        if "dropped" in found:
            dropped = pc.equal(made["status"], STATUSES.index("dropped"))
            if "parent" in columns:
                made["parent"] = pc.if_else(dropped, self.names.of(columns["parent"]), made["parent"])
            # Who sent that is to be found, too.
            self.missing |= bool(pc.any(pc.and_(dropped, pc.is_null(made["parent"]))).as_py())
        times = columns.get("started_at")
        if times is None or times.null_count == length:
            made["started_at"] = pa.array([LONG_AGO], pa.int64()).take(pa.array([0] * length, pa.int8()))
        else:
            made["started_at"] = times.cast(pa.int64()).fill_null(LONG_AGO)
            self.timed = True
        links = columns.get("links")
        if links is not None and links.null_count < length:
            self._link(made, links)
        return pa.RecordBatch.from_arrays([made[f.name] for f in self.shape], schema=self.shape)

    def _id(self, place: int, column: pa.Array) -> pa.Array:
        if self._widths is None:
            return column.cast(self._ids)
        packed = pack(column, self._widths[min(place, 1)])
        if packed is None:
            raise UnlikeIds("ids of several kinds")
        return packed

    def _link(self, columns: dict[str, pa.Array], links: pa.Array) -> None:
        links = links.cast(links_type(self._ids))
        rows = pc.list_parent_indices(links)
        if not len(rows):
            return
        to = links.flatten()
        linked = pa.table(
            {
                "trace_id": columns["trace_id"].take(rows),
                "span_id": columns["span_id"].take(rows),
                "linked_trace_id": self._id(0, to.field("trace_id")),
                "linked_span_id": self._id(1, to.field("span_id")),
            }
        )
        self._side.register("linked", linked)
        self._side.execute("create table if not exists links as select * from linked limit 0")
        self._side.execute("insert into links select * from linked")
        self._side.unregister("linked")
        self.linked = True


def _status(column: pa.Array | None, length: int) -> tuple[pa.Array, set[str]]:
    """Return statuses as their places in `STATUSES`, and which there may be."""
    if column is None:
        return pa.array([0], pa.int8()).take(pa.array([0] * length, pa.int8())), {"ok"}
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    words = column.dictionary.to_pylist()
    known = pa.array([STATUSES.index(word) if word in STATUSES else None for word in words], pa.int8())
    return pc.take(known, column.indices), {word for word in words if word in STATUSES}


def load_log(connection: DuckDBPyConnection, batches: Iterator[pa.RecordBatch], first: pa.RecordBatch) -> Recorded:
    """Store a sequential log as the view `spans` with trace_id, name, started_at, and row, its order."""
    case = first.schema.field("trace_id").type
    whole = pa.types.is_integer(case)
    shape = pa.schema({"trace_id": case if whole else pa.string(), "name": pa.int32(), "started_at": pa.int64()})
    names = Codes()

    def prepare(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        times = columns["started_at"].cast(pa.int64())
        made = [columns["trace_id"].cast(shape.field("trace_id").type), names.of(columns["name"]), times]
        return pa.RecordBatch.from_arrays(made, schema=shape)

    load(connection, "recorded", batches, shape, prepare)
    connection.execute('create view spans as select *, rowid as "row" from recorded')
    types = {"trace_id": str(case) if whole else "string", "name": "int32", "started_at": "int64", "row": "int64"}
    return Recorded(types, names.texts)
