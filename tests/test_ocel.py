import gzip
import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.estimate.counting import count
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.ocel import read_ocel
from flowstat.read.traces import read_traces

Log = dict[str, Any]

JAN1 = 1_704_067_200 * 10**9


def related(*names: str) -> list[dict[str, str]]:
    return [{"objectId": name, "qualifier": ""} for name in names]


ORDERS: Log = {
    "objectTypes": [{"name": "order", "attributes": []}, {"name": "item", "attributes": []}],
    "eventTypes": [{"name": name, "attributes": []} for name in ("place", "pack", "pay")],
    "objects": [
        {"id": "o1", "type": "order", "attributes": [{"name": "x", "time": "2024-01-01", "value": 1}]},
        {"id": "o2", "type": "order", "relationships": related("i1")},
        {"id": "i1", "type": "item"},
        {"id": "i2", "type": "item"},
    ],
    "events": [
        {"id": "e1", "type": "place", "time": "2024-01-01T00:00:00Z", "relationships": related("o1", "i1", "i1")},
        {"id": "e2", "type": "pack", "time": "2024-01-01T01:00:00.5+01:00", "relationships": related("i1", "i2")},
        {"id": "e3", "type": "pay", "time": "2024-01-01T00:00:00Z", "relationships": related("o1", "o2", "x9")},
    ],
}


def as_json(path: Path, log: Log) -> Path:
    path.write_text(json.dumps(log), encoding="utf-8")
    return path


def as_sqlite(path: Path, log: Log) -> Path:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma synchronous = off")
        connection.executescript(
            """
            create table event (ocel_id text primary key, ocel_type text);
            create table object (ocel_id text primary key, ocel_type text);
            create table event_object (ocel_event_id text, ocel_object_id text, ocel_qualifier text);
            create table event_map_type (ocel_type text primary key, ocel_type_map text);
            """
        )
        for number, kind in enumerate(log["eventTypes"]):
            connection.execute("insert into event_map_type values (?, ?)", (kind["name"], f'"T{number}'))
            connection.execute(f'create table "event_""T{number}" (ocel_id text, ocel_time timestamp)')
            for event in log["events"]:
                if event["type"] == kind["name"]:
                    values = (event["id"], event.get("time"))
                    connection.execute(f'insert into "event_""T{number}" values (?, ?)', values)
        connection.executemany("insert into object values (?, ?)", [(o["id"], o["type"]) for o in log["objects"]])
        for event in log["events"]:
            connection.execute("insert into event values (?, ?)", (event["id"], event["type"]))
            for relation in event.get("relationships", ()):
                connection.execute("insert into event_object values (?, ?, '')", (event["id"], relation["objectId"]))
        connection.commit()
    return path


WRITERS = [as_json, as_sqlite]


def read(path: Path, case: str | None = None, notices: Notices | None = None) -> list[tuple[Any, ...]]:
    batches = list(read_ocel(path, "t", Mapping(case=case), notices or Notices()))
    for batch in batches:
        batch.validate(full=True)
    found = pa.Table.from_batches(batches)
    times = found["started_at"].cast(pa.int64()).to_pylist()
    return list(zip(found["trace_id"].to_pylist(), found["name"].to_pylist(), times, strict=True))


def refusal(path: Path, case: str | None = None) -> str:
    with pytest.raises(TraceError) as caught:
        read(path, case)
    return str(caught.value)


@pytest.mark.parametrize("write", WRITERS)
def test_each_object_is_a_case(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "t", ORDERS)
    notices = Notices()
    assert read(path, "order", notices) == [("o1", "place", JAN1), ("o1", "pay", JAN1), ("o2", "pay", JAN1)]
    assert [(p.what, p.number, p.example) for p in notices.problems] == [
        ("events of no object of type 'order', left out", 1, "t: event 2"),
        ("relations to objects that are not in the file, left out", 1, "t: event 3, object 'x9'"),
    ]
    assert read(path, "item") == [
        ("i1", "place", JAN1),
        ("i1", "pack", JAN1 + 5 * 10**8),
        ("i2", "pack", JAN1 + 5 * 10**8),
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_the_type_has_to_be_told(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "t", ORDERS)
    listed = "'order' (2), 'item' (2)"
    assert refusal(path) == f"t has several types of objects: choose with --case which are the cases: {listed}"
    assert refusal(path, "orders") == (
        f"t has no objects of type 'orders' (--case): did you mean 'order'? it has {listed}"
    )
    one = ORDERS | {"objects": ORDERS["objects"][:2]}
    assert len(read(write(tmp_path / "t", one))) == 3
    assert refusal(write(tmp_path / "t", ORDERS | {"objects": []})) == "t has no objects: there are no cases"


@pytest.mark.parametrize("write", WRITERS)
def test_objects_without_events(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "t", ORDERS | {"events": []})
    notices = Notices()
    assert read(path, "order", notices) == []
    (problem,) = notices.problems
    assert (problem.number, problem.example) == (2, "t: 'o1'")


def test_packed(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(ORDERS).encode()))
    assert len(read(path, "order")) == 3
    path.write_bytes(path.read_bytes()[:-9])
    assert refusal(path).startswith("can't read the trace t: ")


def test_a_packed_database(tmp_path: Path) -> None:
    plain = as_sqlite(tmp_path / "plain", ORDERS).read_bytes()
    for packed in (gzip.compress(plain), pa.Codec("zstd").compress(plain, asbytes=True)):
        path = tmp_path / "t.sqlite.gz"
        path.write_bytes(packed)
        advanced: list[int] = []
        assert read(path, "order", Notices(advance=advanced.append)) == read(tmp_path / "plain", "order")
        assert sum(advanced) == len(packed)
        assert count(read_traces(path, case="order")).events == {"pay": 2, "place": 1}
        path.write_bytes(packed[:-20])
        assert refusal(path).startswith("can't read the trace t: ")


