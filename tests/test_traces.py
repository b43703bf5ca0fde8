import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from flowstat.errors import TraceError
from flowstat.estimate.chain import estimate
from flowstat.estimate.counting import count
from flowstat.estimate.summary import summarise
from flowstat.read.canonical import COLUMNS, open_writer, schema
from flowstat.read.files import parse_graph
from flowstat.read.notices import Notices
from flowstat.read.traces import Traces, read_traces
from tests.strategies import Row, event, forests, write_json_lines, write_parquet

GOOD = [event(1, 1, "a", sent="b"), event(1, 2, "b", parent="a", parent_id=1)]
WRITERS = [write_json_lines, write_parquet]
Writer = Callable[[Path, list[Row]], Path]


def refusal(*paths: Path | str) -> str:
    with pytest.raises(TraceError) as caught:
        count(read_traces(*paths))
    assert len(str(caught.value)) < 600
    return str(caught.value)


def columns(**other: Any) -> pa.Table:
    """Return the least that a trace needs, as a foreign program may write it; None leaves a column out."""
    table = {
        "trace_id": [1, 1],
        "span_id": [1, 2],
        "parent_id": pa.array([None, 1], pa.uint64()),
        "parent": [None, "a"],
        "name": ["a", "b"],
        "sent": ["b", ""],
    } | other
    return pa.table({name: values for name, values in table.items() if values is not None})


def parquet(path: Path, **other: Any) -> Path:
    pq.write_table(columns(**other), path)
    return path


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.parquet") == f"no such trace: {tmp_path}/no.parquet"
    assert "no such trace" in refusal(tmp_path / "*.jsonl")
    assert "trace" in refusal("a\0[b]")
    assert refusal() == "no trace given"


