from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.summary import summarise
from flowstat.read.canonical import open_writer, schema
from flowstat.read.files import parse_graph
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern, parse_pattern
from flowstat.read.traces import read_traces
from tests.strategies import Row, event, forests, names, write_json_lines, write_parquet

Sends = list[tuple[str, Counter[str]]]
few = st.sampled_from(["a", "b", "c d", "e*2"])


def events_of(rows: list[Row]) -> tuple[list[Row], Sends]:
    """Return the rows without repeats, and what each event among them sent, found from its children alone."""
    unique = list({(row["trace_id"], row["span_id"]): row for row in rows}.values())
    sends: Sends = []
    for row in unique:
        if row["status"] in ("ok", "error"):
            sends.append((row["name"], Counter()))
            for child in unique:
                of = child["trace_id"], child["parent_id"], child["status"] != "dropped"
                if of == (row["trace_id"], row["span_id"], True):
                    sends[-1][1][child["name"]] += 1
    return unique, sends


def whole(rows: list[Row]) -> bool:
    """Return whether all that the events sent was recorded: then send patterns can be counted from the children."""
    _, sends = events_of(rows)
    patterns = Counter(format_pattern(sent.elements()) for _, sent in sends)
    unique, _ = events_of(rows)
    return patterns == Counter(row["sent"] for row in unique if row["status"] in ("ok", "error"))


def read(path: Path, rows: list[Row]) -> Counts:
    """Count rows as JSON Lines and as Parquet, and see that both agree."""
    lines = count(read_traces(write_json_lines(path / "t.jsonl", rows))) if rows else Counts()
    table = count(read_traces(write_parquet(path / "t.parquet", rows)))
    assert numbers(lines) == numbers(table)
    assert [p.number for p in lines.problems] == [p.number for p in table.problems]
    return table


def numbers(counts: Counts) -> Counts:
    return replace(counts, files=(), problems=())


@given(forests())
def test_counts_equal_a_count_by_hand(tmp_path: Path, rows: list[Row]) -> None:
    counts = read(tmp_path, rows)
    unique, sends = events_of(rows)
    handled = [row for row in unique if row["status"] in ("ok", "error")]
    assert counts.table == Counter((row["name"], row["sent"]) for row in handled)
    assert counts.events == Counter(row["name"] for row in handled)
    assert counts.stops == Counter(row["name"] for row in handled if not row["sent"])
    assert counts.starts == Counter(row["name"] for row in handled if row["parent_id"] is None)
    assert counts.runs == sum(row["parent_id"] is None for row in handled)
    assert counts.errors == Counter(row["name"] for row in unique if row["status"] == "error")
    assert counts.pending == Counter(row["name"] for row in unique if row["status"] == "pending")
    assert counts.dropped == Counter(row["parent"] for row in unique if row["status"] == "dropped")
    spans = {(row["trace_id"], row["span_id"]) for row in unique}
    orphans = [r for r in unique if r["parent_id"] is not None and (r["trace_id"], r["parent_id"]) not in spans]
    told = {problem.what.split(",")[0]: problem.number for problem in counts.problems}
    assert told.get("events recorded twice", 0) == len(rows) - len(unique)
    assert told.get("events whose parent was not recorded", 0) == len(orphans)
    assert list(counts.table) == sorted(counts.table)
    if whole(rows):
        assert counts.table == Counter((name, format_pattern(sent.elements())) for name, sent in sends)


@given(forests())
def test_pairs_equal_a_count_by_hand(tmp_path: Path, rows: list[Row]) -> None:
    if not whole(rows):
        return
    _, sends = events_of(rows)
    visits = Counter(name for name, _ in sends)
    messages: Counter[tuple[str, str]] = Counter()
    senders: Counter[tuple[str, str]] = Counter()
    shares: dict[tuple[str, str], Fraction] = {}
    for name, sent in sends:
        for target, times in sent.items():
            pair = name, target
            messages[pair] += times
            senders[pair] += 1
            shares[pair] = shares.get(pair, Fraction(0)) + Fraction(times, sent.total() * visits[name])
    counts = read(tmp_path, rows)
    assert counts.messages == messages
    frame = counts.pairs()
    assert list(frame.columns) == ["source", "target", "messages", "events", "share"]
    for source, target, sent, events, share in frame.itertuples(index=False):
        assert (sent, events) == (messages[source, target], senders[source, target])
        assert share == pytest.approx(float(shares[source, target]), rel=1e-12)
    assert len(frame) == len(messages)
    assert counts.fans_out == any(sent.total() > 1 for _, sent in sends)


@settings(max_examples=25)
@given(forests(few), forests(few))
def test_counts_of_files_add_up(tmp_path: Path, first: list[Row], second: list[Row]) -> None:
    # Runs of their own, and one kind of ids, so that one file can hold both.
    for prefix, rows in (("x", first), ("y", second)):
        for row in rows:
            row.update({c: prefix + str(row[c]) for c in ("trace_id", "span_id", "parent_id") if row[c] is not None})
    one, two = read(tmp_path, first), read(tmp_path, second)
    paths = write_parquet(tmp_path / "1.parquet", first), write_parquet(tmp_path / "2.parquet", second)
    both = count(read_traces(*paths))
    assert numbers(both) == numbers(one + two) == numbers(two + one)
    told = Notices()
    told.extend(count(read_traces(paths[0])).problems + count(read_traces(paths[1])).problems)
    assert both.problems == told.problems
    assert both.files == tuple(map(str, paths))
    assert numbers(read(tmp_path, first + second)) == numbers(both)


