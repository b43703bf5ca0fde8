from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse

from flowstat.errors import ChainError
from flowstat.estimate.chain import END, Chain, estimate, start_law
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from flowstat.read.graph import Arrow, Graph
from flowstat.read.patterns import format_pattern, parse_pattern
from tests.strategies import graphs, names

few = st.sampled_from(["a", "b", "c d", "e*2"])
sent = st.lists(few, max_size=4).map(format_pattern)
tables = st.dictionaries(st.tuples(few, sent), st.integers(1, 10**6), max_size=8)
counted = st.builds(Counts, tables, st.dictionaries(few, st.integers(1, 9), max_size=3))
priors = st.sampled_from([0.0, 1e-320, 1e-9, 0.5, 1.0, 7.25, 1e9])


def by_name(chain: Chain) -> dict[tuple[str, str], float]:
    return {(chain.names[i], chain.names[j]): p for i, j, p in zip(*chain.arrows(), strict=True)}


def refusal(*args: Any, **more: Any) -> str:
    with pytest.raises(ChainError) as caught:
        Chain.from_matrix(*args, **more)
    return str(caught.value)


def posterior(counts: Counts, graph: Graph, prior: Fraction, node: str) -> dict[str, Fraction]:
    """Return the law of the next node ("" is the stop) in exact fractions, straight from its definition."""
    law: dict[str, Fraction] = {}
    n = sum(k for (name, _), k in counts.table.items() if name == node)
    if node in graph.nodes:
        weight = prior if n else Fraction(1)
    else:
        weight = Fraction(0)
        if not n:
            return {"": Fraction(1)}
    if weight:
        arrows = [arrow for arrow in graph.arrows if arrow.source == node]
        given = sum((Fraction(arrow.share) for arrow in arrows if arrow.share is not None), Fraction(0))
        silent = sum(arrow.share is None for arrow in arrows)
        for arrow in arrows:
            share = (1 - given) / silent if arrow.share is None else Fraction(arrow.share)
            law[arrow.target] = law.get(arrow.target, Fraction(0)) + weight * share
        if not silent:
            law[""] = weight * (1 - given)
    for (name, pattern), k in counts.table.items():
        if name == node:
            targets = parse_pattern(pattern) or (("", 1),)
            size = sum(times for _, times in targets)
            for target, times in targets:
                law[target] = law.get(target, Fraction(0)) + Fraction(k * times, size)
    return {target: share / (n + weight) for target, share in law.items()}


@given(counted, graphs(few), priors)
def test_the_estimate_is_the_posterior_mean_in_closed_form(counts: Counts, graph: Graph, prior: float) -> None:
    assume(graph.nodes or counts.nodes)
    chain = estimate(counts, graph, prior)
    assert chain.names[: len(graph.nodes)] == graph.nodes
    assert set(chain.names) == {*graph.nodes, *counts.nodes}
    arrows = by_name(chain)
    for k, node in enumerate(chain.names):
        law = posterior(counts, graph, Fraction(prior), node)
        assert chain.stop[k] == pytest.approx(float(law.pop("", 0)), rel=1e-9, abs=1e-15)
        got = {target: p for (source, target), p in arrows.items() if source == node}
        assert got == pytest.approx({t: float(p) for t, p in law.items() if t in got}, rel=1e-9)
        assert all(p < 1e-300 for target, p in law.items() if target not in got)


@given(counted, graphs(), priors)
def test_rows_and_stop_sum_to_one(counts: Counts, graph: Graph, prior: float) -> None:
    assume(graph.nodes or counts.nodes)
    chain = estimate(counts, graph, prior)
    sums = np.asarray(chain.P.sum(axis=1)).ravel() + chain.stop
    assert sums == pytest.approx(np.ones(len(chain.names)), abs=1e-12)
    assert chain.start.sum() == pytest.approx(1, abs=1e-12)
    assert (chain.P.data > 0).all()
    labels, matrix = chain.closed()
    assert (labels[:-1], labels[-1]) == (chain.names, END)
    assert np.asarray(matrix.sum(axis=1)).ravel() == pytest.approx(np.ones(len(labels)), abs=1e-12)
    assert matrix.toarray()[-1].tolist() == [0.0] * len(chain.names) + [1.0]
    assert np.array_equal(matrix.toarray()[:-1, :-1], chain.P.toarray())
    assert np.array_equal(matrix.toarray()[:-1, -1], chain.stop)


