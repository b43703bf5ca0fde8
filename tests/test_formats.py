import gzip
import json
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowstat.errors import TraceError
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import format_counts
from flowstat.read.database import size
from flowstat.read.formats import recognise
from flowstat.read.mapping import duration
from tests.strategies import event, write_parquet

JSON = {
    "otlp": [
        {"resourceSpans": []},
        {"resource_spans": [{"scopeSpans": []}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "1", "body": {}}]}]}]},
        {"resourceMetrics": []},
        {"batches": [{"resource": {}, "instrumentationLibrarySpans": [{"spans": [{"traceId": "1"}]}]}]},
        {"batches": [{"scopeSpans": []}]},
        {"batches": []},
    ],
    "jaeger": [
        {"data": [{"traceID": "1", "spans": [], "processes": {}}]},
        {"traceID": "1", "spans": []},
        {"data": [], "total": 0, "limit": 0, "offset": 0, "errors": None},
        {"total": 0, "data": []},
        {"data": [{"spans": [{"tags": [{"key": "trace_id"}], "resourceSpans": [], "trace_id": 1}]}]},
    ],
    "zipkin": [
        [{"traceId": "1", "id": "2", "parentId": "1"}],
        [[{"traceId": "1", "id": "2"}]],
        [{"tags": {"operationName": "a", "trace_id": "b", "objects": "c", "resourceSpans": "d"}, "traceId": "1"}],
        {"id": "2", "tags": {"operationName": '{"traceID": "', "trace_id": "b", "x": {"y": 1}}, "traceId": "1"},
        [],
    ],
    "ocel_json": [
        {"objectTypes": [], "eventTypes": [], "objects": [], "events": []},
        {"events": [{"id": "e", "type": "a", "time": "t", "attributes": [{"name": "trace_id"}]}], "objects": []},
        {"events": [], "objects": []},
    ],
    "jsonl": [
        {"trace_id": 1, "span_id": 1, "name": "a", "sent": ""},
        {"name": "a", "links": [{"traceID": 1, "traceId": 2}], "more": {"operationName": 5}, "trace_id": 1},
        {},
    ],
}


@pytest.mark.parametrize(("format", "data"), [(format, data) for format, all_ in JSON.items() for data in all_])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_formats_are_told_by_their_keys(tmp_path, format, data, indent, bom):
    path = tmp_path / "a"
    path.write_bytes(bom + json.dumps(data, indent=indent).encode())
    assert recognise(path, "a") == format
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert recognise(path, "a") == format
    path.write_bytes(pa.compress(bom + json.dumps(data).encode(), codec="zstd", asbytes=True))
    assert recognise(path, "a") == format


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("xes", b'<?xml version="1.0"?>\n<!-- a --><log xes.version="1.0">'),
        ("xes", b"<log>"),
        ("csv", b"case,activity\n1,a\n"),
        ("csv", b"TraceID;SpanID\r\n"),
        ("csv", "\ufeffcase\tactivity\n".encode()),
        ("counts", format_counts(Counts({("a", ""): 1})).encode()),
        ("ocel_sqlite", b"SQLite format 3\0"),
    ],
)
def test_other_formats_are_told_by_their_beginning(tmp_path, format, text):
    path = tmp_path / "a"
    path.write_bytes(text)
    assert recognise(path, "a") == format


def test_parquet_is_canonical_by_its_columns(tmp_path):
    assert recognise(write_parquet(tmp_path / "a", [event(1, 1, "a")]), "a") == "parquet"
    pq.write_table(pa.table({"case": ["1"], "activity": ["a"]}), tmp_path / "b")
    assert recognise(tmp_path / "b", "b") == "table"


def test_sqlite_made_by_sqlite_is_told(tmp_path):
    with sqlite3.connect(tmp_path / "a") as connection:
        connection.execute("create table event (ocel_id text)")
    assert recognise(tmp_path / "a", "a") == "ocel_sqlite"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "empty"),
        (b"<html></html>", "no XES"),
        (b"hello\n", "no trace that flowstat knows"),
        (b"\0\1\2,", "no trace that flowstat knows"),
        (b"PAR1", "truncated or damaged"),
        (b"\x1f\x8b\x08", "can't read"),
        (b"\xff,\xfe\n" * 9, "no trace that flowstat knows"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, text, said):
    path = tmp_path / "a"
    path.write_bytes(text)
    with pytest.raises(TraceError, match=said):
        recognise(path, "a")


