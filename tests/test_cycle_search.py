"""The foremost cycles: held against full enumerations, by every way of searching and every order."""

from itertools import islice
from math import inf

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze import cycle_flux, cycle_search, cycle_ways
from flowstat.analyze.cycle_order import in_order
from flowstat.analyze.cycle_search import lightest
from flowstat.analyze.cycles import Cycle, Cycles, cycles, iter_cycles
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import chain_of, pit, rotated, shop

NAMES = ["cz", "ax", "by", "cx", "az", "bx", "cy", "ay", "bz"]

WAYS = {
    "as it is": {},
    "classes first": {(cycle_search, "LARGE"): 0},
    "no ways back": {(cycle_ways, "FLOYD"): 0},
    "rising ceiling": {(cycle_search, "FLOYD"): 0, (cycle_search, "LARGE"): 0, (cycle_ways, "FLOYD"): 2},
    "few cells": {(cycle_search, "CELLS"): 4},
    "bounded delay": {(cycle_search, "WORK"): (0, 0)},
}


def enumerated(arrows, longest, through):
    """All cycles, lightest first, equals by length and names."""
    graph = nx.DiGraph()
    graph.add_weighted_edges_from(zip(*(a.tolist() for a in arrows), strict=True))
    found = []
    for cycle in nx.simple_cycles(graph, length_bound=longest):
        if through is None or through in cycle:
            at = cycle.index(min(cycle))
            path = tuple(cycle[at:] + cycle[:at])
            weight = sum(graph[i][j]["weight"] for i, j in zip(path, (*path[1:], path[0]), strict=True))
            found.append((round(weight, 7), len(path), rotated([NAMES[i] for i in path]), path))
    return [path for *_, path in sorted(found)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(4))
def test_the_lightest_cycles_of_1_000_graphs_are_those_of_a_full_enumeration(monkeypatch, way, seed):
    for (module, name), value in WAYS[way].items():
        monkeypatch.setattr(module, name, value)
    rng = np.random.default_rng(seed)
    for _ in range(250 if way == "as it is" else 60):
        n = int(rng.integers(1, 8))
        rows, columns = np.nonzero(rng.random((n, n)) < rng.choice([0.3, 0.5, 0.9]))
        weights = rng.choice([0.0, 1.0, 1.0, 2.0, 3.5, 0.1], len(rows))
        longest = int(rng.integers(1, n + 1)) if rng.random() < 0.4 else None
        through = int(rng.integers(n)) if rng.random() < 0.3 else None
        top = int(rng.integers(1, 15))
        every = enumerated((rows, columns, weights), longest, through)
        found = lightest(NAMES[:n], (rows, columns, weights), top, longest, through)
        assert found.paths == every[:top]
        assert (found.complete, found.more) == (True, len(every) > top)


@st.composite
def weighted_graphs(draw):
    n = draw(st.integers(1, 6))
    pairs = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    rows, columns = (np.array([p[k] for p in sorted(pairs)], np.int64) for k in (0, 1))
    weights = draw(st.lists(st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.25, 9.0]), min_size=len(rows), max_size=len(rows)))
    return n, (rows, columns, np.array(weights, np.float64))


@settings(max_examples=1000)
@given(weighted_graphs(), st.integers(1, 9))
def test_drawn_graphs(drawn, top):
    n, arrows = drawn
    every = enumerated(arrows, None, None)
    found = lightest(NAMES[:n], arrows, top)
    assert found.paths == every[:top]
    assert (found.complete, found.more) == (True, len(every) > top)


def test_by_time():
    chain = chain_of({"a": {"a": 0.25, "b": 0.25}, "b": {"a": 0.5}}, "a")
    slow = {("a", "a"): (1.0, 0.0), ("a", "b"): (0.5, 0.0), ("b", "a"): (4.5, 0.0)}
    found = cycles(chain, by="time", latencies=slow)
    # v_a = 1 / (1 - 1/4 - 1/8) = 8/5: a -> a 2/5 times 1 s, a -> b -> a 1/5 times 5 s.
    assert [(c.name, c.time) for c in found.cycles] == [
        ("a -> b -> a", pytest.approx(1.0)),
        ("a -> a", pytest.approx(0.4)),
    ]
    assert "seconds" in str(found)
    assert "time" in found.printed()
    with pytest.raises(AnalysisError, match="latenc"):
        cycles(chain, by="time")