@given(counted, graphs(few, components=0), priors, st.lists(names, min_size=4, max_size=4, unique=True))
def test_other_names_give_the_same_chain(counts: Counts, graph: Graph, prior: float, new: list[str]) -> None:
    assume(graph.nodes or counts.nodes)
    called = dict(zip(["a", "b", "c d", "e*2"], new, strict=True))
    table = {}
    for (node, pattern), n in counts.table.items():
        targets = [called[name] for name, times in parse_pattern(pattern) for _ in range(times)]
        table[called[node], format_pattern(targets)] = n
    renamed = Counts(table, {called[node]: n for node, n in counts.starts.items()})
    arrows = [Arrow(called[a.source], a.key, called[a.target], a.share) for a in graph.arrows]
    before = estimate(counts, graph, prior)
    after = estimate(renamed, Graph.of(arrows, [called[node] for node in graph.nodes]), prior)
    assert by_name(after) == pytest.approx({(called[s], called[t]): p for (s, t), p in by_name(before).items()})
    for what in ("stop", "start"):
        was, now = (dict(zip(chain.names, getattr(chain, what), strict=True)) for chain in (before, after))
        assert now == pytest.approx({called[name]: p for name, p in was.items()})


def test_a_worked_example() -> None:
    graph = parse_graph("pay/retry -> pay @0.25; pay/ok -> ship; pay/no -> refuse; ship;")
    counts = Counts({("pay", "pay"): 2, ("pay", "ship refuse*3"): 1, ("pay", ""): 1}, {"pay": 4})
    chain = estimate(counts, graph)
    assert chain.names == ("pay", "ship", "refuse")
    assert chain.P.toarray()[0] == pytest.approx([2.25 / 5, (0.375 + 0.25) / 5, (0.375 + 0.75) / 5])
    assert chain.stop.tolist() == pytest.approx([1 / 5, 1, 1])
    assert chain.start.tolist() == [1, 0, 0]
    assert estimate(counts, graph, 0).P.toarray()[0] == pytest.approx([2 / 4, 0.25 / 4, 0.75 / 4])


def test_a_node_never_visited_keeps_its_prior() -> None:
    graph = parse_graph("a -> b; b -> c @0.9, a @0.05; d -> a; e")
    for prior in (0.0, 1e-320, 1.0, 1e300):
        chain = estimate(Counts({("a", "b"): 3}), graph, prior)
        assert by_name(chain) == pytest.approx({("a", "b"): 1, ("b", "c"): 0.9, ("b", "a"): 0.05, ("d", "a"): 1})
        assert chain.stop.tolist() == [0, 0.05, 1, 0, 1]


def test_transitions_that_were_not_declared_count() -> None:
    counts = Counts({("a", "x"): 3, ("x", "a y"): 1}, {"x": 1})
    chain = estimate(counts, parse_graph("a -> b"))
    assert chain.names == ("a", "b", "x", "y")
    assert by_name(chain) == {("a", "b"): 0.25, ("a", "x"): 0.75, ("x", "a"): 0.5, ("x", "y"): 0.5}
    assert chain.stop.tolist() == [0, 1, 0, 1]
    assert (chain.keys("a", "b"), chain.keys("a", "x")) == (("#",), ())
    assert by_name(estimate(counts)) == {("a", "x"): 1.0, ("x", "a"): 0.5, ("x", "y"): 0.5}


def test_a_small_chance_to_stop_survives() -> None:
    chain = estimate(Counts({("a", "a"): 10**17, ("a", ""): 1}))
    assert chain.stop[0] == 1e-17


@pytest.mark.parametrize("prior", [-1, float("nan"), float("inf")])
def test_a_prior_is_a_weight(prior: float) -> None:
    with pytest.raises(ChainError, match="a prior is a weight of at least 0"):
        estimate(Counts(), parse_graph("a"), prior)


def test_nothing_makes_no_chain() -> None:
    with pytest.raises(ChainError, match="at least one node"):
        estimate(Counts())
    assert refusal(np.zeros((0, 0)))


def test_where_runs_start() -> None:
    graph = parse_graph("a -> c; b -> c -> c;")
    assert estimate(Counts(), graph).start.tolist() == [0.5, 0, 0.5]
    assert estimate(Counts(starts={"c": 3, "z": 1}), graph).start.tolist() == [0, 0.75, 0, 0.25]
    assert estimate(Counts({("a", "b"): 1, ("b", "b"): 1})).start.tolist() == [1, 0]
    assert Chain.from_matrix([[0, 1], [1, 0]]).start.tolist() == [0.5, 0.5]
    assert Chain.from_matrix([[0, 1], [1, 0]], ["a", "b"], "b").start.tolist() == [0, 1]
    chain = Chain.from_matrix([[0, 1], [1, 0]], ["a", "b"], {"a": 0.25, "b": 0.75})
    assert chain.start.tolist() == start_law(chain, None).tolist() == [0.25, 0.75]
    wrong: list[Any] = ["c", {"c": 1.0}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}, {"a": "x"}, {}]
    for start in wrong:
        with pytest.raises(ChainError, match=r"start|no node"):
            start_law(chain, start)