@settings(max_examples=25)
@given(forests(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(tmp_path: Path, rows: list[Row], chance: object) -> None:
    before = read(tmp_path, rows)
    chance.shuffle(rows)  # type: ignore[attr-defined]
    assert numbers(read(tmp_path, rows)) == numbers(before)


@settings(max_examples=25)
@given(forests(few), st.lists(names, min_size=4, max_size=4, unique=True))
def test_other_names_give_the_same_numbers(tmp_path: Path, rows: list[Row], new: list[str]) -> None:
    before = read(tmp_path, rows)
    called = dict(zip(["a", "b", "c d", "e*2"], new, strict=True))

    def renamed(sent: str) -> str:
        return format_pattern(called[name] for name, times in parse_pattern(sent) for _ in range(times))

    again = [
        row | {"name": called.get(row["name"]), "parent": called.get(row["parent"]), "sent": renamed(row["sent"])}
        for row in rows
    ]
    after = read(tmp_path, again)
    assert after.table == {(called[node], renamed(sent)): n for (node, sent), n in before.table.items()}
    for what in ("starts", "errors", "pending", "dropped", "events", "stops"):
        assert getattr(after, what) == {called[node]: n for node, n in getattr(before, what).items()}


def test_the_tables_of_a_small_run(tmp_path: Path) -> None:
    rows = [
        event(1, 1, "order", sent="pay"),
        event(1, 2, "pay", parent="order", parent_id=1, sent="invoice notify*2"),
        event(1, 3, "invoice", parent="pay", parent_id=2, status="error"),
        event(1, 4, "notify", parent="pay", parent_id=2),
        event(1, 5, "notify", parent="pay", parent_id=2, status="pending"),
        event(1, 6, None, parent="order", parent_id=1, status="dropped", key="odd"),
        event(2, 1, "pay"),
    ]
    counts = count(read_traces(write_parquet(tmp_path / "t.parquet", rows)), parse_graph("order -> pay -> invoice"))
    assert counts.frame().to_dict("split")["data"] == [
        ["invoice", "", 1],
        ["notify", "", 1],
        ["order", "pay", 1],
        ["pay", "", 1],
        ["pay", "invoice notify*2", 1],
    ]
    assert list(counts.frame().columns) == ["node", "sent", "events"]
    assert counts.pairs().to_dict("split")["data"] == [
        ["order", "pay", 1, 1, 1.0],
        ["pay", "invoice", 1, 1, pytest.approx(1 / 6)],
        ["pay", "notify", 2, 1, pytest.approx(1 / 3)],
    ]
    assert (counts.events["pay"], counts.starts, counts.stops["pay"]) == (2, {"order": 1, "pay": 1}, 1)
    assert (counts.errors, counts.pending, counts.dropped) == ({"invoice": 1}, {"notify": 1}, {"order": 1})
    assert counts.undeclared == {("pay", "notify"): 2}
    assert counts.nodes == ("invoice", "notify", "order", "pay")
    assert counts.fans_out
    twice = counts + counts
    assert (twice.runs, twice.undeclared, twice.frame()["events"].tolist()) == (4, {("pay", "notify"): 4}, [2] * 5)


def test_nothing_counted() -> None:
    none = Counts()
    assert none + none == none
    assert (none.runs, none.nodes, none.events, none.fans_out) == (0, (), {}, False)
    assert list(none.frame().columns) == ["node", "sent", "events"]
    assert list(none.pairs().columns) == ["source", "target", "messages", "events", "share"]
    with pytest.raises(TypeError):
        none + 1  # type: ignore[operator]


def test_a_node_that_was_only_sent_to_is_a_node() -> None:
    assert Counts({("a", "b c"): 1}, pending={"d": 1}).nodes == ("a", "b", "c", "d")


@pytest.mark.parametrize("name", ["t.parquet", "name=x[1]/t.parquet", "t.jsonl"])
def test_retries_are_told_for_recorded_traces_too(tmp_path: Path, name: str) -> None:
    tries = [event(1, k, "b", parent="a", parent_id=1, status=s) for k, s in ((2, "error"), (3, "error"), (4, "ok"))]
    rows = [event(1, 1, "a", sent="b*3"), *tries, event(1, 5, None, parent="a", parent_id=1, status="dropped")]
    with open_writer(tmp_path / name) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, schema()))
    traces = read_traces(tmp_path / name)
    for problems in (count(traces, memory=100 << 20).problems, summarise(traces).problems.problems):
        again = [(p.number, p.example) for p in problems if "retries" in p.what]
        assert again == [(2, "2 times at b")]