def test_they_come_one_by_one():
    chain = shop()
    every = cycles(chain, 10**6)
    assert tuple(iter_cycles(chain)) == every.cycles
    assert [c.nodes for c in iter_cycles(chain, flux=False)] == [c.nodes for c in every.cycles]
    assert [c.traversals for c in iter_cycles(chain, flux=False, top=2)] == [None, None]
    n = 40
    even = Chain.from_matrix((np.ones((n, n)) - np.eye(n)) / n, start="0", stop=np.full(n, 1 / n))
    first = list(islice(iter_cycles(even), 3))
    assert [len(c.nodes) for c in first] == [2, 2, 2]
    with pytest.raises(AnalysisError, match="not by 'size'"):
        iter_cycles(chain, by="size")
    with pytest.raises(ChainError, match="no node is called"):
        cycles(chain, through="nobody")


def diamonds(number, ratio):
    """Diamonds in a row, then back to the first: 2^number cycles, and one of two nodes that leads into them."""
    table = {"in": {"s0": 1.0}, "s0": {"in": 0.5}}
    for k in range(number):
        share = 0.2 if k == 0 else 0.4
        table[f"s{k}"] = {**table.get(f"s{k}", {}), f"a{k}": share, f"b{k}": share * ratio}
        table[f"a{k}"] = table[f"b{k}"] = {f"s{k + 1}": 0.99}
    table[f"s{number}"] = {"s0": 0.9}
    return chain_of(table, "in")


def test_very_many_paths_that_lead_nowhere():
    """From `in` all ways through the diamonds come back to s0, where they have been."""
    found = cycles(diamonds(200, 0.9), 4)
    assert found.complete
    assert [len(c.nodes) for c in found.cycles] == [2, 401, 401, 401]
    assert found.cycles[0].nodes == ("in", "s0")
    assert found.cycles[1].probability == pytest.approx(0.2 * 0.4**199 * 0.99**200 * 0.9, rel=1e-9)
    assert found.cycles[2].probability == pytest.approx(found.cycles[1].probability * 0.9, rel=1e-9)
    tied = cycles(diamonds(200, 1.0), 4)
    assert (len(tied.cycles), tied.complete, tied.more) == (4, False, True)
    assert cycles(diamonds(200, 0.9), 4, through="in").cycles == found.cycles[:1]


def test_long_rings_and_lone_loops():
    n = 1500
    ring = Chain.from_matrix(np.roll(np.eye(n), 1, axis=1) * 0.5, start="0", stop=np.full(n, 0.5))
    found = cycles(ring)
    assert [len(c.nodes) for c in found.cycles] == [n]
    assert found.cycles[0].probability == 0.0
    assert (found.more, found.complete) == (False, True)
    lone = cycles(chain_of({"a": {"a": 1.0}}))
    assert (lone.cycles[0].traversals, lone.cycles[0].rate) == (inf, 1.0)
    assert "rate" in lone.printed()


def test_tiny_chances():
    chain = chain_of({"a": {"b": 1e-300, "a": 0.5}, "b": {"a": 1e-300}}, "a")
    found = cycles(chain, by="flux")
    assert [c.name for c in found.cycles] == ["a -> a", "a -> b -> a"]
    assert cycles(chain).cycles[1].probability == 0.0


def test_bounds_that_are_hit_are_told(monkeypatch):
    monkeypatch.setattr(cycle_flux, "WHOLE", 0)
    monkeypatch.setattr(cycle_flux, "LONGEST", 1)
    found = cycles(pit())
    assert {c.traversals for c in found.cycles if len(c.nodes) > 1 and c.nodes[0] != "ping"} == {None}
    assert "too long" in str(found)
    assert found.covered is None


def test_no_cycle_that_runs_come_to():
    chain = chain_of({"a": {}, "b": {"b": 0.5}}, "a")
    assert "that a run goes round" in str(cycles(chain, by="flux"))
    assert isinstance(cycles(chain), Cycles)
    assert isinstance(cycles(chain).cycles[0], Cycle)
    assert in_order([], [], 3) == []
