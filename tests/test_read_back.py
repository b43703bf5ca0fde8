"""What another program, an interrupt or a later reading makes of files that flowstat wrote."""

import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flowstat as fs
from flowstat.errors import TraceError
from flowstat.read.canonical import open_writer
from flowstat.read.drafts import DraftWriter
from tests.strategies import event, write_json_lines

ROWS = [event(1, 1, "a", sent="b"), event(1, 2, "b", parent="a", parent_id=1)]


def recorded(place, rows):
    """Write rows as a recording is written."""
    lines = write_json_lines(place / "rows.jsonl", rows)
    with open_writer(place / "a.parquet") as writer:
        for batch in fs.read_traces(lines).batches():
            writer.write(batch)
    return place / "a.parquet"


def test_patterns_are_counted_in_one_form(tmp_path):
    rows = [event(1, 1, "a", sent="c b"), event(2, 1, "a", sent="b*1 c"), event(3, 1, "a", sent="b c")]
    path = recorded(tmp_path, rows)
    for trace in (path, tmp_path / "rows.jsonl"):
        assert fs.count(fs.read_traces(trace)).table == {("a", "b c"): 3}


def test_the_row_that_counts_does_not_depend_on_what_is_read(tmp_path):
    """Of two rows that differ in sender and start, the start decides: --cut depends on it."""
    rows = [
        event(1, 1, "r", sent="b", started_at=10**9),
        event(1, 2, "b", parent="A", parent_id=1, started_at=100 * 10**9),
        event(1, 2, "b", parent="B", parent_id=1, started_at=2 * 10**9),
        event(2, 1, "r", started_at=100 * 10**9),
    ]
    lines = write_json_lines(tmp_path / "a.jsonl", rows)
    direct = fs.count(fs.read_traces(lines, cut="1s"))
    again = fs.count(fs.read_traces(recorded(tmp_path, rows), cut="1s"))
    assert direct.table == again.table
    assert direct.pending == again.pending == {"r": 1}


def test_a_cut_longer_than_time_itself(tmp_path):
    rows = [
        event(1, 1, "a", sent="b", started_at=-(2**62)),
        event(1, 2, "b", parent="a", parent_id=1, started_at=-(2**62)),
    ]
    lines = write_json_lines(tmp_path / "a.jsonl", rows)
    assert fs.count(fs.read_traces(lines, cut="53000d")).pending == {"b": 1}


def test_a_segment_that_is_written_again_by_another_is_checked_again(tmp_path):
    path = recorded(tmp_path, ROWS)
    (part,) = path.iterdir()
    assert fs.read_traces(path).files[0].is_marked
    table = pq.read_table(part)
    names = pa.array(["x", "b"]).dictionary_encode().cast(table.schema.field("name").type)
    pq.write_table(table.set_column(table.schema.get_field_index("name"), table.schema.field("name"), names), part)
    assert not fs.read_traces(path).files[0].is_marked
    assert fs.count(fs.read_traces(path)).starts == {"x": 1}


def test_messages_of_unknown_sender_are_told_of_in_recorded_traces_too(tmp_path):
    lost = event(1, 2, None, status="dropped", sent="")
    lines = write_json_lines(tmp_path / "a.jsonl", [event(1, 1, "a"), lost])
    again = recorded(tmp_path, [event(1, 1, "a"), lost])
    (said,) = fs.count(fs.read_traces(lines)).problems
    (told,) = fs.count(fs.read_traces(again)).problems
    assert (said.what, said.number) == (told.what, told.number)
    assert "unknown sender" in said.what


def test_an_interrupt_while_a_file_is_finished_leaves_no_draft(tmp_path):
    class Interrupted(DraftWriter):
        def close(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Interrupted(tmp_path / "a.xes"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"starts": [["a", 3]]}, "3 starts at 'a', which has 2 events"),
        ({"errors": [["b", 1]]}, "1 errors at 'b', which has 0 events"),
        ({"table": [["a", "", 10**400]]}, "'table' has the entry"),
        ({"table": [["\ud800", "", 1]]}, "'table' has the entry"),
        ({"links": [["a", "", 1]]}, "'links' has the entry"),
        ({"latencies": [["a", "a", 0, "0", "0", []]]}, "without latencies"),
        ({"latencies": [["a", "a", 1, "5", "25", []], ["a", "a", 1, "6", "36", []]]}, "twice"),
        ({"files": ["\udc00"]}, "'files'"),
    ],
)
def test_counts_that_are_impossible_are_refused(change, said):
    data = json.loads(fs.estimate.counts_file.format_counts(fs.Counts({("a", ""): 2}, {"a": 2})))
    with pytest.raises(TraceError, match=said):
        fs.estimate.counts_file.parse_counts(json.dumps(data | change))


def test_counts_come_from_standard_input(monkeypatch, tmp_path):
    fs.write_counts(fs.Counts({("a", ""): 2}, {"a": 2}), tmp_path / "a.json")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "a.json").read_bytes())))
    assert fs.read_counts("-").events == {"a": 2}


def test_ids_that_became_decimals_far_behind_are_read(tmp_path):
    n = 5000
    spans = [str(k) for k in range(1, n + 1)]
    parents = [None] * (n - 1) + ["1.0"]
    table = pa.table({"trace_id": ["t"] * n, "span_id": spans, "parent_id": parents, "name": ["a"] * n})
    pq.write_table(table, tmp_path / "a.parquet")
    found = fs.count(fs.read_traces(tmp_path / "a.parquet"))
    assert found.table["a", "a"] == 1
    assert not found.problems


def test_times_with_and_without_a_zone_are_one_time(monkeypatch, tmp_path):
    monkeypatch.setenv("TZ", "America/New_York")
    for k, zone in enumerate(["UTC", None]):
        times = pa.array([0, 10**10], pa.timestamp("ns", zone))
        rows = {"trace_id": [f"t{k}"] * 2, "span_id": ["1", "2"], "parent_id": [None, "1"], "name": ["a", "b"]}
        pq.write_table(pa.table(rows | {"start_time": times}), tmp_path / f"{k}.parquet")
    assert fs.count(fs.read_traces(tmp_path, cut="5s")).pending == {"b": 2}


def test_a_step_back_in_time_is_told_by_its_span(tmp_path):
    (tmp_path / "1.csv").write_text(
        "trace_id,span_id,parent_id,name,start_time,end_time\nt,1,,a,2024-01-01,2024-01-02\n"
    )
    (tmp_path / "2.csv").write_text(
        "trace_id,span_id,parent_id,name,start_time,end_time\nt,2,,a,2024-01-02,2024-01-01\n"
    )
    (problem,) = fs.summarise(fs.read_traces(tmp_path)).problems.problems
    assert problem.example.endswith("trace t, span 2")


def test_options_of_reading_need_traces(run_flowstat):
    code, _, err = run_flowstat("cycles", "data/orders.graph", "--cut", "5m")
    assert code == 2
    assert "need traces" in err