def test_a_directory_without_traces(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert refusal(tmp_path).startswith(f"{tmp_path} is a directory without traces (*.parquet, *.jsonl, ")


def test_what_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = write_json_lines(tmp_path / "a.jsonl", GOOD)
    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(file) == f"can't read the trace {file}: Permission denied"
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert refusal(tmp_path) == f"can't read the directory {tmp_path}: Permission denied"


def test_an_empty_file(tmp_path: Path) -> None:
    for name in ("a.json", "a.parquet", "a.csv", "a"):
        (tmp_path / name).touch()
        assert "is empty" in refusal(tmp_path / name)
    for name in ("a.jsonl", "a.ndjson"):
        (tmp_path / name).touch()
        counts = count(read_traces(tmp_path / name))
        assert (counts.table, counts.runs, counts.problems) == ({}, 0, ())
        assert list(read_traces(tmp_path / name).frame().columns) == list(COLUMNS)


@pytest.mark.parametrize("data", [b"\x7fELF\0\0", b"order", b"[1]", b"PAR2", "{é".encode("utf-16")])
def test_a_file_of_another_kind(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    assert "is no trace that flowstat knows" in refusal(tmp_path / "a.parquet")


def test_truncated_parquet(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", GOOD)
    whole = path.read_bytes()
    for length in (4, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "can't be read as Parquet (truncated or damaged?)" in refusal(path)
    path.write_bytes(b"PAR1" + b"\xff" * 200 + whole[-8:])
    assert "can't be read as Parquet" in refusal(path)


@pytest.mark.parametrize("line", ["{", "x", '{"trace_id": 1,}', "[1, 2]", "null", "7", '"a"', "{}", '{"a": "\\ud800"}'])
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", GOOD)
    path.write_text(path.read_text() + f"\n{line}\n" + path.read_text())
    assert refusal(path).startswith(f"{path}:4: ")


def test_a_last_line_cut_off_is_left_out_and_reported(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", GOOD)
    path.write_text(path.read_text()[:-20])
    counts = count(read_traces(path))
    assert counts.table == {("a", "b"): 1}
    assert [problem.example for problem in counts.problems] == [f"{path}:2: the last line is cut off and was left out"]
    path.write_text(path.read_text()[:30])
    assert count(read_traces(path)).table == {}
    assert list(read_traces(path).frame().columns) == list(COLUMNS)


@pytest.mark.parametrize("missing_end", [True, False])
def test_a_whole_last_line_counts_with_or_without_its_end(tmp_path: Path, missing_end: bool) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", GOOD)
    path.write_text(path.read_text().rstrip() if missing_end else path.read_text() + "\n \n")
    counts = count(read_traces(path))
    assert (counts.events, counts.problems) == ({"a": 1, "b": 1}, ())


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(GOOD[0]).encode() + b'\n{"trace_id": "\xff"}\n')
    assert refusal(path).startswith(f"{path}:2: not JSON")
    data = pa.array([b"a", b"\xff"]).buffers()
    for column in ("name", "trace_id", "sent"):
        table = parquet(tmp_path / "a.parquet", **{column: pa.Array.from_buffers(pa.string(), 2, data)})
        assert f"column '{column}'" in refusal(table)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trace_id": None}, "'trace_id' is missing"),
        ({"span_id": None}, "'span_id' is missing"),
        ({"sent": None}, "'sent' is missing"),
        ({"name": None}, "which node handled it"),
        ({"span_id": "2"}, "'span_id' is '2': ids are whole numbers below 2**64, or all are texts"),
        ({"trace_id": "1", "span_id": "2"}, "'trace_id' is '1'"),
        ({"parent_id": 1.0}, "'parent_id' is 1.0"),
        ({"trace_id": True}, "'trace_id' is True"),
        ({"span_id": 2**64}, "below 2**64"),
        ({"span_id": -1}, "from 0 to 2**64-1"),
        ({"status": "fine"}, "'status' is 'fine': it is one of ok, error, dropped, pending"),
        ({"status": ""}, "'status' is ''"),
        ({"key": 5}, "'key' is 5, not text"),
        ({"name": ["b"]}, "not text"),
    ],
)
def test_a_row_that_says_something_impossible(tmp_path: Path, wrong: Row, said: str) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", [GOOD[0], GOOD[1] | wrong, GOOD[0]])
    message = refusal(path)
    assert message.startswith(f"{path}:2: ")
    assert said in message


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sent_at": 1.5}, "whole nanoseconds"),
        ({"started_at": "yesterday"}, "'started_at' is 'yesterday': a time is ISO 8601"),
        ({"ended_at": "2024-01-01T00:00:00"}, "with its zone"),
        ({"ended_at": 2**63}, "'ended_at'"),
        ({"ended_at": [1]}, "'ended_at' is [1]"),
    ],
)
def test_a_time_that_cannot_be_read_is_unknown(tmp_path: Path, wrong: Row, said: str) -> None:
    """No count depends on it, so that counting may leave the column unread."""
    path = write_json_lines(tmp_path / "a.jsonl", [GOOD[0], GOOD[1] | wrong])
    notices = Notices()
    ((batch,),) = [list(file.batches(notices)) for file in read_traces(path).files]
    assert batch.column(next(iter(wrong))).to_pylist()[1] is None
    (problem,) = notices.problems
    assert (problem.what, problem.number) == ("times that can't be read, taken as unknown", 1)
    assert f"{path}:2: " in problem.example
    assert said in problem.example


