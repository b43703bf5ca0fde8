"""Chains split where history matters, against chains whose states say it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from flowstat.analyze.absorption import absorption
from flowstat.analyze.shares import shares
from flowstat.analyze.timing import timing
from flowstat.analyze.variants import variants
from flowstat.errors import ChainError
from flowstat.estimate.chain import estimate
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.observed import observed_variants
from flowstat.estimate.remembering import remembering
from flowstat.estimate.second_order import pair_name, second_order
from flowstat.explain.sentences import data_sentences
from flowstat.read.files import parse_graph
from flowstat.read.traces import Traces, read_traces
from flowstat.show.pictured import of_chain
from tests.strategies import event, forests, line, write_parquet

GRAPH = parse_graph("order/o.# -> pay; retry -> pay; pay/ok -> ship @0.6; pay/again -> retry")


def paying(path, runs=60, **more):
    """Record runs in which pay fails after order every third time, and after retry never."""
    rows = []
    for k in range(runs):
        nodes = ("order", "pay", "retry", "pay", "ship") if k % 3 == 0 else ("order", "pay", "ship")
        rows += [row | {name: value(i) for name, value in more.items()} for i, row in enumerate(line(k, *nodes))]
    return read_traces(write_parquet(path / "t.parquet", rows))


def matrix(chain):
    return {(chain.names[i], chain.names[j]): p for i, j, p in zip(*chain.arrows(), strict=True)}


def test_only_the_named_nodes_are_split(tmp_path):
    chain = remembering(paying(tmp_path), GRAPH, prior=0, nodes=["pay"])
    assert chain.names == ("order", "pay (after order)", "pay (after retry)", "retry", "ship")
    assert matrix(chain) == {
        ("order", "pay (after order)"): 1,
        ("pay (after order)", "ship"): pytest.approx(2 / 3),
        ("pay (after order)", "retry"): pytest.approx(1 / 3),
        ("pay (after retry)", "ship"): 1,
        ("retry", "pay (after retry)"): 1,
    }
    assert chain.start.tolist() == [1, 0, 0, 0, 0]
    assert chain.states == {
        "order": ("order",), "pay": ("pay (after order)", "pay (after retry)"), "retry": ("retry",), "ship": ("ship",)
    }  # fmt: skip
    assert "pay is pay (after order), pay (after retry)" in chain.sentence()
    assert data_sentences(chain)[-1] == chain.sentence()
    assert chain.keys("pay (after order)", "ship") == ("ok",)
    assert chain.keys("order", "pay (after order)") == ("o.#",)
    assert absorption(chain).events == pytest.approx(11 / 3)


def test_what_matters_is_found_and_split(tmp_path):
    chain = remembering(paying(tmp_path), GRAPH)
    assert chain.split == ("pay",)
    assert remembering(paying(tmp_path, 3), GRAPH).split == ()


def test_a_state_seldom_seen_goes_on_like_its_node(tmp_path):
    traces = paying(tmp_path, 3)
    chain, one = remembering(traces, GRAPH, prior=2.0, nodes=["pay"]), estimate(count(traces), GRAPH, 2.0)
    p = matrix(one)["pay", "retry"]
    assert matrix(chain)["pay (after retry)", "retry"] == pytest.approx(2 * p / 3)
    assert matrix(chain)["pay (after order)", "retry"] == pytest.approx((1 + 2 * p) / 5)


@settings(max_examples=5)
@given(forests())
def test_split_everywhere_it_is_the_second_order(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("remembering")
    rows = [row for row in rows if row["parent_id"] is None or row["parent"] is not None]
    known = {(row["trace_id"], row["span_id"]) for row in rows}
    rows = [row for row in rows if row["parent_id"] is None or (row["trace_id"], row["parent_id"]) in known]
    if not rows:
        return
    traces = read_traces(write_parquet(path / "t.parquet", rows))
    counts = count(traces)
    one = estimate(counts)
    # An orphan has no state of its own here: see `remembering`.
    chain, two = remembering(traces, nodes=one.names), second_order(traces)
    names = {state: pair_name(before, node) for state, (before, node) in chain.ways.items()}
    assert len(set(chain.names)) == len(chain.names)
    if not counts.problems:
        expected = matrix(two)
        found = {(names[i], names[j]): p for (i, j), p in matrix(chain).items()}
        assert set(found) <= set(expected)
        assert found == pytest.approx({pair: expected[pair] for pair in found}, rel=1e-9)
    none = remembering(traces, nodes=[])
    assert (none.names, matrix(none)) == (one.names, matrix(one))


def test_names_that_are_there_already_are_numbered(tmp_path):
    rows = [*line(1, "a", "b"), *line(2, "b (after a)", "b"), *line(3, "b", "b (at the start)")]
    chain = remembering(read_traces(write_parquet(tmp_path / "t.parquet", rows)), nodes=["b"])
    assert set(chain.states["b"]) == {"b (after a) 2", "b (after b (after a))", "b (at the start) 2"}
    assert chain.begin("b") == "b (at the start) 2"
    assert chain.walk(["a", "b"]) == ("a", "b (after a) 2")


def test_fan_out_goes_to_the_states_after_the_node(tmp_path):
    rows = []
    for k in range(30):
        sent = "b*2" if k % 2 else "b"
        rows += [event(k, 1, "a", sent=sent), event(k, 2, "b", parent_id=1, parent="a", sent="c")]
        rows += [event(k, 3, "b", parent_id=1, parent="a", sent="c")] * (k % 2)
        rows += [event(k, 3 + s, "c", parent_id=s, parent="b") for s in ((2, 3) if k % 2 else (2,))]
    rows = list({(row["trace_id"], row["span_id"]): row for row in rows}.values())
    chain = remembering(read_traces(write_parquet(tmp_path / "t.parquet", rows)), nodes=["b"])
    assert chain.fans_out
    assert chain.counts.table["a", '"b (after a)"*2'] == 15


def test_recorded_variants_are_compared_state_by_state(tmp_path):
    traces = paying(tmp_path)
    chain = remembering(traces, GRAPH, prior=0, nodes=["pay"])
    found = {v.nodes: v for v in variants(chain, 5, observed=observed_variants(traces)).variants}
    long = ("order", "pay (after order)", "retry", "pay (after retry)", "ship")
    assert found[long].observed == 20
    assert found[long].probability == pytest.approx(1 / 3)
    assert sum(v.observed for v in found.values()) == 60


def test_latencies_are_those_of_the_nodes(tmp_path):
    traces = paying(tmp_path, sent_at=lambda i: 10**9 * i, started_at=lambda i: 10**9 * i, ended_at=lambda i: 10**9 * i)
    counts = count(traces, GRAPH, latencies=True)
    chain = remembering(traces, GRAPH, prior=0, nodes=["pay"], counts=counts)
    assert timing(chain).mean == pytest.approx(timing(chain.one).mean)


def test_undeclared_arrows_stay_undeclared(tmp_path):
    traces = read_traces(
        write_parquet(tmp_path / "t.parquet", [*line(1, "order", "pay", "bank"), *line(2, "retry", "pay")])
    )
    chain = remembering(traces, GRAPH, nodes=["pay"])
    found = {(s.source, s.target): s.declared for s in shares(chain).shares}
    assert not found["pay (after order)", "bank"]
    assert found["pay (after retry)", "ship"]
    drawn = of_chain(chain)
    where = [k for k in range(len(drawn.rows)) if drawn.names[drawn.columns[k]] == "bank"]
    assert where
    assert drawn.undeclared[where].all()


def test_states_of_messages_that_are_pending_are_states(tmp_path):
    rows = [*line(1, "order", "pay", "ship"), event(2, 1, "order", sent="pay")]
    rows += [event(2, 2, "pay", parent_id=1, parent="order", status="pending")]
    chain = remembering(read_traces(write_parquet(tmp_path / "t.parquet", rows)), GRAPH, nodes=["pay"])
    assert "pay" not in chain.names
    assert chain.counts.pending == {}


def test_refusals(tmp_path):
    traces = paying(tmp_path, 6)
    with pytest.raises(ChainError, match="no node is called 'bank': split some of order"):
        remembering(traces, GRAPH, nodes=["bank"])
    with pytest.raises(ChainError, match="a rate of false alarms"):
        remembering(traces, GRAPH, rate=0)
    with pytest.raises(ChainError, match="at least one node"):
        remembering(Traces(()))
    with pytest.raises(ChainError, match="have a node 'order' that the chain lacks"):
        remembering(traces, nodes=[], counts=Counts({("a", ""): 1}))
    chain = remembering(traces, GRAPH, nodes=["pay"])
    with pytest.raises(ChainError, match=r"no run begins at pay.*start at pay \(after order\)"):
        chain.begin("pay")
    assert replace(chain, start=np.eye(5)[1]).split == ("pay",)
    assert remembering(Traces(()), GRAPH, nodes=["pay"], counts=Counts()).split == ("pay",)
