"""The same rows on every engine give the same counts, equal to a count by hand."""

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from flowstat.errors import TraceError
from flowstat.estimate.connect import visible_url
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.engine import count_on
from flowstat.estimate.tally import tree_counts
from flowstat.read.canonical import links_type, schema
from flowstat.read.files import parse_graph
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern
from flowstat.read.traces import read_traces
from tests.servers import Server, free_port, missing, postgres_server, spark_master  # noqa: F401 -- fixtures
from tests.strategies import Row, event, forests, names

pytestmark = pytest.mark.filterwarnings("ignore:fetch_:DeprecationWarning")
"""Ibis 12 calls DuckDB 2 by names that are going."""

ALL = ["duckdb", "duckdb files", "postgres", "spark files", "spark table"]


@dataclass
class Engine:
    """An engine under test: `put` stores a table there, and returns the URL and the name to count it by."""

    name: str
    url: str
    put: Callable[[pa.Table], tuple[str, str]]

    def count(self, rows: pa.Table, **options: Any) -> Counts:
        return count_on(*self.put(rows), **options)


@pytest.fixture(scope="module")
def session(spark: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session that is running already: starting one takes seconds. Stopped before its master is."""
    from pyspark.sql import SparkSession

    # Java that runs for seconds only is fastest when it does not optimise much.
    short = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    small = {
        "spark.driver.extraJavaOptions": short,
        "spark.executor.extraJavaOptions": short,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executor.memory": "512m",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master(spark)
    for key, value in small.items():
        builder = builder.config(key, value)
    running = builder.getOrCreate()
    yield running
    running.stop()


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """The engine named by the test's parameter."""
    return start(request.param, request, tmp_path)


def start(name: str, request: pytest.FixtureRequest, place: Path) -> Engine:
    numbers = iter(range(10**6))
    if name == "duckdb":
        return Engine(name, "duckdb://", lambda rows: put_duckdb(place / f"{next(numbers)}.db", rows))
    if name == "duckdb files":
        return Engine(name, "duckdb://", lambda rows: ("duckdb://", write(place / f"{next(numbers)}.parquet", rows)))
    if name == "postgres":
        server: Server = request.getfixturevalue("postgres")
        return Engine(name, server.url, lambda rows: (server.url, put_postgres(server, "traces", rows)))
    session, url = request.getfixturevalue("session"), request.getfixturevalue("spark")
    if name == "spark files":
        return Engine(name, url, lambda rows: (url, write(place / f"{next(numbers)}.parquet", rows)))

    def put_view(rows: pa.Table) -> tuple[str, str]:
        # Spark's own times have microseconds.
        path = write(place / f"{next(numbers)}.parquet", microseconds(rows))
        session.read.parquet(path).createOrReplaceTempView("some_traces")
        return url, "some_traces"

    return Engine(name, url, put_view)


def write(path: Path, rows: pa.Table) -> str:
    pq.write_table(rows, path)
    return str(path)


def put_duckdb(path: Path, rows: pa.Table) -> tuple[str, str]:
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.register("incoming", rows)
        connection.execute('create table "my traces" as select * from incoming')
    return f"duckdb://{path}", "my traces"


def put_postgres(server: Server, name: str, rows: pa.Table) -> str:
    import psycopg
    from psycopg import sql

    rows = microseconds(rows)
    types = {"uint64": "numeric(20)", "int64": "bigint", "bool": "boolean", "double": "double precision"}
    shape = [
        sql.SQL("{} {}").format(
            sql.Identifier(f.name),
            sql.SQL("timestamptz" if pa.types.is_timestamp(f.type) else types.get(str(f.type), "text")),  # type: ignore[arg-type]
        )
        for f in rows.schema
    ]
    with psycopg.connect(server.url) as connection:
        table = sql.Identifier(name)
        connection.execute(sql.SQL("drop table if exists {}").format(table))
        connection.execute(sql.SQL("create table {} ({})").format(table, sql.SQL(", ").join(shape)))
        with connection.cursor().copy(sql.SQL("copy {} from stdin").format(table)) as copy:
            for row in rows.to_pylist():
                copy.write_row([_said(value) for value in row.values()])
    return name


def _said(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def microseconds(rows: pa.Table) -> pa.Table:
    """Return rows with times as databases keep them, and plain texts."""
    fields = []
    for f in rows.schema:
        kind = pa.timestamp("us", "UTC") if pa.types.is_timestamp(f.type) else f.type
        fields.append(pa.field(f.name, pa.string() if pa.types.is_dictionary(kind) else kind))
    return rows.cast(pa.schema(fields), safe=False)


def table_of(rows: list[Row]) -> pa.Table:
    texts = any(isinstance(row["trace_id"], str) for row in rows)
    shape = schema(pa.string() if texts else pa.uint64())
    return pa.Table.from_pylist(rows, pa.schema([f.with_nullable(True) for f in shape]))


def numbers(counts: Counts) -> Counts:
    return replace(counts, files=(), problems=())


def told(counts: Counts) -> dict[str, int]:
    return {problem.what.split(",")[0]: problem.number for problem in counts.problems}


def last(value: Any) -> tuple[bool, Any]:
    """Order nulls last."""
    return value is None, value


def by_hand(rows: list[Row], cut: int | None = None) -> tuple[Counts, int, int]:
    """Count rows one by one; and how many come again, and how many lack their recorded parent."""
    first: dict[tuple[Any, Any], Row] = {}
    key = ("name", "sent", "status", "parent_id", "parent")
    for row in sorted(rows, key=lambda r: (r["status"] not in ("ok", "error"), *(last(r[k]) for k in key))):
        first.setdefault((row["trace_id"], row["span_id"]), row)
    below: dict[tuple[Any, Any], list[Row]] = {}
    for row in first.values():
        if row["parent_id"] is not None:
            below.setdefault((row["trace_id"], row["parent_id"]), []).append(row)
    latest = max((row["started_at"] for row in first.values() if row["started_at"] is not None), default=0)
    counters: dict[str, Counter[Any]] = {
        what: Counter() for what in ("table", "starts", "errors", "pending", "dropped")
    }
    orphans = 0
    for (trace, span), row in first.items():
        above = first.get((trace, row["parent_id"]))
        orphans += row["parent_id"] is not None and above is None
        children = [child["name"] for child in below.get((trace, span), []) if child["status"] != "dropped"]
        sent = row["sent"] if row["sent"] is not None else format_pattern(children)
        late = row["started_at"] is not None and cut is not None and row["started_at"] > latest - cut
        if row["status"] == "dropped":
            sender = row["parent"] or (above and above["name"])
            if sender is not None:
                counters["dropped"][sender] += 1
        elif row["status"] == "pending" or (late and not sent):
            counters["pending"][row["name"]] += 1
        else:
            counters["table"][row["name"], sent] += 1
            counters["errors"][row["name"]] += row["status"] == "error"
            counters["starts"][row["name"]] += row["parent_id"] is None
    counts = Counts(**{what: dict(sorted((+c).items())) for what, c in counters.items()})
    return counts, len(rows) - len(first), orphans


def compare(engine: Engine, rows: list[Row], cut: int | None = None) -> Counts:
    counts = engine.count(table_of(rows), cut=cut)
    expected, again, orphans = by_hand(rows, cut)
    assert numbers(counts) == expected
    assert list(counts.table) == sorted(counts.table)
    assert told(counts).get("events recorded twice", 0) == again
    assert told(counts).get("events whose parent was not recorded", 0) == orphans
    return counts


def big_forest(runs: int, seed: int) -> list[Row]:
    """Make runs with all that may happen: fan-out, failures, what was lost, and the same events told differently."""
    chance = random.Random(seed)
    names = ["order", "pay", "notify", "sehr groß", 'quo"te', "back\\slash", "a*2", "tab\there", "Ω", "it's", "z"]
    rows: list[Row] = []
    for run in range(runs):
        made: list[Row] = []
        for span in range(chance.randrange(1, 12)):
            handled = [row for row in made if row["status"] in ("ok", "error")]
            parent = chance.choice(handled) if handled and chance.random() < 0.9 else None
            status = chance.choice(["ok"] * 5 + ["error", "pending", "dropped"]) if parent else "ok"
            made.append(
                event(
                    f"{run:x}",
                    f"{span}",
                    None if status == "dropped" else chance.choice(names),
                    status=status,
                    parent=parent["name"] if parent and chance.random() < 0.5 else None,
                    parent_id=parent and parent["span_id"],
                    sent=chance.choice([None, None, "pay", "notify pay*2", ""]) if status != "dropped" else "",
                    started_at=chance.choice([None, chance.randrange(10**12) * 1000]),
                )
            )
        rows += [row for row in made if chance.random() < 0.95]
        for row in chance.choices(made, k=chance.randrange(3)):
            rows.append(
                row | {"name": row["name"] and chance.choice(names), "status": chance.choice(["ok", row["status"]])}
            )
            if row["name"] is None:
                rows[-1]["status"] = "dropped"
    chance.shuffle(rows)
    return rows


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_a_forest_counts_as_by_hand(engine: Engine) -> None:
    rows = big_forest(700, 7)
    counts = compare(engine, rows, cut=10**14)
    assert counts.fans_out
    assert min(len(counts.errors), len(counts.pending), len(counts.dropped)) > 5
    if engine.name != "spark files":
        compare(engine, rows)


@pytest.mark.parametrize("engine", ["duckdb", "postgres"], indirect=True)
@settings(max_examples=8)
@given(forests(names.filter(lambda name: "\0" not in name)))
def test_forests_count_as_by_hand(engine: Engine, rows: list[Row]) -> None:
    compare(engine, rows)
    compare(engine, [row | {"sent": None} for row in rows])


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_recorded_traces_with_numbers_for_ids(engine: Engine) -> None:
    rows = [
        event(2**63, 1, "order", sent="pay"),
        event(2**63, 2, "pay", parent="order", parent_id=1, sent="invoice notify*2"),
        event(2**63, 3, "invoice", parent="pay", parent_id=2, status="error"),
        event(2**63, 4, "notify", parent="pay", parent_id=2),
        event(2**63, 5, "notify", parent="pay", parent_id=2, status="pending"),
        event(2**63, 6, None, parent="order", parent_id=1, status="dropped"),
        event(2, 1, "pay"),
    ]
    counts = engine.count(table_of(rows), graph=parse_graph("order -> pay -> invoice"))
    assert counts.table == {
        ("invoice", ""): 1,
        ("notify", ""): 1,
        ("order", "pay"): 1,
        ("pay", ""): 1,
        ("pay", "invoice notify*2"): 1,
    }
    assert (counts.starts, counts.errors) == ({"order": 1, "pay": 1}, {"invoice": 1})
    assert (counts.pending, counts.dropped) == ({"notify": 1}, {"order": 1})
    assert counts.undeclared == {("pay", "notify"): 2}
    assert counts.problems == ()
    if not engine.name.startswith("spark"):
        assert numbers(engine.count(table_of(rows[:0]))) == Counts()


def log_by_hand(rows: list[Row], cut: int | None = None) -> Counts:
    table: Counter[tuple[str, str]] = Counter()
    starts, pending = Counter[str](), Counter[str]()
    latest = max(row["time"] for row in rows if row["time"] is not None)
    ordered = sorted(rows, key=lambda r: (r["case"], last(r["time"]), r["seq"]))
    for _, group in groupby(ordered, key=lambda r: r["case"]):
        case = list(group)
        for k, row in enumerate(case):
            after = case[k + 1] if k + 1 < len(case) else None
            if cut is not None and after is None and row["time"] is not None and row["time"] > latest - cut:
                pending[row["activity"]] += 1
                continue
            table[row["activity"], format_pattern([after["activity"]] if after else [])] += 1
            starts[row["activity"]] += k == 0
    return Counts(*(dict(sorted((+c).items())) for c in (table, starts, Counter[str](), pending)))


def some_log(cases: int, seed: int) -> list[Row]:
    chance = random.Random(seed)
    rows: list[Row] = [
        {
            "case": f"c{chance.randrange(cases)}",
            "activity": chance.choice(["register", "check it", 'say "yes"', "pay"]),
            # Few different times, so that many are equal; some are unknown.
            "time": chance.choice([None, *[(1_577_836_800 + chance.randrange(9)) * 10**9] * 9]),
        }
        for _ in range(cases * 4)
    ]
    return [row | {"seq": k} for k, row in enumerate(rows)]


def log_table_of(rows: list[Row]) -> pa.Table:
    types = {"case": pa.string(), "activity": pa.string(), "time": pa.timestamp("ns", "UTC"), "seq": pa.int64()}
    return pa.Table.from_pylist(rows, pa.schema(list(types.items())))


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_a_log_counts_as_by_hand(engine: Engine) -> None:
    rows = some_log(300, 3)
    for cut in (None, 2 * 10**9):
        counts = engine.count(log_table_of(rows), cut=cut)
        assert numbers(counts) == log_by_hand(rows, cut)
        assert counts.problems == ()


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_events_at_one_time_without_an_order_come_by_name_and_are_told(engine: Engine) -> None:
    rows = [{"case": 1, "activity": a, "time": t} for a, t in [("b", 1), ("a", 1), ("c", 2), ("c", 2)]]
    shape = pa.schema([("case", pa.int64()), ("activity", pa.string()), ("time", pa.timestamp("us", "UTC"))])
    counts = engine.count(pa.Table.from_pylist(rows, shape))
    ordered = engine.name in ("postgres", "spark table")
    assert counts.starts == {"a" if ordered else "b": 1}
    assert told(counts) == ({"events at the time of another of their case": 2} if ordered else {})


FOREIGN = [
    {"TraceID": "t1", "SpanID": "a1", "ParentID": "root", "PodName": "front-579b9bff58-t2dbm", "OperationName": "get"},
    {"TraceID": "t1", "SpanID": "a2", "ParentID": "a1", "PodName": "cart-6d8f7c6b5-4x2lq", "OperationName": "add"},
    {"TraceID": "t1", "SpanID": "a3", "ParentID": "a1", "PodName": "cart-6d8f7c6b5-zzzzz", "OperationName": "add"},
    {"TraceID": "t2", "SpanID": "a1", "ParentID": "0000", "PodName": "front-579b9bff58-t2dbm", "OperationName": "get"},
    {"TraceID": "t2", "SpanID": "a2", "ParentID": "gone", "PodName": "db-0", "OperationName": "sel;ect"},
]


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
def test_columns_are_found_and_nodes_are_made_as_in_files(engine: Engine) -> None:
    words = ["Unset", "STATUS_CODE_ERROR", None, "odd", "2"]
    rows = pa.Table.from_pylist([row | {"StatusCode": word} for row, word in zip(FOREIGN, words, strict=True)])
    counts = engine.count(rows)
    assert counts.table == {
        ("cart.add", ""): 2,
        ("db.sel;ect", ""): 1,
        ("front.get", ""): 1,
        ("front.get", "cart.add*2"): 1,
    }
    assert (counts.starts, counts.errors) == ({"front.get": 2}, {"cart.add": 1, "db.sel;ect": 1})
    assert told(counts) == {"spans with an unknown word as their status": 1, **told(counts)}
    assert told(counts)["events whose parent was not recorded"] == 1
    named = engine.count(rows, node="{OperationName}!")
    assert named.starts == {"get!": 2}
    assert engine.count(rows, trace="TraceID", span="SpanID", parent="ParentID", name="PodName").runs == 2
    with pytest.raises(TraceError, match=r"no column 'Nam' \(--name\)"):
        engine.count(rows, name="Nam")
    with pytest.raises(TraceError, match="no column 'nothing', a field of the template"):
        engine.count(rows, node="{nothing}")


@pytest.mark.parametrize("engine", ["duckdb", "postgres"], indirect=True)
def test_rows_that_lack_something_are_refused_or_told(engine: Engine) -> None:
    rows = [
        event("t", "1", "a"),
        event("t", "2", "b"),
        event("t", None, "a"),
        event(None, "4", "a"),
        event("t", "5", ""),
    ]
    with pytest.raises(TraceError, match=r"1 rows have no trace id; with --skip-bad"):
        engine.count(table_of(rows))
    counts = engine.count(table_of(rows), skip_bad=True)
    assert counts.events == {"a": 1, "b": 1}
    assert told(counts) == {"rows without trace id": 1, "rows without span id": 1, "rows without name": 1}
    log = pa.table({"case": ["1", None, "2"], "activity": ["a", "b", ""]})
    with pytest.raises(TraceError, match="1 rows have no case"):
        engine.count(log)
    assert engine.count(log, skip_bad=True).events == {"a": 1}


@pytest.mark.parametrize("engine", ["duckdb", "postgres"], indirect=True)
def test_impossible_rows_are_refused(engine: Engine) -> None:
    with pytest.raises(TraceError, match="1 events are their own parents"):
        engine.count(table_of([event("t", "1", "a", parent_id="1")]))
    with pytest.raises(TraceError, match="an event at 'a': not a send pattern"):
        engine.count(table_of([event("t", "1", "a", sent='"')]))
    timeless = table_of([event("t", "1", "a")]).drop(["started_at"]).append_column("started_at", pa.array([True]))
    with pytest.raises(TraceError, match="'started_at' holds no times, but boolean"):
        engine.count(timeless, cut="1s")
    with pytest.raises(TraceError, match="latencies are not counted on an engine"):
        engine.count(table_of([event("t", "1", "a")]), latencies=True)


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
def test_retries_are_told_by_node(engine: Engine) -> None:
    rows = [
        {"TraceID": "t", "SpanID": f"{k}", "ParentID": up, "PodName": pod, "OperationName": "x", "status": status}
        for k, up, pod, status in [
            ("1", "", "front-0", "ok"),
            ("2", "1", "cart-6d8f7c6b5-4x2lq", "error"),
            ("3", "1", "cart-6d8f7c6b5-zzzzz", "ok"),
        ]
    ]
    counts = engine.count(pa.Table.from_pylist(rows))
    assert [(p.number, p.example) for p in counts.problems] == [(1, "1 time at cart.x")]
    assert counts.table == {("cart.x", ""): 2, ("front.x", "cart.x*2"): 1}


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
@pytest.mark.parametrize("timed", [True, False])
def test_longer_cycles_of_parents_are_found(engine: Engine, timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ups = {"1": "3", "2": "1", "3": "2"}
    at = {"1": 3000, "2": 1000, "3": 2000} if timed else {}
    ring = [event("t", k, "a", parent_id=up, sent=None, started_at=at.get(k)) for k, up in ups.items()]
    with pytest.raises(TraceError, match=r"trace t, span 1: this event is among its own ancestors \(3 events"):
        engine.count(table_of(ring))
    ring[0]["parent_id"] = None
    assert engine.count(table_of(ring)).table == {("a", "a"): 2, ("a", ""): 1}
    # Ids that run backwards are no cycle, and times may show that.
    chain = [
        event("t", k, "a", parent_id=up, sent=None, started_at=4000 - int(k) * 1000)
        for k, up in (("3", None), ("2", "3"), ("1", "2"))
    ]
    monkeypatch.setattr("flowstat.estimate.engine.LOOKED_AT", 0)
    assert engine.count(table_of(chain)).problems == ()
    unknown = engine.count(table_of([row | {"started_at": None} for row in chain]))
    assert unknown.table == {("a", "a"): 2, ("a", ""): 1}
    assert told(unknown) == {"events of runs in which neither ids nor times rule out a cycle of parents": 2}


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
def test_links_are_counted_or_said_not_to_be(engine: Engine) -> None:
    to = [{"trace_id": "t", "span_id": "1"}, {"trace_id": "u", "span_id": "1"}]
    rows = [
        event("t", "1", "a", links=None),
        event("v", "1", "b", links=to),
        event("v", "1", "b", links=to[:1], sent="x"),
    ]
    shape = pa.schema([*table_of(rows).schema, pa.field("links", links_type(pa.string()))])
    counts = engine.count(pa.Table.from_pylist(rows, shape))
    stray = "span links from events that were not recorded"
    apart = "tables with links in a form that can't be taken apart on this engine: span links are not counted"
    assert counts.table == {("a", ""): 1, ("b", ""): 1}
    if engine.name == "postgres":
        assert (counts.links, told(counts)) == ({}, {"events recorded twice": 1, apart: 1})
    else:
        assert (counts.links, told(counts)) == ({("a", "b"): 1}, {"events recorded twice": 1, stray: 1})


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
def test_whole_numbers_stored_as_doubles_are_whole(engine: Engine) -> None:
    ids = {"trace_id": [1.0] * 4, "span_id": [9.0, 10.0, 20.0, 20.0], "parent_id": [None, float("nan"), 9.0, 10.0]}
    rows = pa.table({c: pa.array(values, pa.float64()) for c, values in ids.items()} | {"name": [*"abcc"]})
    # As texts, "10" is before "9".
    assert engine.count(rows).table == {("a", ""): 1, ("b", "c"): 1, ("c", ""): 1}
    for odd in (10.5, 2.0**60, float("inf")):
        wrong = rows.set_column(2, "parent_id", pa.array([None, None, 9.0, odd]))
        with pytest.raises(TraceError, match="1 rows have no whole number as an id"):
            engine.count(wrong)
        assert engine.count(wrong, skip_bad=True).table == {("a", "c"): 1, ("b", ""): 1, ("c", ""): 1}


@pytest.mark.parametrize("engine", ["duckdb", "postgres"], indirect=True)
def test_a_message_without_a_node_is_nobodys(engine: Engine) -> None:
    rows = [
        {"trace_id": "t", "span_id": k, "parent_id": up, "service": name, "name": name, "status": status}
        for k, up, name, status in [("1", None, "a", "ok"), ("2", "1", None, "dropped"), ("3", "2", "", "dropped")]
    ]
    counts = engine.count(pa.Table.from_pylist(rows))
    assert (counts.events, counts.dropped) == ({"a.a": 1}, {"a.a": 1})
    assert told(counts) == {"messages that no arrow took": 1}


def test_the_order_of_texts_is_not_that_of_a_language(postgres: Server) -> None:
    import psycopg

    rows = [event("t", "1", name) for name in ("a", "B", "ä", "Z")]
    put_postgres(postgres, "spoken", table_of(rows))
    log = pa.table({"case": ["1"] * 4, "activity": ["a", "B", "ä", "Z"]})
    put_postgres(postgres, "spoken_log", log)
    with psycopg.connect(postgres.url) as owner:
        owner.execute('alter table spoken alter column name type text collate "en-x-icu"')
        owner.execute('alter table spoken_log alter column activity type text collate "en-x-icu"')
    assert count_on(postgres.url, "spoken").events == {"B": 1}
    assert count_on(postgres.url, "spoken_log").starts == {"B": 1}


@pytest.mark.parametrize("kind", ["mysql", "mssql"])
def test_engines_that_would_miscount_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ibis

    class There:
        name = kind

        def disconnect(self) -> None: ...

    monkeypatch.setattr(ibis, "connect", lambda *given, **more: There())
    with pytest.raises(TraceError, match=rf"^can't count on {kind}://host/db: .*; export the table"):
        count_on(f"{kind}://me:geheim@host/db", "traces")


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
def test_times_may_be_texts_or_numbers(engine: Engine) -> None:
    base = {"case": ["x"] * 3, "activity": ["late", "early", "middle"]}
    times: list[list[Any]] = [
        [1_700_000_003, 1_700_000_001, 1_700_000_002],
        [1_700_000_003_000, 1_700_000_001_000, 1_700_000_002_000],
        ["1700000003", "1700000001", " 1700000002"],
        ["2023-11-14T22:13:23Z", "2023-11-14 22:13:21.5", "2023-11-15T01:13:22+03:00"],
    ]
    for column in times:
        counts = engine.count(pa.table(base | {"time": column}), cut="1ms")
        assert counts.table == {("early", "middle"): 1, ("middle", "late"): 1}
        assert (counts.starts, counts.pending) == ({"early": 1}, {"late": 1})


@pytest.mark.parametrize("engine", ["duckdb files", "spark files"], indirect=True)
def test_csv_files_are_read_by_the_engine(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('case,activity,time\n01,"say ""x"", y",2024-01-02\n1,b,2024-01-01\n01,c,2024-01-03\n')
    counts = count_on(engine.url, str(path))
    assert counts.table == {('say "x", y', "c"): 1, ("c", ""): 1, ("b", ""): 1}
    with pytest.raises(TraceError, match=r"can't read .*none\.csv on (duckdb|spark)://"):
        count_on(engine.url, str(tmp_path / "none.csv"))


def test_directories_and_globs_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for k in range(2):
        write(
            tmp_path / "rows" / f"part-{k}.parquet", table_of([event("t", f"{k}", "a", parent_id="0" if k else None)])
        )
    for name in (str(tmp_path / "rows"), str(tmp_path / "rows" / "*.parquet")):
        assert count_on("duckdb://", name).events == {"a": 2}


def test_nothing_is_written_to_the_engines(postgres: Server, tmp_path: Path) -> None:
    import psycopg

    rows = table_of(big_forest(20, 1))
    put_postgres(postgres, "only_read", rows)
    with psycopg.connect(postgres.url) as owner:
        owner.execute("create role reader login password 'a:b/c@d'")
        owner.execute("revoke temporary on database traces from public")
        owner.execute("create schema shut")
        owner.execute("create table shut.traces (case_id text, activity text)")
        owner.execute("grant usage on schema shut to reader")
        owner.execute("grant select on only_read to reader")
    url = f"postgresql://reader:a%3Ab%2Fc%40d@{postgres.host}:{postgres.port}/traces"
    counts = count_on(url, "public.only_read")
    assert numbers(counts) == by_hand(rows.to_pylist())[0]
    assert counts.files == (f"public.only_read on {visible_url(url)}",)
    with pytest.raises(TraceError, match="permission denied for table traces") as caught:
        count_on(url, "shut.traces")
    assert "c@d" not in str(caught.value)
    link, name = put_duckdb(tmp_path / "rows.db", rows)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir())
    count_on(link, name)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("traces", "not the URL of an engine: traces; it is such as duckdb"),
        ("nonsense://me:geheim@host/db", "can't connect to nonsense://host/db: Don't know how to connect"),
        ("postgres://me:gehe/im@host:1/db", "not the URL of an engine: postgres://host:1/db can't be taken apart"),
        ("postgres://me:geheim@127.0.0.1:{port}/db", "can't connect to postgres://127.0.0.1:{port}/db: .*refused"),
        ("duckdb:///nowhere/geheim.db", "no such DuckDB file: /nowhere/"),
        ("duckdb://?secret_option=geheim", "can't connect to duckdb://: .*not recognized"),
        (
            "mysql://me:geheim@host/db",
            r"mysql://host/db: a package is missing \(.*\): pip install 'ibis-framework\[mysql\]'",
        ),
    ],
)
def test_an_engine_that_is_not_there_is_told_without_secrets(url: str, message: str) -> None:
    port = str(free_port())
    with pytest.raises(TraceError, match=message.replace("{port}", port)) as caught:
        count_on(url.replace("{port}", port), "traces")
    assert "me" not in re.split(r"\W", str(caught.value))
    assert "nowhere" in url or "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_password_or_table_is_told(postgres: Server) -> None:
    with pytest.raises(TraceError, match="password authentication failed for user") as caught:
        count_on(postgres.url.replace(postgres.password, "geheim"), "traces")
    assert "geheim" not in str(caught.value)
    put_postgres(postgres, "some_rows", table_of([event(1, 1, "a")]))
    with pytest.raises(TraceError, match=r"no table some_row on postgres://127.0.0.1:.*; there are some_rows"):
        count_on(postgres.url, "some_row")
    with pytest.raises(TraceError, match=r"no table nowhere.some_rows on"):
        count_on(postgres.url, "nowhere.some_rows")
    with pytest.raises(TraceError, match="no table was named"):
        count_on(postgres.url, " ")


def test_children_may_come_as_one_text_where_an_engine_has_no_lists() -> None:
    row = {"name": "a", "sent": None, "status": "ok", "root": True, "parent": None, "messages": 0, "unsaid": 0}
    rows = [row | {"selves": 0, "n": n, "children": text} for n, text in [(1, '"c \\"d\\"" "b" "b"'), (2, None)]]
    counts = tree_counts(rows, "somewhere", Notices())
    assert counts.table == {("a", ""): 2, ("a", 'b*2 "c \\"d\\""'): 1}


def test_a_missing_package_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, url, extra in [("psycopg", "postgres://h/db", "postgres"), ("pyspark", "spark://h:1", "spark")]:
        for name in [n for n in sys.modules if n.split(".")[0] == module or n == f"ibis.backends.{extra}"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(
            TraceError, match=rf"a package is missing \({module}.*\): pip install 'flowstat\[{extra}\]'"
        ):
            count_on(url, "traces")


def test_missing_programs_skip_the_tests_but_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "false")
    with pytest.raises(pytest.skip.Exception, match="no server"):
        missing("no server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no server"):
        missing("no server")


@pytest.mark.parametrize("engine", ["duckdb", "duckdb files", "postgres", "spark table"], indirect=True)
def test_whole_numbers_written_as_decimals_are_whole(engine: Engine) -> None:
    def rows(*parents: str | None) -> pa.Table:
        ids = {"trace_id": ["1.0"] * 4, "span_id": ["1", "2", "3", "4.0"]}
        return pa.table(ids | {"parent_id": pa.array(parents, pa.string()), "name": [*"abcd"]})

    whole = engine.count(rows("", "1.0", "1.0", "3"))
    assert whole.table == {("a", "b c"): 1, ("b", ""): 1, ("c", "d"): 1, ("d", ""): 1}
    assert (whole.starts, whole.problems) == ({"a": 1}, ())
    lost = rows(None, "1.0", "9007199254740992.0", "1.2e+17")
    with pytest.raises(TraceError, match="2 rows have no whole number as an id"):
        engine.count(lost)
    assert engine.count(lost, skip_bad=True).table == {("a", "b"): 1, ("b", ""): 1}
    if engine.name == "spark table":
        return
    assert engine.count(rows("0.0", "root", None, "0")).runs == 4
    huge = rows(None, "1.0", "9" * 310 + ".0", "1e+999")
    assert engine.count(huge, skip_bad=True).table == {("a", "b"): 1, ("b", ""): 1}
    # One that is no number says that they are texts.
    texts = engine.count(rows("", "1.0", "x", "3"))
    assert (texts.starts, told(texts)) == ({"a": 1}, {"events whose parent was not recorded": 2, **told(texts)})


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
def test_which_row_counts_is_said_by_the_node_not_by_its_fields(engine: Engine) -> None:
    rows = {"trace_id": ["t"] * 3, "span_id": ["1", "2", "2"], "parent_id": [None, "1", "1"]}
    # With what stands between the fields, "a" is before "a-b", but "a-b.x" before "a.x".
    named = pa.table(rows | {"service": ["r", "a", "a-b"], "name": ["x"] * 3})
    assert engine.count(named).table == {("r.x", "a-b.x"): 1, ("a-b.x", ""): 1}
    # Two pods are one node: the parent says which row counts.
    pods = ["r-0", "cart-7d9f8c7b6d-zzzzz", "cart-7d9f8c7b6d-bbbbb"]
    counts = engine.count(pa.table(rows | {"parent_id": ["", "1", ""], "PodName": pods, "name": ["x"] * 3}))
    assert (counts.table, counts.starts) == ({("r.x", "cart.x"): 1, ("cart.x", ""): 1}, {"r.x": 1})
    if engine.name == "spark table":
        return
    assert engine.count(named, node="{service}").table == {("r", "a"): 1, ("a", ""): 1}
    # What no node took comes last.
    lost = pa.table(rows | {"service": ["r", None, "a"], "name": ["x", None, "x"], "status": ["ok"] + ["dropped"] * 2})
    assert engine.count(lost).dropped == {"r.x": 1}


@pytest.mark.parametrize("engine", ["duckdb", "postgres", "spark table"], indirect=True)
def test_words_stored_as_decimals_mean_the_same(engine: Engine) -> None:
    rows = {"trace_id": ["1"] * 3, "span_id": ["1", "2", "3"], "parent_id": ["", "1", "1"]}
    codes: list[list[Any]] = [[0.0, 2.0, None], ["0.0", "2.0", None], ["0", "2.00", "1.0"], [0.0, 2.0, float("nan")]]
    for code in codes[-2:] if engine.name == "spark table" else codes:
        counts = engine.count(pa.table(rows | {"name": [*"abc"], "status": code}))
        assert (counts.errors, counts.problems) == ({"b": 1}, ())
    numbers = engine.count(pa.table(rows | {"name": [1.0, 2.5, 3e9]}))
    assert numbers.table == {("1", "2.5 3000000000"): 1, ("2.5", ""): 1, ("3000000000", ""): 1}


def test_decimals_mean_the_same_in_files_and_on_engines(tmp_path: Path) -> None:
    rows = {"trace_id": ["1"] * 3, "span_id": ["1", "2", "3"], "parent_id": ["", "1.0", "1.0"], "name": [*"abc"]}
    table = pa.table(rows | {"status": [0.0, 2.0, None]})
    write(tmp_path / "rows.parquet", table)
    lines = [",".join("" if v is None else str(v) for v in row.values()) for row in table.to_pylist()]
    (tmp_path / "rows.csv").write_text("\n".join([",".join(table.column_names), *lines]))
    for path in (tmp_path / "rows.parquet", tmp_path / "rows.csv"):
        for counts in (count(read_traces(path)), count_on("duckdb://", str(path))):
            assert counts.table == {("a", "b c"): 1, ("b", ""): 1, ("c", ""): 1}
            assert (counts.starts, counts.errors, counts.problems) == ({"a": 1}, {"b": 1}, ())


@pytest.mark.parametrize("engine", ["duckdb", "postgres"], indirect=True)
def test_cases_may_be_decimals_but_not_have_lost_digits(engine: Engine) -> None:
    log = pa.table({"case": [1.0, 1.5, 1.0, float("nan")], "activity": [*"abcd"]})
    counts = engine.count(log, skip_bad=True)
    assert told(counts)["rows without case"] == 1
    assert counts.starts == {"a": 1, "b": 1}
    with pytest.raises(TraceError, match="1 rows have no whole number as an id"):
        engine.count(pa.table({"case": [1.0, 2.0**53], "activity": [*"ab"]}))


@pytest.mark.parametrize("engine", ["duckdb files", "spark files"], indirect=True)
def test_csv_of_any_delimiter_is_read_as_files_are(engine: Engine, tmp_path: Path) -> None:
    for name, text in [
        ("semi.csv", 'case;"activity,a";time\nx;b,c;1\nx;"d";2\n'),
        ("comma.tsv", '\n"case","activity,a",time\nx,"b,c",1\nx,d,2\n'),
        ("bar.csv", "case|activity,a|v|v\nx|b,c|1|1\nx|d|2|2\n"),
    ]:
        (tmp_path / name).write_text(text)
        counts = count_on(engine.url, str(tmp_path / name), activity="activity,a")
        assert counts.table == {("b,c", "d"): 1, ("d", ""): 1}


def test_spark_tells_of_rows_that_have_not_the_headers_fields(spark: str, session: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("trace_id,span_id,parent_id,name\nt,1,,a\nt,2,1,b,zz\nt,3,1\nt,4,1,c\n")
    with pytest.raises(TraceError, match=r"rows\.csv on spark://.*: 2 rows have no fitting number of fields"):
        count_on(spark, str(path))
    counts = count_on(spark, str(path), skip_bad=True)
    assert counts.table == {("a", "c"): 1, ("c", ""): 1}
    assert told(counts) == {"rows without fitting number of fields": 2}
    path.write_text('case,activity\nx,a\nx,"b\ny,a\n')
    with pytest.raises(TraceError, match=r"rows\.csv: a quote is opened in it that nothing closes"):
        count_on(spark, str(path))
    path.write_text("case,activity\nx,a\n")
    (tmp_path / "more.csv").write_text("activity,case\nb,y\n")
    with pytest.raises(TraceError, match="CSV header does not conform to the schema"):
        count_on(spark, str(tmp_path / "*.csv"))
    for name in ("rows.csv", "more.csv"):
        (tmp_path / name).write_text("case,activity,v,v\nx,a,1,2\n")
    with pytest.raises(TraceError, match="two columns have one name"):
        count_on(spark, str(tmp_path / "*.csv"))


def test_what_postgresql_holds_is_taken_as_text(postgres: Server) -> None:
    import psycopg

    rows = pa.table({"trace_id": ["1"] * 4, "span_id": ["1", "2", "3", "3"], "parent_id": ["", "1", "1", "1"]})
    rows = rows.append_column("name", pa.array([*"abdc"])).append_column("status", pa.array([*"abaa"]))
    put_postgres(postgres, "kinds", rows)
    with psycopg.connect(postgres.url) as owner:
        owner.execute("create type letter as enum ('d', 'c', 'b', 'a')")
        for column, kind in {
            "name": "letter",
            "status": "letter",
            "span_id": "char(8)",
            "parent_id": "char(8)",
        }.items():
            owner.execute(f"alter table kinds alter column {column} type {kind} using {column}::{kind}")  # type: ignore[arg-type]
    counts = count_on(postgres.url, "kinds")
    assert counts.table == {("a", "b c"): 1, ("b", ""): 1, ("c", ""): 1}
    with psycopg.connect(postgres.url) as owner:
        owner.execute("alter table kinds alter column name type char(5)")
    assert count_on(postgres.url, "kinds").table == counts.table
    with psycopg.connect(postgres.url) as owner:
        for kind, nobody in {"uuid": "rpad('0', 32, '0')::uuid", "bytea": r"'\x0000'::bytea"}.items():
            made = [f"lpad(trim({c}), 32, '0')::{kind}" for c in ("span_id", "parent_id")]
            made = [m.replace("::bytea", "::text::bytea") for m in made]
            made[1] = f"case parent_id when '' then {nobody} else {made[1]} end"
            query = f"select trace_id, {made[0]} span_id, {made[1]} parent_id, name from kinds"
            owner.execute(f"create table {kind}s as {query}")  # type: ignore[arg-type]
    for kind in ("uuid", "bytea"):
        assert count_on(postgres.url, f"{kind}s").table == counts.table
        assert count_on(postgres.url, f"{kind}s").starts == {"a": 1}


# Ibis leaves its cursor open then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_time_that_postgresql_can_not_read_is_told(postgres: Server) -> None:
    log = pa.table({"case": ["x"] * 2, "activity": [*"ab"]})
    for times, value in ((["2024-01-01", "foo"], "foo"), (["1600000000", "bar"], "bar")):
        put_postgres(postgres, "some_times", log.append_column("time", pa.array(times)))
        with pytest.raises(TraceError, match=f'invalid input syntax for type .*: "{value}"'):
            count_on(postgres.url, "some_times")


def test_looking_for_cycles_keeps_to_the_memory(tmp_path: Path, run_flowstat: Callable[..., Any]) -> None:
    rows = [event("t", k, "a", parent_id=up, sent=None) for k, up in (("3", None), ("2", "3"))]
    path = write(tmp_path / "rows.parquet", table_of(rows))
    assert count_on("duckdb://", path, memory=100 << 20).events == {"a": 2}
    with pytest.raises(TraceError, match="--memory is 1,048,576 bytes"):
        count_on("duckdb://", path, memory=1 << 20)
    code, _, err = run_flowstat("count", "--engine", "duckdb://", "--table", path, "--memory", "1MB")
    assert (code, "--memory is 1,048,576 bytes" in err) == (2, True)


def test_spark_is_started_where_it_does_not_run(spark: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The last test with Spark, since it stops the session of the others."""
    from pyspark.sql import SparkSession

    path = write(tmp_path / "rows.parquet", table_of([event(1, 1, "a")]))
    running = SparkSession.getActiveSession()
    if running is not None:
        with pytest.raises(TraceError, match=r"has a Spark session on spark://.* already: stop it"):
            count_on("spark://local[2]", path)
        running.stop()
    assert count_on("spark://local[1]?spark.sql.shuffle.partitions=1", path).events == {"a": 1}
    assert SparkSession.getActiveSession() is None
    port = free_port()
    with pytest.raises(TraceError, match=f"no Spark master at 127.0.0.1:{port}: Connection refused"):
        count_on(f"spark://127.0.0.1:{port}", path)
    with pytest.raises(TraceError, match="no Spark master at somewhere: no host and port"):
        count_on("spark://somewhere", path)