@pytest.mark.parametrize("column", ["trace_id", "span_id", "parent_id", "parent", "name"])
def test_a_missing_column(tmp_path: Path, column: str) -> None:
    path = parquet(tmp_path / "a.parquet", **{column: None})
    assert refusal(path) == f"{path} is not a canonical trace: column {column!r} is missing"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sent": ["b", None]}, "row 2: it has no sent"),
        ({"span_id": [None, 2]}, "row 1: it has no span_id"),
        ({"status": ["ok", "so"]}, "row 2: it has the status 'so': it is one of ok, error, dropped, pending"),
        ({"status": ["ok", None]}, "row 2: it has no status"),
        ({"name": ["a", None]}, "row 2: it has no name: which node handled it?"),
        ({"name": [["a"], ["b"]]}, "column 'name'"),
        ({"span_id": [-1, 2]}, "column 'span_id'"),
        ({"span_id": [{"a": 1}, {"a": 2}]}, "column 'span_id'"),
        ({"sent_at": ["x", "y"]}, "column 'sent_at'"),
        ({"sent_at": pa.array([10**12, 2], pa.timestamp("s"))}, "column 'sent_at'"),
    ],
)
def test_a_column_that_says_something_impossible(tmp_path: Path, wrong: Row, said: str) -> None:
    path = parquet(tmp_path / "a.parquet", **wrong)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert said in message


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("sent", ["b*0", "a  b", '"', "x" * 1000 + " "])
def test_a_wrong_send_pattern(tmp_path: Path, write: Writer, sent: str) -> None:
    path = write(tmp_path / "a", [GOOD[0] | {"sent": sent}])
    said = refusal(path)
    assert said.startswith(f"{path}:1: 'sent' is " if write is write_json_lines else f"{path}: row 1: 'sent' is ")


def test_a_wrong_send_pattern_is_a_bad_line(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", [*GOOD, GOOD[0] | {"span_id": 3, "sent": "b*0"}])
    with pytest.raises(TraceError, match=f"^{path}:3: 'sent' is not a send pattern: 'b\\*0'"):
        list(read_traces(path).batches())
    notices = Notices(skip_bad=True)
    rows = [row for batch in read_traces(path).batches(notices) for row in batch.to_pylist()]
    assert [row["span_id"] for row in rows] == [1, 2]
    assert [problem.number for problem in notices.problems] == [1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trace_id": None}, "it has no trace_id"),
        ({"status": "so"}, "it has the status 'so': it is one of ok, error, dropped, pending"),
        ({"name": None}, "it has no name: which node handled it?"),
        ({"name": ""}, "it has an empty name: which node handled it?"),
        ({"sent": "a  b"}, "'sent' is not a send pattern: 'a  b'"),
        ({"sent": '"\\x"'}, "'sent' is a send pattern with a wrong escape"),
        ({"span_id": -5}, "column 'span_id': Integer value -5 not in range"),
        ({"key": b"\xff"}, "column 'key': not UTF-8 text"),
        ({"started_at": 10**12}, "column 'started_at': Casting from timestamp["),
        ({"parent_id": 2.0**53}, "its parent_id was a decimal number and lost digits"),
        ({"parent_id": 1.5}, "column 'parent_id': Float value 1.500000 was truncated"),
    ],
)
def test_a_row_of_parquet_that_is_bad(tmp_path: Path, wrong: Row, said: str) -> None:
    rows = [GOOD[0] | {"started_at": 1}, GOOD[1], GOOD[0] | {"span_id": 3} | wrong, GOOD[1] | {"span_id": 4}]
    made = {name: [row[name] for row in rows] for name in GOOD[0]}
    kinds = {
        "span_id": pa.int64(),
        "started_at": pa.timestamp("s"),
        "parent_id": pa.float64() if type(wrong.get("parent_id")) is float else pa.int64(),
    }
    table: dict[str, Any] = {name: pa.array(values, kinds.get(name)) for name, values in made.items() if name != "key"}
    table["key"] = pa.array([b"k", b"k", wrong.get("key", b"k"), None], pa.binary()).view(pa.string())
    path = parquet(tmp_path / "a.parquet", **table)
    assert refusal(path).startswith(f"{path}: row 3: {said}")
    counts = count(read_traces(path, skip_bad=True))
    assert counts.events == {"a": 1, "b": 2}
    problem = counts.problems[0]
    assert problem.number == 1
    assert problem.example.startswith(f"{path}: row 3: {said}")


