import csv
import gzip
import io
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.read import tables
from flowstat.read.canonical import span_schema
from flowstat.read.csv_rows import WholeRows
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.tables import parquet_spans, read_table
from tests.real_data import directly_follows, real_data

Rows = list[dict[str, Any]]

LOG = "case_id,activity,timestamp\n1,a,2024-01-01\n2,b,2024-01-02\n"
SPANS = "TraceID,SpanID,ParentID,OperationName\nt,1,root,a\nt,2,1,b\n"


def table(path: Path, mapping: Mapping | None = None, notices: Notices | None = None) -> pa.Table:
    batches = list(read_table(path, "t", mapping or Mapping(), notices or Notices()))
    for batch in batches:
        batch.validate(full=True)
    assert batches
    if "span_id" in batches[0].schema.names:
        assert all(batch.schema == span_schema() for batch in batches)
        assert all(len(batch) <= 65_536 for batch in batches)
    else:
        assert [str(t) for t in batches[0].schema.types[1:]] == [
            "dictionary<values=string, indices=int32, ordered=0>",
            "timestamp[ns, tz=UTC]",
        ]
    return pa.Table.from_batches(batches)


def rows(path: Path, mapping: Mapping | None = None, notices: Notices | None = None) -> Rows:
    """Return the rows, without columns that are null throughout, and times as nanoseconds."""
    found = table(path, mapping, notices)
    for k, field in enumerate(found.schema):
        if pa.types.is_timestamp(field.type):
            found = found.set_column(k, field.name, found[field.name].cast(pa.int64()))
    kept = [name for name in found.schema.names if found[name].null_count < len(found)]
    return found.select(kept).to_pylist()


def written(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def saved(tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def refusal(path: Path, mapping: Mapping | None = None) -> str:
    with pytest.raises(TraceError) as caught:
        rows(path, mapping)
    return str(caught.value)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)

DAY = 86400 * 10**9
JAN1 = 1_704_067_200 * 10**9
LOG_ROWS = [
    {"trace_id": "1", "name": "a", "started_at": JAN1},
    {"trace_id": "2", "name": "b", "started_at": JAN1 + DAY},
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_line_ends(tmp_path: Path, delimiter: str, end: str) -> None:
    text = LOG.replace(",", delimiter).replace("\n", end)
    assert rows(written(tmp_path, text)) == LOG_ROWS
    assert rows(written(tmp_path, text.removesuffix(end))) == LOG_ROWS
    assert rows(written(tmp_path, b"\xef\xbb\xbf" + text.encode())) == LOG_ROWS
    assert rows(written(tmp_path, 2 * end + text + end)) == LOG_ROWS


def test_packed(tmp_path: Path) -> None:
    assert rows(written(tmp_path, gzip.compress(LOG.encode()))) == LOG_ROWS
    assert rows(written(tmp_path, pa.Codec("zstd").compress(LOG.encode(), asbytes=True))) == LOG_ROWS


def test_quotes(tmp_path: Path) -> None:
    text = '"case_id","x, y","activity"\n"1 ""q""","\r\n,","a\nb"\n'
    assert rows(written(tmp_path, text)) == [{"trace_id": '1 "q"', "name": "a\nb"}]


def test_other_columns_do_not_matter(tmp_path: Path) -> None:
    # Twice there, without a name, or not UTF-8: they are not read.
    text = b"x,x,,case_id,activity\n1,2,3,c,a\n\xff,\xff,\xff,c,b\n"
    path = written(tmp_path, text.replace(b"\xff", b"9"))
    assert [row["name"] for row in rows(path)] == ["a", "b"]


def test_columns_that_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "id,what,when\n1,a,1970-01-01\n")
    assert rows(path, Mapping(case="id", activity="what", time="when")) == [
        {"trace_id": "1", "name": "a", "started_at": 0}
    ]


def test_rows_of_wrong_length(tmp_path: Path) -> None:
    path = written(tmp_path, "case_id,activity,time\n1,a,\n1,b\n\n1,c,x\n1,d,,\n1,e,\n1,f,y\n")
    assert refusal(path) == "t: row 2: it has 2 fields, the header has 3"
    notices = Notices(skip_bad=True)
    assert [row["name"] for row in rows(path, notices=notices)] == ["a", "e"]
    assert [(problem.number, problem.example) for problem in notices.problems] == [
        (4, "t: row 2: it has 2 fields, the header has 3"),
        (2, "t: case '1'"),  # without a time
    ]


def test_row_numbers_after_rows_that_were_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK", 256)
    lines = [f"case {k},activity {k},2024-01-01" for k in range(1, 201)]
    for k in (3, 50, 51, 120):
        lines[k - 1] = "too,few"
    for k in (1, 52, 119, 121, 200):
        lines[k - 1] = f"case {k},,"
    path = written(tmp_path, "case_id,activity,timestamp\n" + "\n".join(lines) + "\n")
    places: list[str] = []

    class Listening(Notices):
        def bad(self, where: str, what: str) -> None:
            places.append(where)

    assert len(rows(path, notices=Listening())) == 191
    assert sorted(places) == sorted(f"t: row {k}" for k in (3, 50, 51, 120, 1, 52, 119, 121, 200))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (",a,", "it has no case ('case_id' is empty)"),
        ('"",a,', "it has no case ('case_id' is empty)"),
        ("1,,", "it has no name (nothing in 'activity')"),
        ("1,a,noon", "the time 'noon' ('timestamp') can't be read: a time is ISO 8601"),
    ],
)
def test_bad_rows_of_a_log(tmp_path: Path, line: str, what: str) -> None:
    path = written(tmp_path, f"{LOG}{line}\n3,c,\n")
    assert refusal(path).startswith(f"t: row 3: {what}")
    found = rows(path, notices=Notices(skip_bad=True))
    assert found == [*({**row} for row in LOG_ROWS), {"trace_id": "3", "name": "c", "started_at": None}]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (",5,,a", "it has no id ('TraceID' is empty)"),
        ("t,,,a", "it has no id ('SpanID' is empty)"),
        ("t,0000,,a", "its id ('SpanID') is zero"),
        ("t,5,,", "it has no name"),
    ],
)
def test_bad_rows_of_spans(tmp_path: Path, line: str, what: str) -> None:
    path = written(tmp_path, f"{SPANS}{line}\n")
    assert refusal(path).startswith(f"t: row 3: {what}")
    assert len(rows(path, notices=Notices(skip_bad=True))) == 2


