"""What hostile input found: each of these once lost data, hung, or ended in a traceback."""

import json
import os

import pyarrow.parquet as pq
import pytest

import flowstat as fs
from flowstat.explain.sentences import data_sentences
from tests.strategies import event, write_json_lines
from tests.test_cli import cli, place, traced  # noqa: F401 - fixtures


def test_convert_and_draw_do_not_write_over_what_they_read(traced, place):  # noqa: F811
    traced("convert", "-t", "app.parquet", "-o", "app.jsonl")
    before = (place / "app.jsonl").read_bytes()
    assert traced("convert", "-t", "app.jsonl", "-o", "app.jsonl", "--overwrite")[0] == 2
    assert (place / "app.jsonl").read_bytes() == before
    assert traced("convert", "-t", "app.parquet", "-o", "app.parquet", "--overwrite")[0] == 2
    assert fs.count(fs.read_traces("app.parquet")).runs == 500
    traced("convert", "app.graph", "-o", "app.dot")
    graph = (place / "app.dot").read_bytes()
    assert traced("draw", "app.dot", "-o", "app.dot")[0] == 2
    assert (place / "app.dot").read_bytes() == graph


def test_half_a_surrogate_pair_is_refused():
    for refused in ('"\\ud800" -> b', "\ud800 -> b"):
        with pytest.raises(fs.GraphError, match="half a surrogate pair"):
            fs.parse_graph(refused)
    with pytest.raises(fs.GraphError, match="half a surrogate pair"):
        fs.Graph.of([fs.Arrow("a", "#", "\ud800")])


def test_many_unclosed_components_are_soon_told():
    with pytest.raises(fs.GraphError) as caught:
        fs.parse_graph("[ a;\n" * 100_000)
    assert 20 <= len(caught.value.mistakes) <= 30


def test_a_linked_directory_is_not_followed(tmp_path):
    write_json_lines(tmp_path / "a.jsonl", [event(1, 1, "a")])
    os.symlink(".", tmp_path / "loop")
    assert fs.count(fs.read_traces(tmp_path)).runs == 1


def test_which_of_two_rows_of_one_event_counts_does_not_depend_on_their_order(tmp_path):
    rows = [event(1, 1, "a", sent="b"), event(1, 1, "a", status="pending"), event(1, 1, "a", sent="c")]
    for k, order in enumerate((rows, rows[::-1], rows[1:] + rows[:1])):
        write_json_lines(tmp_path / f"{k}.jsonl", order)
        assert fs.count(fs.read_traces(tmp_path / f"{k}.jsonl")).table == {("a", "b"): 1}


def test_a_broken_first_line_is_named_and_a_byte_order_mark_is_none(tmp_path):
    row = json.dumps(event(1, 1, "a"))
    (tmp_path / "a.jsonl").write_text(f"garbage\n{row}\n")
    with pytest.raises(fs.TraceError, match=r"a\.jsonl:1: not JSON"):
        fs.count(fs.read_traces(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + row.encode() + b"\n")
    assert fs.count(fs.read_traces(tmp_path / "b.jsonl")).runs == 1


def test_a_column_that_is_there_twice_is_refused(traced):  # noqa: F811
    table = fs.read_traces("app.parquet").frame()
    import pyarrow as pa

    whole = pa.Table.from_pandas(table)
    pq.write_table(whole.append_column("status", whole["status"]), "twice.parquet")
    with pytest.raises(fs.TraceError, match="'status' is there twice"):
        fs.count(fs.read_traces("twice.parquet"))


def test_names_can_not_move_the_cursor_or_forge_a_heading(tmp_path):
    graph = fs.parse_graph('a -> "\\u001b[31mRED\\n# fake" -> a; a -> "<script>"')
    chain = fs.estimate(fs.Counts(), graph)
    text = fs.report(chain, tmp_path / "r.md").read_text()
    assert "\x1b" not in text
    assert "\n# fake" not in text
    assert "<script>" not in text
    assert "\x1b" not in fs.report(chain, tmp_path / "r.html").read_text()


def test_a_trace_without_events_is_still_a_trace():
    chain = fs.estimate(fs.Counts(files=("x.parquet",)), fs.parse_graph("a -> b"))
    assert not any("No traces" in sentence for sentence in data_sentences(chain))


def test_standard_input_and_output_are_used_once(cli):  # noqa: F811
    assert cli("run", "-", "--input", "-", "-o", "z.parquet")[0] == 2
    assert cli("run", "app.graph", "-o", "-")[0] == 2
