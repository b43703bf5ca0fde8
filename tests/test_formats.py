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
    ],
    "jaeger": [
        {"data": [{"traceID": "1", "spans": [], "processes": {}}]},
        {"traceID": "1", "spans": []},
    ],
    "zipkin": [[{"traceId": "1", "id": "2", "parentId": "1"}], [[{"traceId": "1", "id": "2"}]], []],
    "ocel_json": [{"objectTypes": [], "eventTypes": [], "objects": [], "events": []}],
    "jsonl": [{"trace_id": 1, "span_id": 1, "name": "a", "sent": ""}, {}],
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