def test_a_closed_state_stays_closed() -> None:
    chain = Chain.from_matrix([[0.5, 0.5], [0, 1]], ["a", "trap"])
    assert (chain.P[1, 1], chain.stop.tolist()) == (1.0, [0, 0])
    labels, matrix = chain.closed()
    assert labels == ("a", "trap", "(end)")
    assert matrix.toarray().tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]


def test_every_kind_of_matrix() -> None:
    rows = [[0.25, 0.75], [1.0, 0.0]]
    doubled = sparse.coo_array(([0.25, 0.5, 0.25, 1.0, 0.0], ([0, 0, 0, 1, 1], [0, 1, 1, 0, 1])), shape=(2, 2))
    for P in (rows, np.array(rows), sparse.csc_array(rows), sparse.csr_matrix(rows), doubled):
        chain = Chain.from_matrix(P)
        assert chain.names == ("0", "1")
        assert chain.P.toarray().tolist() == rows
        assert chain.P.nnz == 3
    given_matrix = sparse.csr_array(np.array(rows))
    Chain.from_matrix(given_matrix)
    assert given_matrix.toarray().tolist() == rows
    assert Chain.from_matrix([[0.5]], stop=[0.5]).stop.tolist() == [0.5]


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array, np.array])
def test_a_matrix_and_its_chain_share_no_memory(kind: Any) -> None:
    P, stop = kind(np.array([[0.0, 1.0], [0.5, 0.0]])), np.array([0.0, 0.5])
    chain = Chain.from_matrix(P, stop=stop)
    (P if kind is np.array else P.data)[:] = 7.0
    stop[:] = 7.0
    assert chain.P.toarray().tolist() == [[0, 1], [0.5, 0]]
    assert chain.stop.tolist() == [0, 0.5]
    # The caller's matrix keeps its duplicates, zeros and order.
    own = sparse.csr_array((np.array([0.5, 0.5, 0.0]), np.array([1, 1, 0]), np.array([0, 3, 3])), shape=(2, 2))
    assert Chain.from_matrix(own, stop=[0, 1]).P.nnz == 1
    assert (own.nnz, own.indices.tolist()) == (3, [1, 1, 0])


def test_a_row_that_does_not_sum_to_one_says_by_how_much() -> None:
    assert (
        refusal([[0.5, 0.5], [0.0, 0.99999]], ["a", "b"])
        == "the row of 'b' sums to 0.99999000000000005, off from 1 by -1e-05"
    )
    assert "off from 1 by 0.25" in refusal([[1.0]], stop=[0.25])
    assert Chain.from_matrix([[1 / 3] * 3] * 3).names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (([[float("nan")]],), "no numbers"),
        (([[float("inf")]],), "infinite"),
        (([[1.5, -0.5], [0, 1]],), "negative"),
        (([[0.5, 0.5]],), "square"),
        (([[0.5], [0.5]],), "square"),
        (([1.0],), "square"),
        (([],), "square"),
        (([[1], [1, 2]],), "not a matrix"),
        (([["a"]],), "not a matrix"),
        ((np.array([[1 + 5j]]),), "complex"),
        ((sparse.csr_array(np.array([[1 + 0j]])),), "complex"),
        (([[1j]],), "complex"),
        (([[1.0]], [5]), "a node's name is a text, not 5"),
        (([[1.0]], [None]), "a node's name is a text, not None"),
        (([[1.0]], 5), "names are a list of texts, not 5"),
        ((None,), "not a matrix"),
        (([[1.0]], ["a", "b"]), "2 names, but P is (1, 1)"),
        ((np.eye(2), ["a", "a"]), "'a' is there twice"),
        ((np.eye(2), ["n" * 10**7, "n" * 10**7]), "is there twice"),
    ],
)
def test_what_is_no_matrix_of_a_chain(args: tuple[Any, ...], said: str) -> None:
    message = refusal(*args)
    assert said in message
    assert len(message) < 300


@pytest.mark.parametrize("stop", [[0.5, 0.5], 0.5, ["x"], [float("nan")], [-0.5], np.array([0.5 + 1j])])
def test_a_stop_that_does_not_fit(stop: Any) -> None:
    assert "stop" in refusal([[0.5]], stop=stop)


def test_the_chain_as_a_networkx_graph() -> None:
    graph = estimate(Counts({("a", "b"): 1, ("a", ""): 1}, {"a": 2})).to_networkx()
    assert dict(graph.nodes(data=True)) == {"a": {"stop": 0.5, "start": 1.0}, "b": {"stop": 1.0, "start": 0.0}}
    assert list(graph.edges(data=True)) == [("a", "b", {"share": 0.5})]


def test_the_name_of_the_end_is_taken():
    with pytest.raises(ChainError, match=r"\(end\)"):
        Chain.from_matrix([[1.0]], ["(end)"])