@pytest.mark.parametrize(
    "parent", ["", "root", "ROOT", "Root", "none", "None", "null", "NULL", "0", "0" * 16, "0" * 32]
)
def test_roots(tmp_path: Path, parent: str) -> None:
    path = written(tmp_path, f"trace_id,span_id,parent_id,name\nt,1,{parent},a\nt,2,1,b\nt,3,00001,c\n")
    assert [row["parent_id"] for row in rows(path)] == [None, "1", "00001"]


def test_statuses(tmp_path: Path) -> None:
    words = ["Unset", "STATUS_CODE_ERROR", "", "2", "Ok", "pending", "200", "true", "0", "error"]
    lines = "".join(f"t,{k},,a,{word}\n" for k, word in enumerate(words, 1))
    notices = Notices()
    found = rows(written(tmp_path, f"trace_id,span_id,parent_id,name,StatusCode\n{lines}"), notices=notices)
    assert [row["status"] for row in found] == [
        "ok",
        "error",
        "ok",
        "error",
        "ok",
        "pending",
        "ok",
        "error",
        "ok",
        "error",
    ]
    assert [(p.number, p.example) for p in notices.problems] == [(1, "t: '200' in column 'StatusCode'")]


def test_a_dropped_message_has_no_node(tmp_path: Path) -> None:
    path = written(tmp_path, "trace_id,span_id,parent_id,name,status\nt,1,,a,ok\nt,2,1,,dropped\n")
    assert [row["name"] for row in rows(path)] == ["a", None]


def test_nodes_of_spans(tmp_path: Path) -> None:
    head = "trace_id,span_id,parent_id,name,ServiceName,http.route\n"
    path = written(tmp_path, f"{head}t,1,,get,shop,/x\nt,2,1,get,,/y\nt,3,1,put,shop,\n")

    def names(template: str | None) -> list[str]:
        return [row["name"] for row in rows(path, Mapping(node=template))]

    assert names(None) == ["shop.get", "get", "shop.put"]
    assert names("{name}") == ["get", "get", "put"]
    assert names("{service}:{http.route}") == ["shop:/x", "/y", "shop"]
    assert "t: row 3: it has no name (nothing in 'http.route')" in refusal(path, Mapping(node="{http.route}"))
    assert "has no column 'route', a field of the template of nodes; it has 'trace_id'" in refusal(
        path, Mapping(node="{route}")
    )
    assert "has no name" in refusal(path, Mapping(node="{}"))


