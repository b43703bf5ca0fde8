"""The commands for traces: what is in them, counts saved and merged, graphs discovered, other formats."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flowstat as fs

LOG = "case,activity,time\n1,a,2024-01-01\n2,a,2024-01-01\n1,b,2024-01-02\n2,c,2024-01-09\n"
ROWS = [
    {"trace_id": 1, "span_id": 1, "name": "a", "sent": "b", "status": "ok"},
    {"trace_id": 1, "span_id": 2, "parent_id": 1, "parent": "a", "name": "b", "sent": "", "status": "error"},
    {"trace_id": 1, "span_id": 2, "parent_id": 1, "parent": "a", "name": "b", "sent": "", "status": "error"},
    {"trace_id": 2, "span_id": 9, "parent_id": 8, "name": "b", "sent": "", "status": "ok"},
]


@pytest.fixture
def cli(tmp_path, monkeypatch, run_flowstat):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "app.graph").write_text("a -> b; a -> c;")

    return run_flowstat


def test_traces_says_what_is_there_and_what_is_odd(cli):
    code, out, _ = cli("traces", "log.csv", "rows.jsonl", "--format", "json")
    assert code == 0
    data = json.loads(out)
    files = {file["file"]: file for file in data["files"]["files"]}
    assert files["log.csv"] | {"first": "", "last": ""} == {
        "file": "log.csv", "format": "csv", "runs": 2, "events": 4, "nodes": 3, "first": "", "last": ""
    }  # fmt: skip
    assert (files["log.csv"]["first"], files["log.csv"]["last"]) == ("2024-01-01T00:00:00Z", "2024-01-09T00:00:00Z")
    assert files["rows.jsonl"]["runs"] == 1
    found = {problem["what"].split(",")[0]: problem["number"] for problem in data["problems"]["problems"]}
    assert found == {
        "events recorded twice": 1,
        "events whose parent was not recorded": 1,
        "events whose handler failed": 1,
    }
    code, out, _ = cli("traces", "log.csv")
    assert "Nothing odd was found." in out


def test_counts_are_saved_merged_and_taken_in_place_of_traces(cli):
    assert cli("count", "log.csv", "-o", "one.json")[0] == 0
    code, _, err = cli("count", "rows.jsonl", "-o", "two.json")
    assert code == 0
    assert "1 events recorded twice" in err
    assert "3 events in 1 runs at 2 nodes" in err
    assert cli("merge", "one.json", "two.json", "-o", "both.json")[0] == 0
    both = fs.read_counts("both.json")
    assert both == fs.read_counts("one.json") + fs.read_counts("two.json")
    for command in ("cycles", "absorbing", "flows", "matrix"):
        from_counts = cli(command, "app.graph", "-t", "both.json", "--format", "json")
        from_traces = cli(command, "app.graph", "-t", "log.csv", "-t", "rows.jsonl", "--format", "json")
        assert from_counts[:2] == from_traces[:2]
    written = Path("both.json").read_text()
    assert cli("count", "both.json")[1] == cli("merge", "both.json")[1] == written


def test_standard_input_is_as_good_as_a_file(cli):
    packed = gzip.compress(LOG.encode())
    code, out, _ = cli("count", "-", stdin=packed)
    assert code == 0
    assert json.loads(out)["table"] == [["a", "b", 1], ["a", "c", 1], ["b", "", 1], ["c", "", 1]]


def test_columns_and_cuts_are_named(cli):
    text = "x;y;z\n7;go;1\n7;stop;5\n"
    code, out, _ = cli("count", "-", "--case", "x", "--activity", "y", "--time", "z", stdin=text.encode())
    assert (code, json.loads(out)["table"]) == (0, [["go", "stop", 1], ["stop", "", 1]])
    code, out, _ = cli("count", "log.csv", "--cut", "2d")
    data = json.loads(out)
    assert data["pending"] == [["c", 1]]
    assert data["table"] == [["a", "b", 1], ["a", "c", 1], ["b", "", 1]]
    assert "not a duration" in cli("count", "log.csv", "--cut", "soon")[2]
    assert "'q'" in cli("count", "log.csv", "--case", "q")[2]


def test_bad_records_end_the_count_or_are_skipped_and_told(cli):
    broken = LOG + ",d,2024-01-01\n"
    code, _, err = cli("count", "-", stdin=broken.encode())
    assert code == 2
    assert "<stdin>" in err
    code, out, err = cli("count", "-", "--skip-bad", stdin=broken.encode())
    assert code == 0
    assert "1 records that can't be read, skipped" in err
    assert len(json.loads(out)["table"]) == 4


def test_latencies_are_summed_when_asked_for(cli):
    code, out, _ = cli("count", "log.csv", "--latencies")
    assert code == 0
    day = 86400 * 10**9
    assert [row[:5] for row in json.loads(out)["latencies"]] == [
        ["a", "b", 1, str(day), str(day**2)],
        ["a", "c", 1, str(8 * day), str(64 * day**2)],
    ]


def test_the_graph_that_traces_show_is_ready_to_be_used(cli):
    code, out, _ = cli("graph", "-t", "log.csv")
    assert code == 0
    assert "// discovered from 2 runs, 4 events" in out
    graph = fs.parse_graph(out)
    assert [(arrow.source, arrow.target, arrow.share) for arrow in graph.arrows] == [("a", "b", 0.5), ("a", "c", 0.5)]
    assert cli("graph", "-t", "log.csv", "-o", "found.graph")[0] == 0
    assert "--overwrite" in cli("graph", "-t", "log.csv", "-o", "found.graph")[2]
    assert cli("cycles", "found.graph", "-t", "log.csv")[0] == 0


def test_traces_are_converted_by_name_or_by_option(cli):
    for name in ("a.parquet", "a.jsonl", "a.otlp.json", "a.jaeger.json", "a.xes", "a.xes.gz"):
        assert cli("convert", "-t", "rows.jsonl", "-o", name)[0] == 0
        code, out, _ = cli("count", name)
        assert (code, json.loads(out)["table"]) == (0, [["a", "b", 1], ["b", "", 2]])
        assert cli("convert", "-t", "rows.jsonl", "-o", name)[0] == 2
        assert cli("convert", "-t", "rows.jsonl", "-o", name, "--overwrite")[0] == 0
    assert cli("convert", "-t", "rows.jsonl", "-o", "b", "--to", "otlp")[0] == 0
    assert "resourceSpans" in Path("b").read_text()
    assert "one by one" in cli("convert", "-t", "a.parquet", "-t", "a.jsonl", "-o", "c.parquet")[2]
    assert cli("convert", "-t", "log.csv", "-o", "log.xes")[0] == 0
    code, out, _ = cli("count", "log.xes")
    assert json.loads(out)["table"] == [["a", "b", 1], ["a", "c", 1], ["b", "", 1], ["c", "", 1]]


SPANS = [
    {"traceId": "a", "id": "1", "name": "go", "timestamp": 1_000_000, "localEndpoint": {"serviceName": "x"}},
    {"traceId": "a", "id": "2", "parentId": "1", "name": "do", "timestamp": 2_000_000},
    {"traceId": "a", "id": "3", "parentId": "1", "name": "late", "timestamp": 9_000_000},
    {"traceId": "b", "id": "4", "name": "go", "timestamp": 9_000_000, "localEndpoint": {"serviceName": "x"}},
]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.otlp.json", "a.jaeger.json", "a.xes"])
@pytest.mark.parametrize("source", ["log.csv", "spans.json", "own.parquet", "own.jsonl"])
def test_what_may_have_been_cut_off_is_converted_as_pending(cli, source, name):
    Path("spans.json").write_text(json.dumps(SPANS))
    for own in ("own.parquet", "own.jsonl"):
        assert cli("convert", "-t", "spans.json", "-o", own)[0] == 0
    span = ("--cut", "2d") if source == "log.csv" else ("--cut", "1s")
    code, expected, _ = cli("count", source, *span)
    assert code == 0
    assert json.loads(expected)["pending"]
    assert cli("convert", "-t", source, "-o", name, *span)[0] == 0
    code, out, _ = cli("count", name)
    assert (code, json.loads(out) | {"files": []}) == (0, json.loads(expected) | {"files": []})


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.otlp.json", "a.otlp.jsonl", "a.jaeger.json", "a.xes"])
def test_a_trace_without_rows_is_converted_there_and_back(cli, name):
    assert cli("run", "app.graph", "--runs", "0", "-o", "none.parquet")[0] == 0
    assert cli("convert", "-t", "none.parquet", "-o", name)[0] == 0
    code, out, _ = cli("traces", name, "--format", "json")
    assert code == 0
    (file,) = json.loads(out)["files"]["files"]
    assert (file["runs"], file["events"]) == (0, 0)
    assert cli("convert", "-t", name, "-o", "back.parquet")[0] == 0
    assert json.loads(cli("count", "back.parquet")[1])["table"] == []


@pytest.mark.parametrize(
    ("command", "option", "said"),
    [
        (
            ("count", "rows.jsonl"),
            ("--case", "x"),
            "--case is for CSV, Parquet tables, XES and OCEL: rows.jsonl is can",
        ),
        (("count", "rows.jsonl"), ("--node", "{name}"), "XES: rows.jsonl is canonical JSON Lines"),
        (("traces", "spans.json"), ("--name", "x"), "--name is for CSV and Parquet tables: spans.json is Zipkin"),
        (
            ("convert", "-o", "x.parquet", "-t", "spans.json"),
            ("--time", "x"),
            "--time is for CSV, Parquet tables and XES",
        ),
        (("matrix", "app.graph", "-t", "one.json"), ("--cut", "5m"), "one.json is counts"),
        (
            ("count", "rows.jsonl", "spans.json"),
            ("--case", "x"),
            "canonical JSON Lines, and none of the others is such",
        ),
        (("convert", "app.graph"), ("--cut", "5m"), "--cut says how traces are read, and not a graph"),
        (("convert", "app.graph"), ("--skip-bad",), "--skip-bad says how traces are read"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(cli, command, option, said):
    Path("spans.json").write_text(json.dumps(SPANS))
    assert cli("count", "rows.jsonl", "-o", "one.json")[0] == 0
    code, out, err = cli(*command, *option)
    assert (code, out) == (2, "")
    assert said in err
    assert not Path("x.parquet").exists()


def test_an_option_that_is_for_one_of_the_traces_is_taken(cli):
    Path("spans.json").write_text(json.dumps(SPANS))
    code, out, _ = cli("count", "rows.jsonl", "spans.json", "log.csv", "--node", "{name}", "--case", "case")
    assert code == 0
    assert {row[0] for row in json.loads(out)["table"]} == {"a", "b", "c", "go", "do", "late"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("count",), "name the traces to count"),
        (("count", "log.csv", "--table", "x"), "--table needs --engine"),
        (("count", "--engine", "duckdb://"), "--engine counts one --table"),
        (("count", "log.csv", "--memory", "much"), "not a size"),
        (("count", "rows.jsonl", "--memory", "1MB"), "at least"),
        (("count", "none.json"), "no such trace"),
        (("merge", "log.csv"), "no counts file"),
        (("traces", "-", "-"), "once only"),
        (("convert", "-t", "log.csv"), "name the trace"),
        (("convert", "-t", "log.csv", "-o", "log.csv"), "is read here"),
        (("graph", "-t", "log.csv", "-o", "log.csv"), "is read here"),
        (("convert", "app.graph", "--to", "xes"), "a graph is written as"),
    ],
)
def test_wrong_usage_is_told(cli, arguments, said):
    code, _, err = cli(*arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_name_with_a_pattern_in_it_is_a_name(cli):
    row = json.dumps(ROWS[0]) + "\n"
    Path("run[1].jsonl").write_text(row)
    Path("run1.jsonl").write_text(row.replace('"a"', '"other"'))
    assert json.loads(cli("count", "run[1].jsonl")[1])["table"] == [["a", "b", 1]]


def test_directories_and_twins_of_columns_are_no_columns(cli):
    columns = {"trace_id": ["1", "1"], "span_id": ["1", "2"], "parent_id": [None, "1"], "name": ["a", "b"]}
    Path("name=hive").mkdir()
    pq.write_table(pa.table(columns), "name=hive/x.parquet")
    pq.write_table(pa.table({"Name": ["wrong", "wrong"]} | columns), "twins.parquet")
    for path in ("name=hive/x.parquet", "twins.parquet"):
        code, out, _ = cli("count", path, "--name", "name")
        assert (code, json.loads(out)["table"]) == (0, [["a", "b", 1], ["b", "", 1]])


def test_nothing_is_written_over_what_is_read_or_is_no_counts_file(cli):
    cli("count", "log.csv", "-o", "one.json")
    assert "is read here" in cli("merge", "one.json", "one.json", "-o", "one.json")[2]
    assert "is no counts file" in cli("count", "log.csv", "-o", "rows.jsonl")[2]
    assert cli("count", "rows.jsonl", "-o", "one.json")[0] == 0


def test_a_conversion_that_fails_leaves_nothing(cli):
    Path("half.jsonl").write_text(json.dumps(ROWS[0]) + "\nrubbish\n")
    for name in ("half.parquet", "half.otlp.json", "half.xes"):
        assert cli("convert", "-t", "half.jsonl", "-o", name)[0] == 2
        assert not Path(name).exists()
    assert cli("convert", "-t", "rows.jsonl", "-o", "kept.otlp.json")[0] == 0
    before = Path("kept.otlp.json").read_bytes()
    assert cli("convert", "-t", "half.jsonl", "-o", "kept.otlp.json", "--overwrite")[0] == 2
    assert Path("kept.otlp.json").read_bytes() == before
    cli("count", "log.csv", "-o", "one.json")
    assert "the rows that were counted can't be had" in cli("convert", "-t", "one.json", "-o", "one.parquet")[2]
    assert not Path("one.parquet").exists()


def test_files_of_different_kinds_are_not_counted_together(cli):
    Path("spans.csv").write_text("TraceID,SpanID,ParentID,OperationName\n1,1,,a\n1,2,1,b\n")
    for order in (("log.csv", "spans.csv"), ("spans.csv", "log.csv")):
        code, _, err = cli("count", *order)
        assert code == 2
        assert "not of the same kind" in err


def test_packed_counts_are_counts(cli):
    cli("count", "log.csv", "-o", "one.json")
    Path("one.json.gz").write_bytes(gzip.compress(Path("one.json").read_bytes()))
    assert cli("count", "one.json.gz")[1] == Path("one.json").read_text()


def test_counts_are_merged_from_anywhere(cli):
    Path("days").mkdir()
    cli("count", "log.csv", "-o", "days/one.json")
    cli("count", "rows.jsonl", "-o", "days/two.json")
    both = cli("merge", "days/one.json", "days/two.json")[1]
    assert cli("merge", "days/*.json")[:2] == cli("merge", "days")[:2] == (0, both)
    assert cli("merge", "days/one.json", "-", stdin=Path("days/two.json").read_bytes())[:2] == (0, both)
    assert fs.read_counts("days/*.json") == fs.read_counts("days/one.json", "days/two.json")
    assert "is read here" in cli("merge", "days/*.json", "-o", "days/one.json")[2]
    assert "once only" in cli("merge", "-", "-")[2]
    code, _, err = cli("merge", "-", stdin=b'{"type": "flowstat counts", "version": 1}')
    assert (code, err) == (2, "flowstat: <stdin> is a damaged counts file: 'table'\n")
