from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings

from flowstat.analyze.shares import shares
from flowstat.analyze.transforms import pairs
from flowstat.analyze.visits import visits
from flowstat.errors import ChainError, TraceError
from flowstat.estimate.chain import estimate
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import write_counts
from flowstat.estimate.second_order import count_pairs, pair_name, second_order
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.read.graph import Graph
from flowstat.read.patterns import format_pattern, parse_pattern
from flowstat.read.traces import Traces, read_traces
from flowstat.run.simulate import simulate
from tests.strategies import event, forests, line, write_json_lines, write_parquet

GRAPH = "a -> c @0.5; b -> c @0.9; c -> d @0.5; c -> e @0.5"


def remembering(path):
    """Record runs in which c goes on to d after a, and to e after b."""
    rows = [row for k in range(30) for row in line(k, *("acd" if k % 3 else "bce"))]
    return read_traces(write_parquet(path / "t.parquet", rows))


def single(name):
    """Return the node of a pair."""
    (last,) = parse_pattern(name.rsplit(" > ", 1)[-1])
    return last[0]


@settings(max_examples=20)
@given(forests())
def test_pairs_add_up_to_counts(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("pairs")
    traces = read_traces(write_parquet(path / "t.parquet", rows))
    counts, two = count(traces), count_pairs(traces)
    table = Counter()
    for (node, sent), n in two.table.items():
        targets = [single(target) for target, times in parse_pattern(sent) for _ in range(times)]
        table[single(node), format_pattern(targets)] += n
    assert table == counts.table
    assert {single(node): n for node, n in two.starts.items()} == counts.starts


@settings(max_examples=20)
@given(forests())
def test_formats_agree(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("pairs")
    if rows:
        parquet, lines = write_parquet(path / "t.parquet", rows), write_json_lines(path / "t.jsonl", rows)
        one, other = (count_pairs(read_traces(p)) for p in (parquet, lines))
        assert replace(one, files=(), problems=()) == replace(other, files=(), problems=())


def test_what_was_before_is_told(tmp_path):
    chain = second_order(remembering(tmp_path), prior=0)
    assert chain.names == ("a", "b", "a > c", "b > c", "c > d", "c > e")
    P = {(chain.names[i], chain.names[j]): p for i, j, p in zip(*chain.arrows(), strict=True)}
    assert P == {
        ("a", "a > c"): 1,
        ("b", "b > c"): 1,
        ("a > c", "c > d"): 1,
        ("b > c", "c > e"): 1,
    }
    assert chain.start.tolist() == [2 / 3, 1 / 3, 0, 0, 0, 0]


def test_seldom_seen_pairs_go_on_like_their_node(tmp_path):
    traces = remembering(tmp_path)
    chain = second_order(traces, prior=2.0)
    one = estimate(count(traces), prior=2.0)
    p = one.P.toarray()[one.index["c"], one.index["d"]]
    mine = chain.P.toarray()[chain.index["b > c"], chain.index["c > d"]]
    assert mine == pytest.approx(2 * p / (10 + 2), rel=1e-12)
    seen = {(s.source, s.target): s for s in shares(chain).shares}
    known = seen["a > c", "c > d"]
    assert known.low < known.share < known.high
    assert known.messages == 20


def test_a_chain_of_order_one_is_found_to_be_one(tmp_path):
    graph = parse_graph("a -> c @0.5; a -> b; b -> c; c -> a @0.3; c -> b @0.2; c -> d @0.4")
    with open_writer(tmp_path / "t.parquet") as writer:
        simulate(graph, 4000, 7, writer)
    traces = read_traces(tmp_path / "t.parquet")
    two, lifted = second_order(traces, graph), pairs(estimate(count(traces), graph))
    assert set(two.names) >= set(lifted.names)
    n = two.counts.events
    for i, j, p in zip(*lifted.arrows(), strict=True):
        source, target = lifted.names[i], lifted.names[j]
        mine = two.P[two.index[source], two.index[target]]
        assert abs(mine - p) <= 4.5 * (p * (1 - p) / n[source]) ** 0.5 + 2 / n[source]
    seen = {v.node: v.visits for v in visits(two).nodes}
    assert sum(seen.values()) * 4000 == pytest.approx(sum(n.values()), rel=0.01)


def test_without_traces_it_is_the_graph_written_on_pairs():
    graph = parse_graph(GRAPH)
    two, lifted = second_order(Traces(()), graph), pairs(estimate(Counts(), graph))
    assert set(two.names) == set(lifted.names)
    at = [two.index[name] for name in lifted.names]
    assert abs(two.P[at][:, at] - lifted.P).max() < 1e-15
    assert two.stop[at] == pytest.approx(lifted.stop, abs=1e-15)


def test_names_are_quoted():
    assert pair_name("a > b", "c") == '"a > b" > c'
    assert pair_name("a", "b > c") == 'a > "b > c"'


def test_fan_out_is_one_lineage_at_random(tmp_path):
    rows = [
        event(1, 1, "a", sent="b c*3"),
        event(1, 2, "b", parent_id=1, parent="a"),
        *(event(1, k, "c", parent_id=1, parent="a") for k in (3, 4, 5)),
    ]
    chain = second_order(read_traces(write_parquet(tmp_path / "t.parquet", rows)), prior=0)
    assert chain.P.toarray()[chain.index["a"], chain.index["a > c"]] == 0.75
    assert chain.fans_out


def test_refusals(tmp_path):
    with pytest.raises(ChainError, match="at least one node"):
        second_order(Traces(()), Graph(()))
    with pytest.raises(ChainError, match="a prior"):
        second_order(Traces(()), parse_graph(GRAPH), prior=-1)
    write_counts(Counts({("a", ""): 1}, {"a": 1}), tmp_path / "c.json")
    with pytest.raises(TraceError, match="holds counts"):
        second_order(read_traces(tmp_path / "c.json"))
