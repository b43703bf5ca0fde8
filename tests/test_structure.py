"""Periods and their parts, the order of classes, kinds of chains, dead arrows, and detailed balance."""

import json
from fractions import Fraction
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import solve
from flowstat.analyze.classes import classes
from flowstat.analyze.dead import dead_arrows
from flowstat.analyze.reversible import reversible
from flowstat.analyze.search import FAR, backwards, reachable, tree
from flowstat.errors import ChainError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from tests.oracles import chain_of, chains, pit, shop, traps_of


@settings(max_examples=200)
@given(chains(largest=6, traps=True), st.integers(1, 63))
def test_a_search_finds_distances(chain: Chain, mask: int) -> None:
    n = len(chain.names)
    roots = np.array([mask >> k & 1 == 1 for k in range(n)])
    graph = nx.from_scipy_sparse_array(chain.P, create_using=nx.DiGraph)
    for found, network in ((tree(chain.P, roots), graph), (backwards(chain.P, roots), graph.reverse())):
        far = (
            nx.multi_source_dijkstra_path_length(network, set(np.flatnonzero(roots).tolist()), weight=None)
            if roots.any()
            else {}
        )
        assert [far.get(k, FAR) for k in range(n)] == found.depth.tolist()
        for k, parent in enumerate(found.parent.tolist()):
            assert parent == k if found.depth[k] in (0, FAR) else found.depth[parent] == found.depth[k] - 1
    assert (reachable(chain.P, roots) == tree(chain.P, roots).inside).all()


@settings(max_examples=200)
@given(chains(largest=6, traps=True))
def test_the_order_of_classes_and_the_turns_of_periods(chain: Chain) -> None:
    graph, found = chain.to_networkx(), classes(chain)
    place = {name: k for k, c in enumerate(found.classes) for name in c.nodes}
    crossing = {(place[i], place[j]) for i, j in graph.edges if place[i] != place[j]}
    assert crossing == {(k, j) for k, c in enumerate(found.classes) for j in c.leads_to}
    assert all(i < j for i, j in crossing)
    for c in found.classes:
        assert len(c.cyclic) == (c.period if c.period > 1 else 0)
        if c.cyclic:
            assert sorted(n for part in c.cyclic for n in part) == sorted(c.nodes)
            assert c.nodes[0] in c.cyclic[0]
            turn = {name: k for k, part in enumerate(c.cyclic) for name in part}
            assert all((turn[j] - turn[i]) % c.period == 1 for i, j in graph.subgraph(c.nodes).edges)
    traps = traps_of(chain)
    assert found.absorbing == all(len(t) == 1 for t in traps)
    assert found.irreducible == ([set(t) for t in traps] == [set(chain.names)])
    starts = [n for n in chain.names if graph.nodes[n]["start"]]
    reached = set(starts).union(*(nx.descendants(graph, n) for n in starts))
    assert set(found.unreachable) == set(chain.names) - reached
    data = json.loads(json.dumps(found.to_dict()))
    assert (data["absorbing"], data["aperiodic"]) == (found.absorbing, found.aperiodic)


def ring(n: int) -> Chain:
    return Chain.from_matrix(np.roll(np.eye(n), 1, axis=1))


def test_kinds_of_chains_in_words() -> None:
    assert "Irreducible: all nodes are one closed class, with period 5." in str(classes(ring(5)))
    assert not classes(ring(5)).aperiodic
    assert classes(ring(1)).aperiodic
    assert "Absorbing: every run ends." in str(classes(shop()))
    assert "Not absorbing: runs can be trapped for ever among the nodes of a closed class." in str(classes(pit()))
    lone = chain_of({"a": {"a": 0.5, "b": 0.5}, "b": {"b": 1}, "lost": {}}, "a")
    assert "or comes to a node that it never leaves" in str(classes(lone))
    assert "1 node can't be reached." in str(classes(lone))
    pairs = Chain.from_matrix(np.kron(np.eye(3), [[0, 1], [1, 0]]))
    assert "2 closed classes" not in str(classes(pairs))
    assert "3 closed classes, with period 2." in str(classes(pairs))


def test_chances_that_no_number_divides_by_have_classes() -> None:
    found = classes(chain_of({"a": {"a": 1.0, "b": 1e-300, "(end)": 0}, "b": {}}, "a"))
    assert [(c.kind, c.reachable) for c in found.classes] == [("transient", True), ("transient", True)]


@pytest.mark.parametrize("n", [50_000])
def test_many_classes_and_long_ones(n: int) -> None:
    """A ring, pairs, and a line of as many classes: in one search each."""
    i = np.arange(n)
    one = sparse.csr_array((np.ones(n), (i, (i + 1) % n)), shape=(n, n))
    [around] = classes(Chain.from_matrix(one)).classes
    assert (around.period, len(around.cyclic)) == (n, n)
    two = sparse.csr_array((np.ones(n), (i, i ^ 1)), shape=(n, n))
    found = classes(Chain.from_matrix(two))
    assert {(c.period, c.kind, len(c.nodes)) for c in found.classes} == {(2, "closed", 2)}
    assert len(found.classes) == n // 2
    line = sparse.csr_array((np.ones(n - 1), (i[:-1], i[1:])), shape=(n, n))
    found = classes(Chain.from_matrix(line, start="0", stop=(i == n - 1).astype(float)))
    assert [c.nodes for c in found.classes] == [(str(k),) for k in range(n)]
    assert found.classes[5].leads_to == (6,)
    assert not found.unreachable