def test_parents_that_pandas_made_decimals(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", parent_id=[None, 1.0])
    assert read_traces(path).frame()["parent_id"].tolist()[1] == 1
    counts = count(read_traces(path))
    assert (counts.starts, counts.problems) == ({"a": 1}, ())
    texts = {"trace_id": ["t", "t"], "span_id": ["1", "2"]}
    assert count(read_traces(parquet(path, **texts, parent_id=[None, 1.0]))).problems == ()


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_span_twice_is_one_event(tmp_path: Path, write: Writer) -> None:
    counts = count(read_traces(write(tmp_path / "a", [*GOOD, GOOD[0], GOOD[1], GOOD[1]])))
    assert (counts.events, counts.starts) == ({"a": 1, "b": 1}, {"a": 1})
    (problem,) = counts.problems
    assert (problem.number, problem.example) == (3, f"{tmp_path / 'a'}: trace 1, span 1")


@pytest.mark.parametrize("write", WRITERS)
def test_a_parent_that_never_appears(tmp_path: Path, write: Writer) -> None:
    counts = count(read_traces(write(tmp_path / "a", [*GOOD, event(2, 2, "b", parent="a", parent_id=1)])))
    assert (counts.events, counts.starts) == ({"a": 1, "b": 2}, {"a": 1})
    (problem,) = counts.problems
    assert "parent was not recorded" in problem.what
    assert (problem.number, problem.example) == (1, f"{tmp_path / 'a'}: trace 2, span 2")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("length", [1, 2, 5, 64])
def test_a_cycle_of_parents(tmp_path: Path, write: Writer, length: int) -> None:
    ring = [event(7, k, "a", parent="a", parent_id=(k + 1) % length) for k in range(length)]
    tail = event(7, length, "b", parent="a", parent_id=0)
    message = refusal(write(tmp_path / "a", [*GOOD, tail, *ring]))
    assert "trace 7, span 0: this event is among its own ancestors" in message
    assert f"({length + 1} events hang on a cycle" in message


@pytest.mark.parametrize("write", WRITERS)
def test_times_that_run_backwards_change_no_count(tmp_path: Path, write: Writer) -> None:
    late = [row | {"sent_at": 30, "started_at": 20, "ended_at": 10} for row in GOOD]
    found = summarise(read_traces(write(tmp_path / "a", late)))
    assert found.counts.table == count(read_traces(write(tmp_path / "b", GOOD))).table
    assert [(p.what.split()[2], p.number) for p in found.problems.problems] == [("started_at", 2), ("ended_at", 2)]


@pytest.mark.parametrize("write", WRITERS)
def test_nodes_that_the_graph_lacks(tmp_path: Path, write: Writer) -> None:
    graph = parse_graph("a -> c")
    counts = count(read_traces(write(tmp_path / "a", GOOD)), graph)
    assert counts.undeclared == {("a", "b"): 1}
    chain = estimate(counts, graph)
    assert chain.names == ("a", "c", "b")
    assert chain.P.toarray()[0].tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("write", WRITERS)
def test_unicode_names_and_a_name_of_ten_megabytes(tmp_path: Path, write: Writer) -> None:
    long = "n" * 10_000_000
    rows = [event(1, 1, "заказ", sent='"😀 né"'), event(1, 2, "😀 né", parent="заказ", parent_id=1, sent=long)]
    path = write(tmp_path / "a", [*rows, event(1, 3, long, parent="😀 né", parent_id=2)])
    assert count(read_traces(path)).messages == {("заказ", "😀 né"): 1, ("😀 né", long): 1}
    write(path, [event(1, 1, long, sent=long + " ")])
    refusal(path)


def test_a_broken_row_with_a_name_of_ten_megabytes(tmp_path: Path) -> None:
    long = "n" * 10_000_000
    for wrong in ({"status": long}, {"span_id": long}, {"key": [long]}):
        refusal(write_json_lines(tmp_path / "a.jsonl", [GOOD[0] | wrong]))
    path = write_json_lines(tmp_path / "a.jsonl", [GOOD[0] | {"sent_at": long}])
    assert count(read_traces(path)).events == {"a": 1}
    (problem,) = count(read_traces(path), latencies=True).problems
    assert problem.what == "times that can't be read, taken as unknown"
    assert len(problem.example) < 300
    refusal(parquet(tmp_path / "a.parquet", status=["ok", long]))
    refusal(parquet(tmp_path / "a.parquet", sent_at=["2024-01-01T00:00:00Z", long]))


def test_parquet_of_other_programs(tmp_path: Path) -> None:
    naive = pa.array([1_000_000, None], pa.timestamp("us"))
    zoned = pa.array([3_600_000, None], pa.timestamp("ms", "Europe/Berlin"))
    ids = {"trace_id": ["t", "t"], "span_id": ["1", "2"], "parent_id": pa.array([None, "1"], pa.large_string())}
    path = parquet(
        tmp_path / "a.parquet", **ids, name=pa.array(["a", "b"]).dictionary_encode(), sent_at=naive, ended_at=zoned
    )
    frame = read_traces(path).frame()
    assert frame["sent_at"][0].isoformat() == "1970-01-01T00:00:01+00:00"
    assert frame["ended_at"][0].isoformat() == "1970-01-01T01:00:00+00:00"
    assert frame["status"].tolist() == ["ok", "ok"]
    assert frame["parent_id"].tolist()[1] == "1"
    assert count(read_traces(path)).starts == {"a": 1}
    assert count(read_traces(parquet(path, parent_id=pa.nulls(2), parent=pa.nulls(2)))).starts == {"a": 1, "b": 1}
    assert count(read_traces(parquet(path, name=[1, 2]))).events == {"1": 1, "2": 1}


def test_ids_keep_all_their_digits(tmp_path: Path) -> None:
    high = 2**64 - 1
    rows = [event(high, high - 1, "a", sent="b"), event(high, high, "b", parent="a", parent_id=high - 1)]
    for write in WRITERS:
        frame = read_traces(write(tmp_path / "a", rows)).frame()
        assert frame["trace_id"].tolist() == [high, high]
        assert frame["parent_id"][1] == high - 1


def test_times_in_every_form(tmp_path: Path) -> None:
    forms: list[object] = ["2024-05-01T10:00:00Z", "2024-05-01T12:00:00.000000+02:00", 1_714_557_600_000_000_000, None]
    rows = [event(1, k, "a", sent_at=form) for k, form in enumerate(forms)]
    times = read_traces(write_json_lines(tmp_path / "a.jsonl", rows)).frame()["sent_at"]
    assert times.nunique() == 1
    assert times.isna().tolist() == [False, False, False, True]


def test_files_globs_and_directories_are_found_in_order(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("b.jsonl", "a.jsonl", "more/c.ndjson", ".hidden.jsonl", "notes.txt"):
        write_json_lines(tmp_path / name, GOOD)
    segments = tmp_path / "run.parquet"
    segments.mkdir()
    for number, row in enumerate(GOOD):
        write_parquet(segments / f"part-{number:06d}.parquet", [row])
    (segments / ".part-000002.parquet").write_bytes(b"PAR1")
    found = [Path(file.origin).name for file in read_traces(tmp_path).files]
    assert found == ["a.jsonl", "b.jsonl", "c.ndjson", "run.parquet"]
    assert [Path(file.origin).name for file in read_traces(f"{tmp_path}/*.jsonl").files] == ["a.jsonl", "b.jsonl"]
    counts = count(read_traces(segments))
    assert (counts.table, counts.files, counts.problems) == ({("a", "b"): 1, ("b", ""): 1}, (str(segments),), ())


def test_segments_with_ids_of_two_kinds(tmp_path: Path) -> None:
    write_parquet(tmp_path / "part-000000.parquet", GOOD)
    write_parquet(tmp_path / "part-000001.parquet", [event("x", "y", "a")])
    assert refusal(tmp_path).startswith(f"{tmp_path}/part-000001.parquet: its ids are string")


def test_files_with_ids_of_two_kinds(tmp_path: Path) -> None:
    one = write_parquet(tmp_path / "a.parquet", GOOD)
    two = write_json_lines(tmp_path / "b.jsonl", [event("x", "y", "a")])
    assert read_traces(one, two).frame()["trace_id"].tolist() == ["1", "1", "x"]
    assert count(read_traces(one, two)).starts == {"a": 2}


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_parquet(tmp_path / "a.parquet", GOOD).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    counts = count(read_traces("-"))
    assert (counts.files, counts.runs) == (("<stdin>",), 1)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert refusal("-") == "<stdin> is empty: no trace was recorded in it"


def test_a_trace_without_rows(tmp_path: Path) -> None:
    counts = count(read_traces(write_parquet(tmp_path / "a.parquet", [])))
    assert (counts.table, counts.runs, counts.problems) == ({}, 0, ())
    assert read_traces(tmp_path / "a.parquet").frame().empty


@given(forests())
def test_what_is_recorded_reads_back(tmp_path: Path, rows: list[Row]) -> None:
    texts = any(isinstance(row["trace_id"], str) for row in rows)
    batch = pa.RecordBatch.from_pylist(rows, schema(pa.string() if texts else pa.uint64()))
    for name in ("t.parquet", "t.jsonl"):
        with open_writer(tmp_path / name, overwrite=True) as writer:
            writer.write(batch)
        if not rows:
            continue
        read = pa.Table.from_batches(list(read_traces(tmp_path / name).batches()))
        assert read.to_pylist() == pa.Table.from_batches([batch]).to_pylist()
        assert len(read_traces(tmp_path / name).frame()) == len(rows)


def test_many_rows_come_in_batches_with_their_row_numbers(tmp_path: Path) -> None:
    n = 70_000
    none, ids = pa.nulls(n), pa.array(np.arange(n))
    sent = pa.array([""] * (n - 1) + [None])
    table = columns(trace_id=ids, span_id=ids, parent_id=none, parent=none, name=["a"] * n, sent=sent)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    assert f"row {n}: it has no sent" in refusal(tmp_path / "a.parquet")
    rows = [event(k, 0, "a") for k in range(n)]
    path = write_json_lines(tmp_path / "a.jsonl", rows)
    assert count(read_traces(path)).events == {"a": n}


def test_a_bad_pattern_in_a_recorded_trace_is_told_by_its_row(tmp_path: Path) -> None:
    rows = [GOOD[0], GOOD[1] | {"sent": "b*0"}]
    with open_writer(tmp_path / "a.parquet") as writer:
        for file in read_traces(write_json_lines(tmp_path / "a.jsonl", GOOD)).files:
            for batch in file.batches():
                sent = pa.array([row["sent"] for row in rows]).dictionary_encode()
                writer.write(batch.set_column(batch.schema.get_field_index("sent"), "sent", sent))
    traces = read_traces(tmp_path / "a.parquet")
    assert traces.files[0].is_marked
    with pytest.raises(TraceError, match=r"row 2: .*sent"):
        count(traces)
    found = count(read_traces(tmp_path / "a.parquet", skip_bad=True))
    assert sum(found.events.values()) == 1
    assert [problem.number for problem in found.problems if "skipped" in problem.what] == [1]


def test_a_file_that_is_found_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    file = write_json_lines(tmp_path / "d" / "a.jsonl", GOOD)
    run = tmp_path / "run.parquet"
    run.mkdir()
    segments = [write_parquet(run / f"part-{number:06d}.parquet", [row]) for number, row in enumerate(GOOD)]
    (tmp_path / "link.jsonl").symlink_to(file)
    for paths in ([f"{tmp_path}/d/**"], [tmp_path / "d", file], [file, file], [file, tmp_path / "link.jsonl"]):
        assert count(read_traces(*paths)).events == {"a": 1, "b": 1}
    for paths in ([f"{tmp_path}/run.parq*/**"], [run, segments[1]], [segments[0], run]):
        found = read_traces(*paths).files
        assert [file.parts for file in found] == [tuple(segments)]


def test_pipes_are_copied(tmp_path: Path) -> None:
    for name, data in (
        ("a", write_parquet(tmp_path / "a.parquet", GOOD).read_bytes()),
        ("b.csv", b"case,activity\n1,a\n1,b\n"),
        ("none.jsonl", b""),
    ):
        pipe = tmp_path / name
        os.mkfifo(pipe)
        writing = threading.Thread(target=pipe.write_bytes, args=(data,))
        writing.start()
        (file,) = read_traces(pipe).files
        writing.join()
        assert file.origins == (str(pipe),)
        copy = file.parts[0]
        assert count(Traces((file,))).events == ({"a": 1, "b": 1} if data else {})
        assert copy.exists()
        del file
        assert not copy.exists()


def test_segments_hide_nothing_else_in_their_directory(tmp_path: Path) -> None:
    write_parquet(tmp_path / "part-000000.parquet", GOOD[:1])
    write_parquet(tmp_path / "part-000001.parquet", GOOD[1:])
    (tmp_path / "log.csv").write_text("case,activity\n1,c\n")
    (tmp_path / "sub").mkdir()
    write_json_lines(tmp_path / "sub" / "b.jsonl", GOOD)
    counts = count(read_traces(tmp_path))
    assert counts.events == {"a": 2, "b": 2, "c": 1}
    assert len(read_traces(tmp_path).files) == 3


def test_a_subdirectory_without_traces_is_passed_over(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "a.jsonl", GOOD)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.txt").write_text("x")
    assert count(read_traces(tmp_path)).events == {"a": 1, "b": 1}
    assert count(read_traces(f"{tmp_path}/*")).events == {"a": 1, "b": 1}
    assert refusal(tmp_path / "notes").startswith(f"{tmp_path}/notes is a directory without traces")


@pytest.mark.parametrize("write", WRITERS)
def test_a_name_that_is_not_utf_8(tmp_path: Path, write: Writer) -> None:
    place = tmp_path / os.fsdecode(b"bad\xff")
    place.mkdir()
    path = write(tmp_path / "good", GOOD).rename(place / f"a{os.fsdecode(bytes([255]))}.jsonl")
    for named in (path, place):
        counts = count(read_traces(named))
        assert counts.events == {"a": 1, "b": 1}
        assert counts.files == (f"{tmp_path}/bad\\udcff/a\\udcff.jsonl",)
    table = place / "t.parquet"
    table.write_bytes(parquet(tmp_path / "t.parquet", sent=None).read_bytes())
    assert count(read_traces(table)).events == {"a": 1, "b": 1}


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_packed_parquet(tmp_path: Path, codec: str) -> None:
    data = write_parquet(tmp_path / "a.parquet", GOOD).read_bytes()
    packed = gzip.compress(data) if codec == "gzip" else pa.compress(data, codec=codec, asbytes=True)
    path = tmp_path / "b.parquet.gz"
    path.write_bytes(packed)
    assert count(read_traces(path)).table == count(read_traces(tmp_path / "a.parquet")).table
    if codec == "gzip":
        path.write_bytes(packed[: len(packed) // 2])
        assert refusal(path).startswith(f"can't read the trace {path}: ")


def test_numbers_of_times_are_of_one_unit_in_all_files(tmp_path: Path) -> None:
    texts = ["1,a,5000000000\n1,b,6000000000\n", "1,c,120000000000\n", "1,d,0\n1,e,7000000000\n"]
    paths = [tmp_path / f"{k}.csv" for k in range(3)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text("case,activity,time\n" + text)
    assert refusal(*paths) == (
        f"{paths[1]}: by their size the times in 'time' are milliseconds, those of the files before seconds: "
        "write them as ISO 8601 text"
    )
    assert count(read_traces(paths[0], paths[2])).runs == 1
    for path in paths:
        count(read_traces(path))