def changed(number: int, **more: Any) -> Log:
    events = [dict(event) for event in ORDERS["events"]]
    events[number] |= more
    return ORDERS | {"events": events}


@pytest.mark.parametrize(
    ("log", "what"),
    [
        (changed(0, time="noon"), "t: event 1: the time 'noon' can't be read: a time is ISO 8601"),
        (changed(2, type=""), "t: event 3: it has no type"),
        (changed(2, type=5), "t: event 3: it can't be read: Expected `str`, got `int` - at `$.type`"),
        (changed(0, relationships={}), "t: event 1: it can't be read: Expected `array | null`"),
        (changed(0, relationships=[{}]), "t: event 1: it can't be read: Object missing required field `objectId`"),
        (ORDERS | {"events": [*ORDERS["events"][:1], "x", *ORDERS["events"][2:]]}, "t: event 2: it can't be read"),
        (ORDERS | {"objects": [*ORDERS["objects"], {"id": "z"}]}, "t: object 5: it can't be read: Object missing"),
        (
            ORDERS | {"objects": [*ORDERS["objects"], {"id": "", "type": "order"}]},
            "t: object 5: it needs an id and a type",
        ),
    ],
)
def test_bad_records(tmp_path: Path, log: Log, what: str) -> None:
    path = as_json(tmp_path / "t", log)
    assert refusal(path, "order").startswith(what)
    notices = Notices(skip_bad=True)
    assert len(read(path, "order", notices)) in (1, 2, 3)
    assert notices.problems[0].number == 1


def test_a_bad_time_of_an_event_of_several_objects_is_one_record(tmp_path: Path) -> None:
    notices = Notices(skip_bad=True)
    for write in (as_json, as_sqlite):
        assert len(read(write(tmp_path / "t", changed(2, time="x")), "order", notices)) == 1
    assert notices.problems[0].number == 2


def test_an_unknown_time(tmp_path: Path) -> None:
    assert read(as_json(tmp_path / "t", changed(0, time=None)), "order")[0] == ("o1", "place", None)
    assert read(as_sqlite(tmp_path / "t", changed(0, time=None)), "order")[0] == ("o1", "place", None)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "t can't be read as JSON (cut off or damaged?)"),
        ("[]", "t is not OCEL 2.0 (Expected `object`, got `array`): it has lists `objects` and `events`"),
        ('{"events": []}', "t is not OCEL 2.0 (Object missing required field `objects`)"),
        (
            '{"ocel:events": {}, "ocel:objects": {}}',
            "t is not OCEL 2.0 (Object missing required field `events`): it is OCEL 1.0",
        ),
        ("\x7f", "t can't be read as JSON"),
        ('{"objects": [], "events": [{"type": "\\ud800"}]}', "t can't be read as JSON"),
        ("[" * 5000, "t "),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "t"
    path.write_text(text, encoding="utf-8")
    assert refusal(path).startswith(what)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == "can't read the trace t: No such file or directory"


def test_databases_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table event (ocel_id text)")
        connection.commit()
    assert refusal(path) == "t is not OCEL 2.0 in SQLite: it has no table event_map_type, event_object, object"
    as_sqlite(path, ORDERS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('drop table "event_""T0"')
        connection.commit()
    assert refusal(path, "order") == 't is not OCEL 2.0 in SQLite: it has no table event_"T0'
    path.write_bytes(as_sqlite(path, ORDERS).read_bytes()[:5000])
    assert refusal(path, "order").startswith("t can't be read as OCEL 2.0 in SQLite: ")


def test_a_database_with_a_strange_name(tmp_path: Path) -> None:
    assert len(read(as_sqlite(tmp_path / "a%20b?c#d.sqlite", ORDERS), "order")) == 3


@pytest.mark.parametrize("value", [b"\xff", 5, 1.5, None, "\x00"])
def test_values_of_any_type_in_a_database(tmp_path: Path, value: Any) -> None:
    for table, column in (("event", "ocel_type"), ("object", "ocel_id"), ("object", "ocel_type"), ("event", "ocel_id")):
        path = as_sqlite(tmp_path / "t", ORDERS)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"update {table} set {column} = ? where rowid = 1", (value,))
            connection.execute("update event_object set ocel_object_id = ? where rowid = 1", (value,))
            connection.execute('update "event_""T1" set ocel_time = ?', (value,))
            connection.commit()
        for skip in (False, True):
            with suppress(TraceError):
                read(path, "order", Notices(skip_bad=skip))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "time"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.data())
def test_strange_json_raises_only_trace_errors(tmp_path: Path, data: st.DataObject) -> None:
    log = json.loads(json.dumps(ORDERS))
    spots = [(log, key) for key in log] + [
        (part, key) for k in ("objects", "events") for part in log[k] for key in part
    ]
    for part, key in data.draw(st.lists(st.sampled_from(spots), max_size=3)):
        part[key] = data.draw(anything)
    path = as_json(tmp_path / "t", log)
    for skip in (False, True):
        with suppress(TraceError):
            read(path, "order", Notices(skip_bad=skip))


@given(st.data())
def test_damaged_files_raise_only_trace_errors(tmp_path: Path, data: st.DataObject) -> None:
    write = data.draw(st.sampled_from(WRITERS))
    damaged = bytearray(write(tmp_path / "t", ORDERS).read_bytes())
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(16, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    (tmp_path / "t").write_bytes(damaged)
    with suppress(TraceError):
        read(tmp_path / "t", "order", Notices(skip_bad=True))
