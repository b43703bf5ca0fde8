import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import OutputError, TraceError
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import format_counts, parse_counts, read_counts, write_counts
from flowstat.estimate.latency import Latency
from flowstat.read.notices import Problem
from flowstat.read.patterns import format_pattern
from tests.strategies import names

numbers = st.integers(1, 2**62)
nodes = st.dictionaries(names, numbers, max_size=4).map(lambda d: dict(sorted(d.items())))
pairs = st.dictionaries(st.tuples(names, names), numbers, max_size=4).map(lambda d: dict(sorted(d.items())))
patterns = st.lists(names, max_size=3).map(format_pattern)
tables = st.dictionaries(st.tuples(names, patterns), numbers, max_size=4).map(lambda d: dict(sorted(d.items())))
latencies = st.dictionaries(
    st.tuples(names, names), st.lists(st.integers(0, 2**62), min_size=1, max_size=4).map(Latency.of), max_size=2
).map(lambda d: dict(sorted(d.items())))
problems = st.lists(st.builds(Problem, names, numbers, names), max_size=2, unique_by=lambda p: p.what).map(tuple)
counts = st.builds(
    Counts,
    tables,
    nodes,
    nodes,
    nodes,
    nodes,
    pairs,
    pairs,
    latencies,
    st.lists(names, max_size=2).map(tuple),
    problems,
)


def possible(counts):
    """Return counts whose runs and failures are those of events that were seen."""
    events = counts.events
    starts, errors = (
        {node: min(n, events[node]) for node, n in numbers.items() if node in events}
        for numbers in (counts.starts, counts.errors)
    )
    return replace(counts, starts=starts, errors=errors)


counts = counts.map(possible)


@given(counts)
def test_what_is_written_is_read_back(counts):
    assert parse_counts(format_counts(counts)) == counts


@given(counts, counts, counts)
def test_merging_is_adding_in_any_grouping(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert (a + b).table == (b + a).table
    assert (a + b).latencies == (b + a).latencies


def test_several_files_add_up(tmp_path):
    write_counts(Counts({("a", ""): 2}, {"a": 2}), tmp_path / "one.json")
    write_counts(Counts({("a", ""): 3, ("b", "a"): 1}, {"b": 1}), tmp_path / "two.json")
    both = read_counts(tmp_path / "one.json", tmp_path / "two.json")
    assert both == Counts({("a", ""): 5, ("b", "a"): 1}, {"a": 2, "b": 1})
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version 2"),
        ({"type": "other"}, "no counts file"),
        ({"table": [["a", "", -1]]}, "damaged"),
        ({"table": [["a", "", 1.5]]}, "damaged"),
        ({"table": [["", "", 1]]}, "damaged"),
        ({"table": [["a", "b*0", 1]]}, "send pattern"),
        ({"table": {}}, "damaged"),
        ({"starts": [["a"]]}, "damaged"),
        ({"starts": None}, "damaged"),
        ({"latencies": [["a", "b", 1, "x", "1", []]]}, "damaged"),
        ({"latencies": [["a", "b", 1, "1", "1", [1]]]}, "damaged"),
        ({"files": [1]}, "damaged"),
        ({"problems": [["a", True, "b"]]}, "damaged"),
    ],
)
def test_damaged_files_are_refused(change, said):
    data = json.loads(format_counts(Counts({("a", ""): 1})))
    with pytest.raises(TraceError, match=said):
        parse_counts(json.dumps(data | change))


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(TraceError, match="No such file"):
        read_counts(tmp_path / "none.json")
    with pytest.raises(TraceError, match="no counts file"):
        parse_counts(b"\xff")
    with pytest.raises(OutputError, match="can't write"):
        write_counts(Counts(), tmp_path / "no" / "such" / "place.json")
