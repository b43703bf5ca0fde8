"""Whether some message comes there: by hand, by plain iteration, by simulation, and as the chain's answer."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings

from flowstat.analyze import shifted
from flowstat.analyze.hitting import hitting
from flowstat.analyze.reach import reach
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, estimate
from tests.branching_oracle import counts_of, iterated, play, table_of, tables
from tests.oracles import chains

RUNS = 1_000_000


def test_a_loop_by_hand():
    # y = (1 - (1 - y)^2) / 4 + 1/4, so that y^2 + 2 y - 1 = 0.
    found = reach(counts_of({"a": {"a a": 1, "x": 1, "": 2}}), "x").start
    assert abs(found.probability - (sqrt(2) - 1)) <= found.error_bound
    assert found.error_bound < 1e-14


def test_a_run_that_never_ends_need_not_come_there():
    # a doubles for ever, and only b, which one in two runs starts with, leads to x.
    counts = counts_of({"s": {"a": 1, "b": 1}, "a": {"a a": 1}, "b": {"x": 1}})
    rows = {row.state: row for row in reach(counts, "x").states}
    assert (rows["a"].probability, rows["a"].error_bound) == (0.0, 0.0)
    assert abs(rows["s"].probability - 0.5) <= rows["s"].error_bound
    # Whoever goes on for ever, with a chance each time, comes there.
    counts = counts_of({"a": {"a a": 8, "a x": 1}})
    assert reach(counts, "x").start.probability == 1.0
    # At exactly critical: y = (1 - (1 - y)^2) / 2 + 0.1 ... with stop: y^2 = 2/10.
    counts = counts_of({"a": {"a a": 5, "x": 1, "": 4}})
    found = reach(counts, "x").start
    assert abs(found.probability - sqrt(0.2)) <= found.error_bound
    assert found.error_bound < 1e-14


@settings(deadline=None, max_examples=150)
@given(counts=tables())
def test_against_plain_iteration(counts):
    table = table_of(counts)
    target = table.names[-1]
    fixed = np.array([name == target for name in table.names])
    z = iterated(table, np.where(fixed, 0.0, 1.0), fixed)
    found = reach(counts, target)
    assert found.error_bound < 1e-9
    for value, row in zip(z, found.states, strict=True):
        assert abs(row.probability - (1 - value)) <= row.error_bound + 2e-8
        assert row.probability >= row.lineage - 1e-12


@settings(deadline=None, max_examples=60)
@given(chain=chains(traps=True))
def test_without_fan_out_it_is_hitting(chain):
    target = chain.names[-1]
    ours, theirs = reach(chain, target), hitting(chain, target)
    for a, b in zip(ours.states, theirs.states, strict=True):
        assert abs(a.probability - b.probability) <= 1e-12
        assert a.probability == a.lineage
    assert abs(ours.start.probability - theirs.start.probability) <= 1e-12


@settings(deadline=None, max_examples=60)
@given(chain=chains())
def test_the_fixed_point_itself_is_hitting(chain):
    """Beside one node that fans out, the rest of the chain has its own answer."""
    from flowstat.analyze.fixed_point import fixed_point
    from flowstat.analyze.offspring import offspring
    from flowstat.analyze.search import backwards

    law = offspring(chain)
    inside = np.arange(len(chain.names)) == len(chain.names) - 1
    known = np.where(backwards(law.mean, inside).inside, np.nan, 0.0)
    known[inside] = 1.0
    found = fixed_point(law, known, single=True)
    theirs = hitting(chain, chain.names[-1])
    for value, off, row in zip(found.values, found.bound, theirs.states, strict=True):
        assert abs(value - row.probability) <= off + row.probability_bound
        assert off < 1e-12


@pytest.mark.parametrize("above", [False, True])
def test_a_million_runs_agree(above):
    fan = 4 if above else 2
    counts = counts_of({"a": {"b b": fan, "c": 1, "": 3}, "b": {"a": 1, "": 1}, "c": {"d": 1, "": 9}})
    found = reach(counts, "d").start
    table = table_of(counts)
    played = play(table, "a", RUNS, seed=5, crowd=150)
    share = played.reached[:, table.names.index("d")].mean()
    p = found.probability
    assert abs(share - p) <= 4 * sqrt(p * (1 - p) / RUNS)


def test_sparse_is_dense(monkeypatch):
    counts = counts_of({"a": {"b b": 2, "c": 1, "": 3}, "b": {"a": 1, "": 1}, "c": {"d": 1, "": 9}})
    first = reach(counts, "d")
    monkeypatch.setattr(shifted, "DENSE", 1)
    for small, narrow in ((shifted.SMALL, 0), (0, shifted.NARROW), (0, -1)):
        monkeypatch.setattr(shifted, "SMALL", small)
        monkeypatch.setattr(shifted, "NARROW", narrow)
        for a, b in zip(first.states, reach(counts, "d").states, strict=True):
            assert abs(a.probability - b.probability) <= a.error_bound + b.error_bound


def test_hostile_input():
    counts = counts_of({"a": {"b b": 1, "": 1}, "b": {"": 1}})
    with pytest.raises(AnalysisError, match="no node is called"):
        reach(counts, "z")
    with pytest.raises(AnalysisError, match="at least one node"):
        reach(counts, [])
    with pytest.raises(AnalysisError, match="a chain has its graph"):
        reach(estimate(counts), "a", estimate(counts).graph or __import__("flowstat").parse_graph("a -> b"))
    assert reach(counts, ["a", "b"]).start.probability == 1.0
    assert reach(Chain.from_matrix([[1.0]]), "0").start.probability == 1.0
    rare = counts_of({f"n{k}": {f"n{k + 1} n{k + 1}": 1, "": 10**12} for k in range(26)})
    found = reach(rare, "n26").start
    # Below all numbers in the end: two messages of each at 1e-12, and no more than that.
    right = 2.0**26 * 1e-12**26
    assert abs(found.probability - right) <= found.error_bound + 1e-6 * right
    assert "nan" not in str(reach(rare, "n26"))