def test_dead_arrows_of_a_graph_and_traces() -> None:
    graph = parse_graph("a/x -> b; a/y -> b; a -> c @0; b -> d; c -> d; lost -> a; d -> e")
    counts = Counts({("a", "b"): 3, ("b", "d"): 2, ("b", ""): 1, ("d", ""): 2}, starts={"a": 3})
    found = dead_arrows(estimate(counts, graph))
    assert [(d.source, d.key, d.target, d.why) for d in found.arrows] == [
        ("a", ("#",), "c", "no share"),
        ("c", ("#",), "d", "unreachable"),
        ("d", ("#",), "e", "never taken"),
        ("lost", ("#",), "a", "unreachable"),
    ]
    assert [d.share > 0 for d in found.arrows] == [False, True, True, True]
    assert "4 dead arrows: 1 no share, 2 unreachable, 1 never taken." in str(found)
    again = {(d.source, d.target): d.why for d in dead_arrows(estimate(counts, graph, prior=0)).arrows}
    assert again["d", "e"] == "no share"
    assert again["c", "d"] == "unreachable"
    # From the node that is lost all but the end of the line is reached.
    assert {(d.source, d.target): d.why for d in dead_arrows(estimate(counts, graph), "lost").arrows} == {
        ("a", "c"): "no share",
        ("c", "d"): "unreachable",
        ("d", "e"): "never taken",
        ("lost", "a"): "never taken",
    }


def test_dead_arrows_without_traces_and_without_graph() -> None:
    designed = estimate(Counts(), parse_graph("a -> b; b -> a; c -> b; c -> c"))
    assert {(d.source, d.target, d.why) for d in dead_arrows(designed).arrows} == set()
    assert {(d.source, d.target) for d in dead_arrows(designed, "a").arrows} == {("c", "b"), ("c", "c")}
    assert "No arrow is dead." in str(dead_arrows(designed))
    assert {(d.source, d.target, d.why) for d in dead_arrows(pit(), "b").arrows} == set()
    assert len(dead_arrows(pit(), "ping").arrows) == 10
    with pytest.raises(ChainError, match="no node is called"):
        dead_arrows(pit(), "nobody")


@settings(max_examples=200)
@given(chains(traps=True))
def test_balance_equals_kolmogorovs_criterion(chain: Chain) -> None:
    """A class is reversible if every cycle is as likely backwards."""
    graph, found = chain.to_networkx(), reversible(chain)
    assert {frozenset(c.nodes) for c in found.classes} == set(traps_of(chain))
    for c in found.classes:
        inside = graph.subgraph(c.nodes)

        def chance(path: list[str], inside: nx.DiGraph = inside) -> float:
            shares = (inside[i][j]["share"] if inside.has_edge(i, j) else 0.0 for i, j in pairwise(path))
            return float(np.prod(list(shares)))

        cycles = [[*cycle, cycle[0]] for cycle in nx.simple_cycles(inside)]
        assert c.reversible == all(chance(o) == pytest.approx(chance(o[::-1]), rel=1e-9) for o in cycles)
        assert c.reversible == (c.net_flow <= max(1e-14, 2 * c.net_flow_bound))


@pytest.mark.parametrize("dense", [1500, 1])
def test_detailed_balance(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    monkeypatch.setattr(solve, "DENSE", dense)
    up = [0.3, 0.01, 0.6, 1e-9, 0.2]
    P = np.diag(up, 1) + np.diag([0.5, 0.2, 0.1, 0.7, 0.4], -1)
    P += np.diag(1 - P.sum(axis=1))
    found = reversible(Chain.from_matrix(P))
    assert found.reversible
    assert found.classes[0].net_flow <= found.error_bound
    assert "Reversible: a long run looks the same backwards." in str(found)
    # Three in a ring that goes round with 3/4, and back with 1/4: a third of the time at each, and half of it on.
    turn = chain_of({i: {j: Fraction(3, 4), k: Fraction(1, 4)} for i, j, k in ("abc", "bca", "cab")})
    [at] = reversible(turn).classes
    assert not at.reversible
    assert at.net_flow == pytest.approx(1 / 6, rel=1e-14)
    assert (at.source, at.target) in {("a", "b"), ("b", "c"), ("c", "a")}
    assert "Not reversible" in str(reversible(turn))
    assert abs(at.net_flow - 1 / 6) <= at.net_flow_bound + 1e-17


def test_a_rare_turn_is_not_overlooked() -> None:
    """Far from where runs mostly are, a ring turns one way only."""
    tiny = 2.0**-40
    chain = chain_of(
        {"home": {"home": 1 - tiny, "a": tiny}, "a": {"b": 0.5, "home": 0.5}, "b": {"c": 0.5, "a": 0.5}, "c": {"a": 1}}
    )
    [at] = reversible(chain).classes
    assert not at.reversible
    assert 0 < at.net_flow < 2 * tiny
    assert (at.source, at.target) in {("b", "c"), ("c", "a"), ("a", "b")}


def test_results_show_themselves() -> None:
    for result in (dead_arrows(pit(), "ping"), reversible(pit()), reversible(shop()), reversible(ring(3))):
        assert list(result.frame().columns) == list(result.columns)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
    assert reversible(shop()).reversible
    assert "there is no long run" in str(reversible(shop()))