def test_durations_and_sizes():
    assert [duration(text) for text in ("90s", "1.5h", "250 ms", "1d", "3ns", "0.5us")] == [
        90 * 10**9,
        5400 * 10**9,
        250 * 10**6,
        86400 * 10**9,
        3,
        500,
    ]
    assert [size(text) for text in ("500MB", "1.5 GB", "2g", "1TiB")] == [500 << 20, 3 << 29, 2 << 30, 1 << 40]
    for wrong in ("", "1", "h", "-1s", "1e3s", "1 week", "٣s"):
        with pytest.raises(TraceError, match="not a duration"):
            duration(wrong)
        with pytest.raises(TraceError, match="not a size"):
            size(wrong)


@pytest.mark.parametrize("shift", range(3))
def test_a_head_that_ends_inside_a_character_is_text(tmp_path, shift):
    path = tmp_path / "a.csv"
    path.write_text("case,activity\n" + "x" * shift + "".join(f"{k},注文\n" for k in range(9000)), encoding="utf-8")
    assert recognise(path, "a.csv") == "csv"


def test_a_document_of_another_signal_may_come_first(tmp_path):
    path = tmp_path / "a"
    for first in ({}, {"resourceLogs": []}, {"resource_metrics": []}, {"resourceProfiles": []}):
        path.write_text(f'{json.dumps(first)}\n{{"resourceSpans": []}}\n')
        assert recognise(path, "a") == "otlp"


@pytest.mark.parametrize("damaged", ['{"trace', "{{}", '{"a": [1, "b}', "[]]", "{]", "{}}"])
def test_a_damaged_first_line_hides_nothing(tmp_path, damaged):
    path = tmp_path / "a"
    path.write_text(f'{damaged}\n\n{{"trace_id": 1}}\n')
    assert recognise(path, "a") == "jsonl"


@pytest.mark.parametrize("packed", [False, True])
def test_the_key_that_tells_may_come_late(tmp_path, packed):
    path = tmp_path / "a"
    for long in ("x" * 100_000, [{"name": "y" * 100}] * 3000, {"traceID": "z" * 100_000}):
        text = json.dumps({"more": long, "traceId": "1", "id": "2"}).encode()
        path.write_bytes(gzip.compress(text) if packed else text)
        assert recognise(path, "a") == "zipkin"
    events = [{"id": f"e{k}", "time": "t", "attributes": [], "type": "a"} for k in range(3000)]
    path.write_text(json.dumps({"events": events, "objects": []}))
    assert recognise(path, "a") == "ocel_json"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "data",
    [
        {"hello": 1, "world": {"traceId": 5}},
        [{"hello": 1, "world": [{"trace_id": 5}]}],
        {"hello": 1, "world": 2, "data": [1]},
        {"hello": 1, "world": 2, "batches": [{"a": 1}]},
        [{"hello": 1, "world": 2, "trace_id": 1, "objects": []}],
    ],
)
def test_json_of_another_kind_is_called_so(tmp_path, data, indent):
    path = tmp_path / "a"
    path.write_text(json.dumps(data, indent=indent))
    with pytest.raises(
        TraceError, match=r"a is no trace that flowstat knows: it is JSON with the keys 'hello', 'world'"
    ):
        recognise(path, "a")
    with pytest.raises(TraceError, match="it reads Parquet, JSON Lines, OTLP/JSON, Jaeger, Zipkin"):
        recognise(path, "a")


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_of_no_lines_is_a_trace_without_rows(tmp_path, name):
    path = tmp_path / name
    packed = {".gz": gzip.compress(b""), ".zst": pa.compress(b"", codec="zstd", asbytes=True)}
    path.write_bytes(packed.get(path.suffix, b""))
    assert recognise(path, name) == "jsonl"
    path.rename(tmp_path / "a")
    with pytest.raises(TraceError, match="a is empty: no trace was recorded in it"):
        recognise(tmp_path / "a", "a")


def test_counts_are_told_wherever_their_type_stands(tmp_path):
    text = format_counts(Counts({("a", "b"): 1, ("b", ""): 1}, {"a": 1}))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads(text), sort_keys=True))
    assert recognise(path, "a") == "counts"
    path.write_text('{"trace_id": 1, "type": "flowstat counts"}')
    assert recognise(path, "a") == "jsonl"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_xes_in_utf_16_is_told(tmp_path, encoding):
    path = tmp_path / "a"
    path.write_bytes('<?xml version="1.0" encoding="UTF-16"?>\n<log></log>'.encode(encoding))
    assert recognise(path, "a") == "xes"
    path.write_bytes("<html/>".encode(encoding))
    with pytest.raises(TraceError, match="no XES log"):
        recognise(path, "a")