def test_a_template_for_a_log(tmp_path: Path) -> None:
    path = written(tmp_path, "case_id,activity,lifecycle\n1,a,start\n1,a,complete\n2,b,start\n")
    found = rows(path, Mapping(node="{name}+{lifecycle}"))
    assert [row["name"] for row in found] == ["a+start", "a+complete", "b+start"]


@pytest.mark.parametrize(
    ("pod", "service"),
    [
        ("frontend-579b9bff58-t2dbm", "frontend"),
        ("my-cart-1593694321-wc2lz", "my-cart"),
        ("kafka-0", "kafka"),
        ("plain", "plain"),
        ("front-end", "front-end"),
    ],
)
def test_the_service_of_a_pod(tmp_path: Path, pod: str, service: str) -> None:
    path = written(tmp_path, f"TraceID,SpanID,ParentID,PodName,OperationName\nt,1,root,{pod},op\n")
    (row,) = rows(path)
    assert (row["name"], row["worker"]) == (f"{service}.op", pod)
    assert rows(path, Mapping(node="{PodName}/{name}"))[0]["name"] == f"{pod}/op"


def test_durations(tmp_path: Path) -> None:
    head = "trace_id,span_id,parent_id,name,start_time,duration_ms\n"
    path = written(tmp_path, f"{head}t,1,,a,1970-01-01,1.5\nt,2,1,b,,3\nt,3,1,c,1970-01-01,\n")
    assert [row["ended_at"] for row in rows(path)] == [1_500_000, None, None]
    assert "row 4: the duration '-2' ('duration_ms') is none" in refusal(
        written(tmp_path, path.read_bytes() + b"t,4,1,d,,-2\n")
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "t is empty: it has no header"),
        (b"\n\n", "t is empty: it has no header"),
        (LOG.encode("utf-16"), "t is UTF-16 text: save it as UTF-8"),
        (b"\0\1\2", "t is a binary file, not CSV"),
        (
            "case_id,activity\n1,café\n".encode("latin-1"),
            "t: row 1: its text in 'activity' is not UTF-8: save the file as UTF-8",
        ),
        (b"\x1f\x8b\x08", "t can't be read as CSV: "),
        (b"PAR1 no more", "t can't be read as Parquet: "),
        (gzip.compress(LOG.encode(), mtime=0)[:-12], "t: row 2: can't read on: Compressed file ended before"),
        (b"hello", "t: no column is known to be the case"),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: bytes, what: str) -> None:
    assert refusal(written(tmp_path, data)).startswith(what)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.csv") == "can't read the trace t: No such file or directory"


def test_text_that_is_not_utf_8_far_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "HEADER", 20)
    path = written(tmp_path, b"case_id,activity\n1,a\n2,b\xff\n")
    assert refusal(path) == "t: row 2: its text in 'activity' is not UTF-8: save the file as UTF-8"


def test_a_quote_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK", 1 << 20)
    path = written(tmp_path, LOG + '1,"a,2024-01-01\n' + "1,b,2024-01-01\n" * 200_000)
    assert refusal(path) == "t: row 3: it is longer than 1 MB: is a quote left open?"
    notices = Notices(skip_bad=True)
    assert len(rows(path, notices=notices)) == 200_002
    assert [problem.number for problem in notices.problems] == [1]


UNCLOSED = "a quote is opened in it that nothing closes"
WITHIN = "a quote is opened in it that ends within a field: a quote that is meant is doubled"


