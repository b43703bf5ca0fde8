"""The definition of the counts against counts by hand: as an expression on DuckDB and SQLite, and as it is run here."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.estimate.codes import Codes, patterns
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.embedded import count_log, count_spans
from flowstat.estimate.expression import (
    links_table,
    log_table,
    repeats_table,
    retries_table,
    tree_table,
)
from flowstat.estimate.hex_ids import hex_width, pack
from flowstat.estimate.latency import Latency
from flowstat.estimate.tally import log_counts, tree_counts
from flowstat.read.canonical import open_writer, span_schema
from flowstat.read.database import database
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern
from flowstat.read.repeats import distinct_spans
from flowstat.read.resolve import canonical_batches
from flowstat.read.traces import TraceFile, read_traces
from tests.strategies import Row, event, forests, names

COLUMNS = ("trace_id", "span_id", "parent_id", "name", "sent", "status", "parent", "started_at")
TEXTS = pa.schema({c: pa.int64() if c == "started_at" else pa.string() for c in COLUMNS})


@st.composite
def spans(draw: st.DrawFn, names: st.SearchStrategy[str] = names) -> list[Row]:
    """Draw forests that may leave what was sent to the children, with times that tie and repeats that differ."""
    rows = draw(forests(names))
    unsaid = draw(st.sampled_from(["all", "some", "none"]))
    order = draw(st.permutations(range(100)))
    made: dict[tuple[str, str], Row] = {}
    for row in rows:
        row = {c: row[c] for c in COLUMNS}
        for c in ("trace_id", "span_id", "parent_id"):
            # Ids that do not grow from parent to child, too.
            row[c] = None if row[c] is None else str(order[int(row[c]) % 100])
        made.setdefault((row["trace_id"], row["span_id"]), row)
    for row in made.values():
        row["started_at"] = draw(st.none() | st.integers(0, 4))
        if unsaid == "all" or (unsaid == "some" and draw(st.booleans())):
            row["sent"] = None
        if row["status"] == "dropped" and draw(st.booleans()):
            row["parent"] = None
    result = list(made.values())
    for row in draw(st.lists(st.sampled_from(result), max_size=4)) if result else []:
        other: dict[str, st.SearchStrategy[Any]] = {
            "name": names,
            "sent": st.sampled_from([None, "", "b"]),
            "status": st.sampled_from(["ok", "error", "pending"]),
        }
        changed = draw(st.sets(st.sampled_from(sorted(other)), max_size=2)) if row["status"] != "dropped" else set()
        result.append(row | {c: draw(other[c]) for c in sorted(changed)})
    return draw(st.permutations(result))


@st.composite
def several(draw: st.DrawFn) -> list[Row]:
    """Draw four forests as the rows of one trace: asking the database once for all of them saves time."""
    made: list[Row] = []
    for number in range(4):
        made += [row | {"trace_id": f"{number}-{row['trace_id']}"} for row in draw(spans())]
    return draw(st.permutations(made))


def chosen(rows: list[Row]) -> list[Row]:
    """Return one row of each event: handled before not handled, then the first by content, nulls last."""

    def content(row: Row) -> tuple[Any, ...]:
        values = [row[c] for c in ("name", "sent", "status", "parent_id")]
        return (row["status"] not in ("ok", "error"), *((value is None, value or "") for value in values))

    found: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=content):
        found.setdefault((row["trace_id"], row["span_id"]), row)
    return list(found.values())


def by_hand(rows: list[Row], cut: int | None = None) -> Counts:
    """Count rows one by one."""
    rows = chosen(rows)
    named = {(row["trace_id"], row["span_id"]): row["name"] for row in rows}
    last = max((row["started_at"] for row in rows if row["started_at"] is not None), default=0)
    table: Counter[tuple[str, str]] = Counter()
    starts, errors, pending, dropped = (Counter[str]() for _ in range(4))
    for row in rows:
        if row["status"] == "dropped":
            sender = row["parent"] or named.get((row["trace_id"], row["parent_id"]))
            dropped.update([sender] if sender is not None else [])
            continue
        sent = row["sent"]
        if sent is None:
            of = row["trace_id"], row["span_id"]
            children = [c for c in rows if (c["trace_id"], c["parent_id"]) == of and c["status"] != "dropped"]
            sent = format_pattern(c["name"] for c in children)
        late = cut is not None and row["started_at"] is not None and row["started_at"] > last - cut and not sent
        if row["status"] == "pending" or late:
            pending[row["name"]] += 1
            continue
        table[row["name"], sent] += 1
        starts.update([row["name"]] if row["parent_id"] is None else [])
        errors.update([row["name"]] if row["status"] == "error" else [])
    return Counts(table, starts, errors, pending, dropped)


def orphans(rows: list[Row]) -> int:
    known = {(row["trace_id"], row["span_id"]) for row in rows}
    return sum(r["parent_id"] is not None and (r["trace_id"], r["parent_id"]) not in known for r in chosen(rows))


def numbers(counts: Counts) -> Counts:
    return replace(counts, files=(), problems=(), links={}, latencies={})


def told(counts: Counts) -> dict[str, int]:
    return {problem.what.split(",")[0]: problem.number for problem in counts.problems}


def ask(expression: ir.Table, **tables: pa.Table) -> list[Row]:
    """Run an expression on DuckDB."""
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        rows: list[Row] = connection.sql(str(ibis.to_sql(expression, dialect="duckdb"))).to_arrow_table().to_pylist()
        return rows


def unbound(table: pa.Table, name: str = "spans") -> ir.Table:
    return ibis.table(ibis.Schema.from_pyarrow(table.schema), name=name)


def on_engine(rows: list[Row], cut: int | None = None, columns: tuple[str, ...] = COLUMNS) -> Counts:
    """Count as is done on an engine: with names as they are, in two steps."""
    table = pa.Table.from_pylist(rows, TEXTS).select(columns)
    (about,) = ask(repeats_table(unbound(table)), spans=table)
    assert about["rows"] == len(rows)
    each = distinct_spans(unbound(table)) if about["again"] else unbound(table)
    return tree_counts(ask(tree_table(each, cut), spans=table), "x", Notices(), again=int(about["again"]))


def batches(rows: list[Row], size: int = 3, ids: pa.DataType | None = None) -> list[pa.RecordBatch]:
    """Return rows as readers of spans yield them."""
    shape = span_schema() if ids is None else pa.schema([(c, ids) for c in COLUMNS[:3]] + list(span_schema())[3:])
    made = [pa.RecordBatch.from_pylist(rows[k : k + size], shape) for k in range(0, len(rows), size)]
    return made or [pa.RecordBatch.from_pylist([], shape)]


def embedded(rows: list[Row], cut: int | None = None, latencies: bool = False, **more: Any) -> Counts:
    file = TraceFile("otlp", ("x",), (), Mapping(cut=cut))
    return count_spans(file, iter(batches(rows, **more)), Notices(), latencies)


@settings(max_examples=80)
@given(several(), st.none() | st.integers(0, 4))
def test_spans_equal_a_count_by_hand(rows: list[Row], cut: int | None) -> None:
    counts = embedded(rows, cut)
    assert numbers(counts) == by_hand(rows, cut)
    assert told(counts).get("events recorded twice", 0) == len(rows) - len(chosen(rows))
    assert told(counts).get("events whose parent was not recorded", 0) == orphans(rows)
    assert counts.files == ("x",)


@settings(max_examples=15)
@given(several(), st.none() | st.integers(0, 4))
def test_the_expression_alone_gives_the_same(rows: list[Row], cut: int | None) -> None:
    counts = on_engine(rows, cut)
    assert numbers(counts) == by_hand(rows, cut)
    assert told(counts).get("events recorded twice", 0) == len(rows) - len(chosen(rows))
    assert told(counts).get("events whose parent was not recorded", 0) == orphans(rows)


@settings(max_examples=10)
@given(spans())
def test_columns_that_are_not_there(rows: list[Row]) -> None:
    plain = [row | {"sent": None, "status": "ok", "parent": None} for row in rows if row["name"] is not None]
    assert numbers(on_engine(plain, columns=COLUMNS[:4])) == by_hand(plain)
    told_apart = [row | {"parent": None} for row in rows]
    assert numbers(on_engine(told_apart, columns=COLUMNS[:6])) == by_hand(told_apart)


@settings(max_examples=10)
@given(spans())
def test_ids_that_are_numbers(rows: list[Row]) -> None:
    whole = [row | {c: row[c] and int(row[c]) for c in COLUMNS[:3]} for row in rows]
    assert numbers(embedded(whole, ids=pa.uint64())) == by_hand(rows)


@settings(max_examples=8)
@given(spans(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(rows: list[Row], chance: Any) -> None:
    before = numbers(embedded(rows, 2))
    chance.shuffle(rows)
    assert numbers(embedded(rows, 2)) == before


@settings(max_examples=10)
@given(spans())
def test_an_engine_without_lists(rows: list[Row]) -> None:
    there = ibis.sqlite.connect()
    there.raw_sql(f"create table spans ({', '.join(f'{c} text' for c in COLUMNS[:7])})")
    for row in rows:
        there.con.execute("insert into spans values (?, ?, ?, ?, ?, ?, ?)", [row[c] for c in COLUMNS[:7]])
    asked = there.con.execute(str(ibis.to_sql(tree_table(distinct_spans(there.table("spans"))))))
    found = [dict(zip([c[0] for c in asked.description], row, strict=True)) for row in asked]
    there.disconnect()
    assert numbers(tree_counts(found, "x", Notices())) == by_hand(rows)


@pytest.mark.parametrize("dialect", ["duckdb", "postgres", "pyspark"])
@pytest.mark.parametrize("time", ["timestamp", "int64"])
def test_every_engine_can_say_it(dialect: str, time: str) -> None:
    link = "array<struct<trace_id: string, span_id: string>>"
    rows = ibis.table(dict.fromkeys(COLUMNS, "string") | {"started_at": time, "links": link}, name="spans")
    log = ibis.table({"trace_id": "int64", "name": "string", "started_at": time, "row": "int64"}, name="log")
    for expression in (
        repeats_table(rows),
        tree_table(rows, cut=5),
        tree_table(rows.select(*COLUMNS[:4])),
        tree_table(distinct_spans(rows)),
        log_table(log, cut=5),
        log_table(log.select("trace_id", "name")),
        links_table(rows),
        retries_table(rows),
    ):
        assert ibis.to_sql(expression, dialect=dialect)


@given(st.data(), spans(), st.lists(st.tuples(*[st.integers(0, 5)] * 4), max_size=5))
@settings(max_examples=15)
def test_links_equal_a_count_by_hand(data: st.DataObject, rows: list[Row], ends: list[tuple[int, ...]]) -> None:
    rows = [row for row in rows if row["name"] is not None]
    stray = {"trace_id": "nowhere", "span_id": "none"}
    for row in rows:
        to = (
            data.draw(st.lists(st.sampled_from(rows) | st.just(stray), max_size=2))
            if data.draw(st.booleans())
            else None
        )
        row["links"] = None if to is None else [{c: t[c] for c in ("trace_id", "span_id")} for t in to]
    named = {(row["trace_id"], row["span_id"]): row["name"] for row in chosen(rows)}
    links = {
        (row["trace_id"], row["span_id"], link["trace_id"], link["span_id"])
        for row in rows
        for link in row["links"] or ()
    }
    found = Counter((named.get((t, s)), named[a, b]) for a, b, t, s in links)
    counts = embedded(rows)
    assert counts.links == {pair: n for pair, n in found.items() if pair[0] is not None}
    assert told(counts).get("span links from events that were not recorded", 0) == sum(
        n for (source, _), n in found.items() if source is None
    )
    assert numbers(counts) == by_hand(rows)
    if len(rows) == len(chosen(rows)) and rows:
        table = pa.Table.from_batches(batches(rows)).select([*COLUMNS, "links"])
        asked = ask(links_table(unbound(table)), spans=table)
        assert {(row["source"], row["target"]): row["n"] for row in asked} == found


@settings(max_examples=15)
@given(spans(st.sampled_from("ab")))
def test_retries_equal_a_count_by_hand(rows: list[Row]) -> None:
    siblings: dict[tuple[Any, ...], list[str]] = {}
    for row in chosen(rows):
        if row["parent_id"] is not None and row["status"] != "dropped":
            siblings.setdefault((row["trace_id"], row["parent_id"], row["name"]), []).append(row["status"])
    again = sum(min(tries.count("error"), len(tries) - 1) for tries in siblings.values())
    found = {what: n for what, n in told(embedded(rows)).items() if "retries" in what}
    assert sum(found.values()) == again


def test_a_retry_is_a_message_of_its_own() -> None:
    failed = [event("t", str(k), "b", parent_id="0", sent=None, status="error") for k in (1, 2)]
    counts = embedded([event("t", "0", "a", sent=None), *failed, event("t", "3", "b", parent_id="0", sent=None)])
    assert counts.table == {("a", "b*3"): 1, ("b", ""): 3}
    assert [(p.number, p.example) for p in counts.problems] == [(2, "2 times at b")]


def test_what_the_window_cut_off() -> None:
    times = {"0": 100, "1": 200, "2": 300, "3": None, "4": 290}
    parents = {"1": "0", "2": "1", "3": "1"}
    rows = [
        event("t" if k != "4" else "u", k, "abcde"[int(k)], sent=None, started_at=at, parent_id=parents.get(k))
        for k, at in times.items()
    ]
    counts = embedded(rows, cut=50)
    assert counts.table == {("a", "b"): 1, ("b", "c d"): 1, ("d", ""): 1}
    assert (counts.pending, counts.starts) == ({"c": 1, "e": 1}, {"a": 1})
    assert embedded(rows, cut=0).pending == {}
    assert numbers(embedded(rows, cut=10)) == replace(
        counts, starts={"a": 1, "e": 1}, pending={"c": 1}, problems=(), files=(), table=counts.table | {("e", ""): 1}
    )


@pytest.mark.parametrize("length", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("times", [None, [7], [3, 1, 2]])
@pytest.mark.parametrize("sent", [None, "a"])
def test_an_event_among_its_own_ancestors(length: int, times: list[int] | None, sent: str | None) -> None:
    def at(k: int) -> int | None:
        return times[k % len(times)] if times else None

    ring = [
        event("7", f"{k:02}", "a", parent_id=f"{(k + 1) % length:02}", sent=sent, started_at=at(k))
        for k in range(length)
    ]
    tail = event("7", "99", "b", parent_id="00", sent=sent, started_at=9)
    good = [event("8", "01", "a", sent=sent), event("8", "00", "b", parent_id="01", sent=sent)]
    with pytest.raises(TraceError, match=rf"trace 7, span .*among its own ancestors \({length + 1} events"):
        embedded([*good, tail, *ring])
    plain = replace(numbers(embedded(good)), table={})
    assert plain == Counts(starts={"a": 1})


@pytest.mark.parametrize("times", ["none", "equal", "backward", "forward"])
def test_a_long_chain_is_no_cycle(times: str) -> None:
    time = {"none": lambda k: None, "equal": lambda k: 5, "backward": lambda k: 999 - k, "forward": lambda k: k}[times]
    chain = [
        event("t", f"{(k * 7) % 1000:03}", "a", sent=None, started_at=time(k), parent_id=f"{(k - 1) * 7 % 1000:03}")
        for k in range(1000)
    ]
    chain[0]["parent_id"] = None
    counts = embedded(chain, size=100)
    assert (counts.table, counts.runs, counts.problems) == ({("a", "a"): 999, ("a", ""): 1}, 1, ())


def hexadecimal(rows: list[Row]) -> list[Row]:
    """Return rows with ids as OpenTelemetry writes them."""
    width = {"trace_id": 32, "span_id": 16, "parent_id": 16}
    return [
        row
        | {
            c: row[c] if row[c] is None else f"{int(row[c]) * 0x9E3779B97F4A7C15 % 2**64:0{w}x}"
            for c, w in width.items()
        }
        for row in rows
    ]


@settings(max_examples=10)
@given(spans())
def test_ids_in_hexadecimal_digits(rows: list[Row]) -> None:
    rows = [row | {"sent": None} for row in hexadecimal(rows)]
    counts = embedded(rows)
    assert numbers(counts) == by_hand(rows)
    texts = embedded([row | {c: row[c] and "x" + row[c] for c in COLUMNS[:3]} for row in rows])
    assert [(p.what, p.number) for p in counts.problems] == [(p.what, p.number) for p in texts.problems]


@pytest.mark.parametrize("width", [16, 32])
def test_an_example_names_ids_as_the_trace_does(width: int) -> None:
    trace = "00f1".rjust(width, "0")
    a, b, c = (f"{k:016x}" for k in (2**63 + 1, 10, 11))
    root = event(trace, a, "a", sent=None)
    counts = embedded([root, event(trace, b, "b", sent=None, parent_id=c), root])
    assert [p.example for p in counts.problems] == [f"x: trace {trace}, span {a}", f"x: trace {trace}, span {b}"]
    for times in ({}, {"started_at": 5}):
        ring = [event(trace, at, "a", sent=None, parent_id=up, **times) for at, up in ((b, c), (c, b))]
        with pytest.raises(TraceError, match=f"trace {trace}, span {b}: this event is among its own ancestors"):
            embedded(ring)


class Again(TraceFile):
    """A trace whose batches are given."""

    def batches(self, notices: Notices | None = None) -> Any:
        return iter(batches([event(*ids, "a", sent=None) for ids in MIXED], 1))


MIXED = [
    ("0" * 31 + "a", "0" * 15 + "a"),
    ("0" * 31 + "A", "0" * 15 + "a"),
    ("a", "a"),
    ("0" * 31 + "a", "0" * 15 + "a"),
]


def test_ids_of_several_kinds_are_texts() -> None:
    file = Again("otlp", ("x",), ())
    counts = count_spans(file, file.batches(), Notices())
    assert counts.table == {("a", ""): 3}
    assert [(p.number, p.example) for p in counts.problems] == [(1, f"x: trace {MIXED[0][0]}, span {MIXED[0][1]}")]


@given(st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=8), st.sampled_from([16, 32]), st.integers(0, 3))
def test_packed_ids(ids: list[int | None], width: int, skipped: int) -> None:
    column = pa.array([None if k is None else f"{k:0{width}x}" for k in ids], pa.string()).slice(skipped)
    packed = pack(column, width).to_pylist()
    assert [k.int if isinstance(k, UUID) else k for k in packed] == ids[skipped:]
    assert hex_width(column) in (width, None if column.null_count == len(column) else width)
    for wrong in ("0" * (width - 1), "0" * (width + 1), "0" * (width - 1) + "A", " " * width, "é" * (width // 2)):
        assert pack(pa.array([*column.to_pylist(), wrong], pa.string()), width) is None


def test_rows_that_can_not_be_counted() -> None:
    shape = pa.schema([f.with_nullable(True) for f in span_schema()])
    rows = [event("t", "1", "a", sent=None), event("t", None, "b", sent=None)]  # type: ignore[arg-type]
    file = TraceFile("otlp", ("x",), ())
    with pytest.raises(TraceError, match=r"^x: 1 rows have no trace id or no span id$"):
        count_spans(file, iter([pa.RecordBatch.from_pylist(rows, shape)]), Notices())
    with pytest.raises(TraceError, match=r"^x: rows have no name"):
        embedded([event("t", "1", None, sent=None)])
    with pytest.raises(TraceError, match="an event at 'a': "):
        embedded([event("t", "1", "a", sent="b  c")])


def test_an_error_of_the_reader_comes_out_as_it_is() -> None:
    def failing() -> Any:
        yield from batches([event("t", "1", "a", sent=None)])
        raise TraceError("x:2: not JSON")

    with pytest.raises(TraceError, match=r"^x:2: not JSON$"):
        count_spans(TraceFile("otlp", ("x",), ()), failing(), Notices())


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    cases = st.sampled_from(["a", "b", "c"])
    row = st.fixed_dictionaries(
        {"trace_id": cases, "name": st.sampled_from("xy") | names, "started_at": st.none() | st.integers(0, 5)}
    )
    return draw(st.lists(row, max_size=12))


def log_by_hand(rows: list[Row], cut: int | None) -> Counts:
    last = max((row["started_at"] for row in rows if row["started_at"] is not None), default=0)
    table: Counter[tuple[str, str]] = Counter()
    starts, pending = Counter[str](), Counter[str]()
    for case in sorted({row["trace_id"] for row in rows}):
        mine = [row for row in rows if row["trace_id"] == case]
        mine.sort(key=lambda row: (row["started_at"] is None, row["started_at"] or 0))
        for k, row in enumerate(mine):
            after = [mine[k + 1]["name"]] if k + 1 < len(mine) else []
            if not after and cut is not None and row["started_at"] is not None and row["started_at"] > last - cut:
                pending[row["name"]] += 1
                continue
            table[row["name"], format_pattern(after)] += 1
            starts.update([row["name"]] if k == 0 else [])
    return Counts(table, starts, pending=pending)


def log_batches(rows: list[Row], case: pa.DataType) -> list[pa.RecordBatch]:
    word = pa.dictionary(pa.int32(), pa.string())
    shape = pa.schema({"trace_id": case, "name": word, "started_at": pa.timestamp("ns", tz="UTC")})
    rows = [row | {"trace_id": ord(row["trace_id"])} for row in rows] if pa.types.is_integer(case) else rows
    return [pa.RecordBatch.from_pylist(rows[k : k + 3], shape) for k in range(0, max(1, len(rows)), 3)]


@settings(max_examples=50)
@given(logs(), st.none() | st.integers(0, 5), st.sampled_from(["text", "dictionary", "number"]))
def test_logs_equal_a_count_by_hand(rows: list[Row], cut: int | None, kind: str) -> None:
    types = {"text": pa.string(), "dictionary": pa.dictionary(pa.int32(), pa.string()), "number": pa.int64()}
    file = TraceFile("csv", ("x",), (), Mapping(cut=cut))
    counts = count_log(file, iter(log_batches(rows, types[kind])), Notices())
    assert numbers(counts) == log_by_hand(rows, cut)
    shape = pa.schema({"trace_id": pa.string(), "name": pa.string(), "started_at": pa.int64(), "row": pa.int64()})
    table = pa.Table.from_pylist([row | {"row": k} for k, row in enumerate(rows)], shape)
    assert numbers(log_counts(ask(log_table(unbound(table), cut), spans=table), "x", Notices())) == numbers(counts)


@settings(max_examples=15)
@given(spans(st.sampled_from("ab")), st.sampled_from([1, 10**9, 2**59]))
def test_latencies_equal_those_by_hand(rows: list[Row], unit: int) -> None:
    rows = [row | {"started_at": row["started_at"] and row["started_at"] * unit} for row in chosen(rows)]
    known = {(row["trace_id"], row["span_id"]): row for row in rows}
    found: dict[tuple[str, str], list[int]] = {}
    negative = 0
    for row in rows:
        above = known.get((row["trace_id"], row["parent_id"]))
        if above and row["status"] in ("ok", "error") and None not in (row["started_at"], above["started_at"]):
            latency = row["started_at"] - above["started_at"]
            negative += latency < 0
            if latency >= 0:
                found.setdefault((above["name"], row["name"]), []).append(latency)
    counts = embedded(rows, latencies=True)
    assert counts.latencies == {pair: Latency.of(some) for pair, some in found.items()}
    assert told(counts).get("messages handled before they were sent (clocks disagree)", 0) == negative


def test_latencies_of_a_log() -> None:
    rows = [
        {"trace_id": "a", "name": name, "started_at": at} for name, at in [("x", 5), ("z", None), ("y", 3), ("x", 9)]
    ]
    file = TraceFile("csv", ("x",), ())
    counts = count_log(file, iter(log_batches(rows, pa.string())), Notices(), latencies=True)
    assert counts.latencies == {("x", "x"): Latency.of([4]), ("y", "x"): Latency.of([2])}


@settings(max_examples=12)
@given(spans(st.sampled_from(["a", "b c", "'", "é"])), st.sampled_from([pa.string(), pa.uint64(), pa.int32()]))
def test_tables_counted_in_place(tmp_path: Path, rows: list[Row], ids: pa.DataType) -> None:
    plain = [row | {"sent": None, "parent": None} for row in rows if row["status"] in ("ok", "error")]
    # A span without an id is written as zero: number from 1.
    made = [row | {c: row[c] and str(int(row[c]) + 1) for c in COLUMNS[:3]} for row in plain]
    columns = {"TraceID": "trace_id", "SpanID": "span_id", "ParentID": "parent_id"}
    table = {new: pa.array([row[old] for row in made]).cast(pa.string()).cast(ids) for new, old in columns.items()}
    table["OperationName"] = pa.array([row["name"] for row in made], pa.string())
    table["status"] = pa.array(
        [{"ok": "Unset", "error": "STATUS_CODE_ERROR"}[row["status"]] for row in made], pa.string()
    )
    table["StartTime"] = pa.array([row["started_at"] for row in made], pa.timestamp("ns"))
    pq.write_table(pa.table(table), tmp_path / "it's.parquet")
    counts = count(read_traces(tmp_path / "it's.parquet", cut=2))
    assert numbers(counts) == by_hand(made, 2)
    assert told(counts).get("events whose parent was not recorded", 0) == orphans(made)


@pytest.mark.parametrize("ids", [pa.uint64(), pa.int32(), pa.string(), pa.large_string(), pa.float64()])
def test_which_row_counts_does_not_depend_on_how_ids_are_stored(tmp_path: Path, ids: pa.DataType) -> None:
    whole = {"trace_id": [1] * 4, "span_id": [9, 10, 20, 20], "parent_id": [None, None, 9, 10], "name": [*"abcc"]}
    columns = dict(zip(whole, [pa.array(column) for column in whole.values()], strict=True))
    some = {c: pa.array([k and str(k) for k in whole[c]]).cast(ids) for c in ("trace_id", "span_id", "parent_id")}
    pq.write_table(pa.table(columns | some), tmp_path / "spans.parquet")
    # As texts, "10" is before "9".
    assert count(read_traces(tmp_path / "spans.parquet")).table == {("a", ""): 1, ("b", "c"): 1, ("c", ""): 1}
    row = [event(1, span, name, parent_id=up) for _, span, up, name in zip(*whole.values(), strict=True)]
    row = [each | {"sent": None} for each in row]
    assert embedded(row, ids=pa.uint64()).table == embedded(row[::-1], ids=pa.uint64()).table
    assert embedded(row, ids=pa.uint64()).table == {("a", ""): 1, ("b", "c"): 1, ("c", ""): 1}


class Given(TraceFile):
    """A trace whose batches are those of `SOME`."""

    def batches(self, notices: Notices | None = None) -> Any:
        return iter(batches(SOME))


SOME: list[Row] = []


@settings(max_examples=20)
@given(st.data(), spans(), st.booleans())
def test_what_is_converted_counts_the_same(tmp_path: Path, data: st.DataObject, rows: list[Row], packed: bool) -> None:
    rows = hexadecimal(rows) if packed else rows
    for row in rows:
        to = data.draw(st.lists(st.sampled_from(rows), max_size=2))
        row["links"] = [{c: t[c] for c in ("trace_id", "span_id")} for t in to] or None
    SOME[:] = rows
    file = Given("otlp", ("x",), ())
    with open_writer(tmp_path / "x.parquet", overwrite=True) as writer:
        for batch in canonical_batches(file, Notices()):
            writer.write(batch)
    there, here = count(read_traces(tmp_path / "x.parquet")), count_spans(file, file.batches(), Notices())
    assert (numbers(there), there.links) == (numbers(here), here.links)


def test_who_sent_what_no_arrow_took_is_found() -> None:
    lost = event("t", "2", None, parent_id="1", sent=None, status="dropped")
    counts = embedded([event("t", "1", "a", sent=None), lost])
    assert (counts.dropped, counts.table, counts.problems) == ({"a": 1}, {("a", ""): 1}, ())


def test_links_of_messages_that_no_arrow_took_are_told_apart() -> None:
    to = [{"trace_id": "t", "span_id": "2"}]
    rows = [
        event("t", "1", "a", links=to, sent=None),
        event("t", "2", None, parent_id="1", sent=None, status="dropped", links=[{"trace_id": "u", "span_id": "9"}]),
    ]
    counts = embedded(rows)
    assert counts.links == {}
    assert told(counts) == {"span links from or to messages that no arrow took": 2}


def test_a_table_that_takes_too_much_memory_in_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"trace_id": ["t"] * 2, "span_id": ["1", "2"], "parent_id": ["", "1"], "name": ["a", "b"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")

    def full(*given: Any) -> None:
        raise duckdb.OutOfMemoryException("full")

    monkeypatch.setattr("flowstat.estimate.embedded.view_in_place", full)
    assert count(read_traces(tmp_path / "a.parquet")).table == {("a", "b"): 1, ("b", ""): 1}


def test_threads_are_no_more_than_the_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    for memory, threads in ((100 << 20, 2), (4 << 30, 64)):
        with database(memory) as connection:
            assert connection.execute("select current_setting('threads')").fetchall() == [(threads,)]


def test_rows_that_a_reader_has_to_refuse(tmp_path: Path) -> None:
    table = {"trace_id": ["t", "t"], "span_id": ["1", "2"], "parent_id": ["", "1"], "name": ["a", None]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(TraceError, match="row 2"):
        count(read_traces(tmp_path / "a.parquet"))
    assert count(read_traces(tmp_path / "a.parquet", skip_bad=True)).table == {("a", ""): 1}


def test_damaged_tables(tmp_path: Path) -> None:
    table = pa.table({"trace_id": ["t"] * 999, "span_id": list(map(str, range(1, 1000))), "parent_id": ["0"] * 999})
    pq.write_table(table.append_column("name", pa.array(["a"] * 999)), tmp_path / "a.parquet", compression="none")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:40] = b"\xff" * 36
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(TraceError, match=r"a\.parquet"):
        count(read_traces(tmp_path / "a.parquet"))


def test_little_memory_is_enough(tmp_path: Path) -> None:
    n = 200_000
    rows = pa.table(
        {
            "trace_id": pa.array([k // 20 + 1 for k in range(n)], pa.uint64()),
            "span_id": pa.array(range(1, n + 1), pa.uint64()),
            "parent_id": pa.array([k if k % 20 else 0 for k in range(n)], pa.uint64()),
            "name": ["a" if k % 20 else "b" for k in range(n)],
        }
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    counts = count(read_traces(tmp_path / "a.parquet"), memory=100 << 20)
    assert counts.table == {("b", "a"): n // 20, ("a", "a"): n // 20 * 18, ("a", ""): n // 20}
    with pytest.raises(TraceError, match="--memory"):
        count(read_traces(tmp_path / "a.parquet"), memory=1 << 20)


@given(st.lists(st.lists(names, max_size=6)))
def test_patterns_of_codes(children: list[list[str]]) -> None:
    codes = Codes("b")
    flat = codes.of(pa.array([name for some in children for name in some], pa.string()))
    offsets = [0]
    for some in children:
        offsets.append(offsets[-1] + len(some))
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
    assert patterns(lists, codes.texts) == [format_pattern(some) for some in children]


def test_links_of_otlp_are_counted(tmp_path: Path) -> None:
    def span(trace: str, number: int, name: str, **more: Any) -> dict[str, Any]:
        return {"traceId": trace * 32, "spanId": f"{number:016x}", "name": name, "startTimeUnixNano": "5", **more}

    linked = [{"traceId": "a" * 32, "spanId": f"{1:016x}"}, {"traceId": "c" * 32, "spanId": f"{9:016x}"}]
    some = [span("a", 1, "first"), span("b", 2, "batch", links=linked)]
    document = {"resourceSpans": [{"scopeSpans": [{"spans": some}]}]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    counts = count(read_traces(tmp_path / "a.json"))
    assert counts.links == {("first", "batch"): 1}
    assert [(p.number, p.what.split(",")[0]) for p in counts.problems] == [
        (1, "span links from events that were not recorded")
    ]