@pytest.mark.parametrize(
    "bad",
    ['7,"lost\n', '7,"lost\n8,""x\n', '7,"abc"def\n', '7,"abc" \n', '7,x"y\n"8,z\n', '"7","a\nb","c\n'],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quote_does_not_swallow_rows(tmp_path: Path, bad: str, end: str) -> None:
    before, after = '1,a\n2,"b, ""c""\nd"\n3,5" e\n', '4,f\n5,"g"\n6,h"i"\n'
    path = written(tmp_path, ("case_id,activity\n" + before + bad + after).replace("\n", end))
    number = 5 if bad.startswith("7,x") else 4
    assert refusal(path) == f"t: row {number}: {WITHIN}"
    kept = [row["name"] for row in rows(path, notices=Notices(skip_bad=True))]
    assert kept[:3] == ["a", f'b, "c"{end}d', '5" e']
    assert kept[-3:] == ["f", "g", 'h"i"']


def test_a_quote_that_is_open_at_the_end(tmp_path: Path) -> None:
    for packed in (bytes, gzip.compress):
        path = written(tmp_path, packed((LOG + '3,"c,2024-01-03\n4,d,2024-01-04\n').encode()))
        assert refusal(path) == f"t: row 3: {UNCLOSED}"
        notices = Notices(skip_bad=True)
        assert [row["trace_id"] for row in rows(path, notices=notices)] == ["1", "2", "4"]
        assert [(p.number, p.example) for p in notices.problems] == [(1, f"t: row 3: {UNCLOSED}")]


@given(st.text('a,"\n\r', max_size=30), st.integers(1, 9))
def test_any_quotes(text: str, step: int) -> None:
    class Slowly(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(step)

    def through(file: io.BytesIO) -> tuple[bytes, list[str]]:
        whole = WholeRows(file, ",", 2, 1 << 20)
        return b"".join(iter(whole.read, b"")), whole._reasons

    data = text.encode()
    made, reasons = through(io.BytesIO(data))
    assert through(Slowly(data)) == (made, reasons)
    try:
        right = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        assert reasons
        return
    assert (made, reasons) == (data, [])
    assert right == list(csv.reader(io.StringIO(made.decode(), newline="")))


@given(st.lists(st.sampled_from(["a", '"b"', '5" c', '"d\ne"', '"f"g', '"h,"', '""""']), min_size=1, max_size=40))
def test_quotes_do_not_depend_on_the_block(tmp_path: Path, fields: list[str]) -> None:
    path = written(tmp_path, "case_id,activity\n" + "".join(f"{k},{field}\n" for k, field in enumerate(fields)))
    good = [str(k) for k, field in enumerate(fields) if field != '"f"g']
    for block in (20, 64, 1 << 20):
        with mock.patch.object(tables, "BLOCK", block):
            assert [row["trace_id"] for row in rows(path, notices=Notices(skip_bad=True))] == good


def test_what_comes_before_the_damage_is_read(tmp_path: Path) -> None:
    lines = "".join(f"{k},activity {k * 7919 % 1000}\n" for k in range(1, 100_001))
    data = ("case_id,activity\n" + lines).encode()
    for packed in (gzip.compress(data), pa.Codec("zstd").compress(data, asbytes=True)):
        path = written(tmp_path, packed[: len(packed) * 2 // 3])
        assert "can't read on: " in refusal(path)
        notices = Notices(skip_bad=True)
        found = rows(path, notices=notices)
        assert len(found) > 50_000
        assert [row["trace_id"] for row in found] == [str(k) for k in range(1, len(found) + 1)]
        (_, bad) = notices.problems
        assert bad.number == 1
        assert bad.example.startswith(f"t: row {len(found) + 1}: can't read on: ")


def test_packed_in_frames(tmp_path: Path) -> None:
    codec = pa.Codec("zstd")
    frames = [codec.compress(part.encode(), asbytes=True) for part in (LOG[:20], LOG[20:])]
    for number in (0x50, 0x5F):
        skippable = bytes([number]) + b"\x2a\x4d\x18\x04\0\0\0four"
        assert rows(written(tmp_path, skippable.join([b"", *frames, b""]))) == LOG_ROWS
    assert rows(written(tmp_path, gzip.compress(LOG[:20].encode()) + gzip.compress(LOG[20:].encode()))) == LOG_ROWS


def test_a_row_that_is_not_utf_8(tmp_path: Path) -> None:
    path = written(tmp_path, b"case_id,activity,more\n1,a,\xff\n2,\xff,x\n\xff,c,x\n4,a,\n")
    assert refusal(path) == "t: row 2: its text in 'activity' is not UTF-8: save the file as UTF-8"
    notices = Notices(skip_bad=True)
    assert [row["trace_id"] for row in rows(path, notices=notices)] == ["1", "4"]
    assert notices.problems[-1].number == 2
    assert refusal(written(tmp_path, b"case_id,activity,\xff\n1,a,b\n")) == (
        "t:1: the header is not UTF-8 text: save it as UTF-8"
    )
    assert "is UTF-16 text" in refusal(written(tmp_path, LOG.encode("utf-16-le")))


@pytest.mark.parametrize(
    "header",
    ['"case;id";"a,b,c,d";"activity"', '"a,b,c";case_id;activity', 'x;"case|id""|,,,";activity;"y\n,,,,"'],
)
def test_delimiters_within_quotes_of_the_header(tmp_path: Path, header: str) -> None:
    names = next(csv.reader(io.StringIO(header, newline=""), delimiter=";"))
    values = dict(zip(names, ["1", "2", "3", "4"], strict=False))
    path = written(tmp_path, header + "\n" + ";".join(values.values()) + "\n")
    case = next(name for name in names if name.startswith("case"))
    (row,) = rows(path, Mapping(case=case, activity="activity"))
    assert (row["trace_id"], row["name"]) == (values[case], values["activity"])


def test_a_header_of_one_quoted_field(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, '"a"')).startswith("t: no column is known to be the case")


def test_a_row_of_wrong_length_that_is_not_utf_8(tmp_path: Path) -> None:
    path = written(tmp_path, b"case_id,activity\n1,a\n\xff,b,c\n")
    assert refusal(path) == "t: row 2: it has 3 fields, the header has 2"


def test_a_header_with_an_open_quote(tmp_path: Path) -> None:
    for header in ('case_id,"activity\n1,a\n', 'case_id,"activity"x\n1,a\n'):
        assert refusal(written(tmp_path, header)).startswith("t: its header can't be read as CSV: ")


def test_ids_that_pandas_made_decimals(tmp_path: Path) -> None:
    frame = pd.DataFrame({"trace_id": [7, 7, 7], "span_id": [1, 2, 3], "parent_id": [None, 1, 2], "name": list("abc")})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "1.0" in (tmp_path / "t.csv").read_text()
    frame.to_parquet(tmp_path / "t.parquet")
    texts = frame.assign(parent_id=[None, "1.0", "2.0"], span_id=["1", "2", "3"], trace_id="7")
    texts.to_parquet(tmp_path / "texts.parquet")
    for name in ("t.csv", "t.parquet", "texts.parquet"):
        found = rows(tmp_path / name)
        assert [(row["trace_id"], row["span_id"], row["parent_id"]) for row in found] == [
            ("7", "1", None),
            ("7", "2", "1"),
            ("7", "3", "2"),
        ]
    assert parquet_spans(tmp_path / "texts.parquet", "t", Mapping()) is None


def test_ids_that_end_in_a_zero_of_their_own(tmp_path: Path) -> None:
    path = written(tmp_path, "trace_id,span_id,parent_id,name\n1.0,a,,x\n1.0,2.0,a,y\n1.0,3,2.0,z\n")
    assert [row["parent_id"] for row in rows(path)] == [None, "a", "2.0"]
    assert {row["trace_id"] for row in rows(path)} == {"1"}


@pytest.mark.parametrize(("span", "parent"), [(2**60, float(2**60)), (2**53 + 1, float(2**53))])
def test_ids_that_lost_digits(tmp_path: Path, span: int, parent: float) -> None:
    frame = pd.DataFrame(
        {"trace_id": 1, "span_id": [span, 2, 3], "parent_id": [None, parent, 2.0], "name": ["a", "b", "c"]}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert refusal(tmp_path / name).startswith(
            "t: row 2: its id ('parent_id') was a decimal number and lost digits"
        )
        notices = Notices(skip_bad=True)
        assert [row["name"] for row in rows(tmp_path / name, notices=notices)] == ["a", "c"]


def test_events_without_a_time_are_noted(tmp_path: Path) -> None:
    notices = Notices()
    rows(written(tmp_path, LOG + "2,c,\n"), notices=notices)
    assert [(p.number, p.example) for p in notices.problems] == [(1, "t: case '2'")]


def test_a_header_alone_is_an_empty_log(tmp_path: Path) -> None:
    assert table(written(tmp_path, "case_id,activity\n")).num_rows == 0
    assert table(written(tmp_path, "trace_id,span_id,parent_id,name")).num_rows == 0
    assert (
        table(saved(tmp_path, {"case_id": pa.array([], pa.string()), "activity": pa.array([], pa.string())})).num_rows
        == 0
    )


# Parquet


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.int64(), pa.uint16(), pa.float64()],
)
def test_cases_of_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    case = pa.array(["7", "7", "8"]) if not pa.types.is_integer(kind) else pa.array([7, 7, 8])
    case = case.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else case.cast(kind)
    path = saved(tmp_path, {"case_id": case, "activity": ["a", "b", "c"], "time": [1, 2, 3]})
    found = table(path)
    assert [str(case) for case in found["trace_id"].to_pylist()] == ["7", "7", "8"]
    assert found["trace_id"].type in (kind, pa.dictionary(pa.int32(), pa.string()))


def test_parquet_rows_that_are_bad(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"case_id": ["1", None, "", "4", "5"], "activity": ["a", "b", "c", None, ""]}
    path = saved(tmp_path, columns, row_group_size=2)
    assert refusal(path) == "t: row 2: it has no case ('case_id' is empty)"
    notices = Notices(skip_bad=True)
    assert [row["name"] for row in rows(path, notices=notices)] == ["a"]
    assert [(p.number, p.example) for p in notices.problems] == [
        (1, "t"),  # it has no times
        (4, "t: row 2: it has no case ('case_id' is empty)"),
    ]
    assert refusal(saved(tmp_path, {"case_id": [1, None], "activity": ["a", "b"]})).startswith(
        "t: row 2: it has no case"
    )


@pytest.mark.parametrize(
    ("trace", "span", "parent", "expected"),
    [
        (["t", "t"], ["1", "2"], [None, "1"], ["1", "2", None, "1"]),
        ([5, 5], [1, 2], [0, 1], ["1", "2", None, "1"]),
        (["t", "t"], [1.0, 2.0], [float("nan"), 1.0], ["1", "2", None, "1"]),
        (["t", "t"], [b"\x01\xff", b"\x02\x00"], [b"", b"\x01\xff"], ["01ff", "0200", None, "01ff"]),
        (
            ["t", "t"],
            pa.array([b"\x01\xff", b"\x02\x00"], pa.binary(2)),
            pa.array([None, b"\x01\xff"], pa.binary(2)),
            ["01ff", "0200", None, "01ff"],
        ),
    ],
)
def test_ids_of_any_type(tmp_path: Path, trace: Any, span: Any, parent: Any, expected: list[str | None]) -> None:
    path = saved(tmp_path, {"trace_id": trace, "span_id": span, "parent_id": parent, "name": ["a", "b"]})
    found = rows(path)
    assert [row["span_id"] for row in found] + [row["parent_id"] for row in found] == expected


def test_columns_of_a_type_that_does_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, {"case_id": [{"a": 1}], "activity": ["a"]})
    assert refusal(path).startswith("t: the column 'case_id' can't be read: its type is struct")
    path = saved(tmp_path, {"case_id": ["1"], "activity": pa.array([b"\xff"]).view(pa.string())})
    assert refusal(path).startswith("t: row 1: its text in 'activity' is not UTF-8")
    assert refusal(saved(tmp_path, {"case_id": ["1"], "activity": ["a"], "time": [[1]]})).startswith(
        "t: row 1: the time [1]"
    )


def test_names_with_dots(tmp_path: Path) -> None:
    columns = {"trace_id": ["t"], "span_id": ["1"], "parent_id": [""], "name": ["a"], "service": [{"x": 1}]}
    path = saved(tmp_path, columns | {"service.name": ["s"], "service.name.x": [[1]]})
    assert rows(path)[0]["name"] == "s.a"


def test_a_row_group_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    empty = pa.table({"case": pa.array([], pa.string()), "activity": pa.array([], pa.string())})
    with pq.ParquetWriter(path, empty.schema) as writer:
        writer.write_table(empty)
        writer.write_table(empty)
    assert table(path).num_rows == 0


def test_times_in_parquet(tmp_path: Path) -> None:
    time = pa.array([0, None, 1], pa.timestamp("us", "Europe/Berlin"))
    path = saved(tmp_path, {"case_id": ["1"] * 3, "activity": ["a"] * 3, "time": time})
    assert [row["started_at"] for row in rows(path)] == [0, None, 1000]


def test_tables_that_can_be_counted_in_place(tmp_path: Path) -> None:
    plain = {"trace_id": [1], "span_id": [1], "parent_id": [1], "name": ["a"]}

    def answer(mapping: Mapping | None = None, **more: Any) -> bool:
        return parquet_spans(saved(tmp_path, plain | more), "t", mapping or Mapping()) is not None

    assert answer()
    assert answer(start_time=pa.array([1], pa.timestamp("us")))
    assert not answer(start_time=[1])
    assert not answer(service=["s"])
    assert not answer(PodName=["s-0"])
    assert not answer(parent_id=["1"])
    assert not answer(name=[b"a"])
    assert not answer(Mapping(node="{name}"))
    assert not answer(Mapping(case="trace_id", activity="name"))
    with pytest.raises(TraceError, match="--parent"):
        parquet_spans(saved(tmp_path, {"trace_id": [1], "span_id": [1], "name": ["a"]}), "t", Mapping())


def test_progress_adds_up_to_the_file(tmp_path: Path) -> None:
    for path in (written(tmp_path, LOG * 50), saved(tmp_path, {"case_id": ["1"] * 9, "activity": ["a"] * 9})):
        told: list[int] = []
        list(read_table(path, "t", Mapping(), Notices(skip_bad=True, advance=told.append)))
        assert sum(told) == path.stat().st_size


cases = st.lists(st.tuples(words, words, st.none() | st.integers(-(2**62), 2**62)), max_size=30)


@given(cases, st.booleans())
def test_any_log_through_csv_and_parquet(
    tmp_path: Path, events: list[tuple[str, str, int | None]], packed: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(["case_id", "activity", "timestamp"])
    times = [None if t is None else str(pd.Timestamp(t, unit="ns")) for _, _, t in events]
    writer.writerows((case, name, time or "") for (case, name, _), time in zip(events, times, strict=True))
    data = text.getvalue().encode()
    expected = [{"trace_id": case, "name": name, "started_at": time} for case, name, time in events]

    def found(path: Path) -> Rows:
        got = table(path)
        return got.set_column(2, "started_at", got["started_at"].cast(pa.int64())).to_pylist()

    assert found(written(tmp_path, gzip.compress(data) if packed else data)) == expected
    columns = list(zip(*events, strict=True)) or [(), (), ()]
    stamps = pa.array(columns[2], pa.int64()).cast(pa.timestamp("ns"))
    path = saved(
        tmp_path,
        {"case": pa.array(columns[0], pa.string()), "activity": pa.array(columns[1], pa.string()), "time": stamps},
        row_group_size=7,
    )
    assert found(path) == expected


@given(st.data())
def test_damaged_tables_raise_only_trace_errors(tmp_path: Path, data: st.DataObject) -> None:
    plain = {
        "trace_id": ["t"] * 20,
        "span_id": [str(k + 1) for k in range(20)],
        "parent_id": ["1"] * 20,
        "name": ["a"] * 20,
    }
    whole = data.draw(
        st.sampled_from(
            [
                LOG.encode(),
                (SPANS + "t,3,1,b\n" * 9).encode(),
                gzip.compress(LOG.encode(), mtime=0),
                saved(tmp_path, plain).read_bytes(),
            ]
        )
    )
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    for notices in (Notices(), Notices(skip_bad=True)):
        with suppress(TraceError):
            list(read_table(written(tmp_path, bytes(damaged)), "t", Mapping(), notices))


# Real logs


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_receipt_as_pm4py_reads_it() -> None:
    pm4py = pytest.importorskip("pm4py")
    path = real_data("receipt.csv")
    log = pm4py.format_dataframe(
        pd.read_csv(path), case_id="case:concept:name", activity_key="concept:name", timestamp_key="time:timestamp"
    )
    expected = pm4py.discover_dfg(log)
    assert directly_follows(table(path)) == tuple(Counter(part) for part in expected)


@pytest.mark.oracle
@pytest.mark.parametrize("minute", ["03_53", "03_54"])
def test_boutique_as_pandas_joins_it(minute: str) -> None:
    path = real_data(f"boutique/rca_data__2022-08-22__trace__{minute}_trace.csv")
    raw = pd.read_csv(path, dtype=str)
    joined = raw.merge(raw, left_on=["TraceID", "ParentID"], right_on=["TraceID", "SpanID"], suffixes=("", "_parent"))
    keys = ["OperationName_parent", "OperationName", "PodName_parent", "PodName"]
    expected = joined.groupby(keys).size().to_dict()
    template = Mapping(node="{PodName} {OperationName}")
    found = table(path, template).to_pandas().astype({"name": str})
    assert len(found) == len(raw)
    assert found["parent_id"].isna().sum() == (raw["ParentID"] == "root").sum()
    pairs = found.merge(found, left_on=["trace_id", "parent_id"], right_on=["trace_id", "span_id"], suffixes=("", "_p"))
    counts: Counter[Any] = Counter()
    for above, below in zip(pairs["name_p"], pairs["name"], strict=True):
        (pod_above, op_above), (pod, op) = above.split(" ", 1), below.split(" ", 1)
        counts[op_above, op, pod_above, pod] += 1
    assert counts == expected
    services = {name.split(".")[0] for name in table(path)["name"].to_pylist()}
    assert "frontend" in services
    assert len(services) == 10
    assert (found["ended_at"] - found["started_at"]).ge(pd.Timedelta(0)).all()


def test_text_that_is_stored_as_bytes(tmp_path: Path) -> None:
    log = {"case_id": [b"1", b"1"], "activity": ["é".encode(), b"b"], "time": [b"2024-01-01", b"2024-01-02"]}
    assert [(row["trace_id"], row["name"]) for row in rows(saved(tmp_path, log))] == [("1", "é"), ("1", "b")]
    path = saved(tmp_path, log | {"activity": [b"a", b"\xff"]})
    assert refusal(path).startswith("t: row 2: its text in 'activity' is not UTF-8")
    assert [row["name"] for row in rows(path, notices=Notices(skip_bad=True))] == ["a"]
    spans = {"trace_id": [b"t", b"t"], "span_id": [b"1", b"2"], "parent_id": [b"root", b"1"], "name": [b"a", b"b"]}
    for kind in (pa.binary(), pa.large_binary()):
        found = rows(saved(tmp_path, {name: pa.array(cells, kind) for name, cells in spans.items()}))
        assert [(row["span_id"], row["parent_id"], row["name"]) for row in found] == [("1", None, "a"), ("2", "1", "b")]
    # One id that is no text makes all of them bytes, those of the parents, too.
    found = rows(saved(tmp_path, spans | {"span_id": [b"1", b"\x02"]}))
    assert [(row["trace_id"], row["span_id"], row["parent_id"]) for row in found] == [
        ("t", "31", "726f6f74"),
        ("t", "02", "31"),
    ]


def test_bytes_that_are_no_text_behind_ids_that_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SPAN_ROWS", 1)
    spans = {"trace_id": ["t", "t"], "span_id": [b"1", b"\xff"], "parent_id": [b"", b"1"], "name": ["a", "b"]}
    assert refusal(saved(tmp_path, spans)).startswith("t: row 2: its text in 'span_id' is not UTF-8")


def test_times_that_python_has_no_date_for(tmp_path: Path) -> None:
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ms")):
        time = pa.array([0, 2**60 if kind.unit == "us" else 2**48], kind)
        path = saved(tmp_path, {"case_id": ["1", "1"], "activity": ["a", "b"], "time": time})
        assert f"t: row 2: the time {time.cast(pa.int64())[1]} ({kind}) ('time') can't be read" in refusal(path)
        assert len(rows(path, notices=Notices(skip_bad=True))) == 1


@pytest.mark.parametrize("large", [float(2**63), float("inf"), 1e300])
def test_decimals_beyond_whole_numbers(tmp_path: Path, large: float) -> None:
    plain = {"trace_id": [1.0, 1.0], "span_id": [1.0, 2.0], "parent_id": [None, 1.0], "name": ["a", "b"]}
    for name in ("trace_id", "span_id", "parent_id"):
        path = saved(tmp_path, plain | {name: [plain[name][0], large]})
        assert refusal(path).startswith(f"t: row 2: its id ('{name}') was a decimal number and lost digits")
        assert [row["name"] for row in rows(path, notices=Notices(skip_bad=True))] == ["a"]
    path = saved(tmp_path, {"case": [1.0, large], "activity": ["a", "b"]})
    assert refusal(path).startswith("t: row 2: its case ('case') was a decimal number and lost digits")
    assert [row["name"] for row in rows(path, notices=Notices(skip_bad=True))] == ["a"]
