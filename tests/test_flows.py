import json
from fractions import Fraction
from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import flow_parts
from flowstat.analyze import flow_search as module
from flowstat.analyze.absorption import absorption
from flowstat.analyze.flows import Flow, Flows, flows
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from tests.oracles import (
    LETTERS,
    Path,
    chain_of,
    chains,
    erasure,
    fundamental,
    pit,
    relabelled,
    shop,
    traps_of,
)
from tests.test_bounds import dyadic, solution, transient

ALL = 10**6
Ended = tuple[Path, frozenset[str] | None]


def ended(chain: Chain, flow: Flow) -> Ended:
    """What a flow is: its nodes and its trap."""
    traps = {o.outcome: frozenset(o.nodes) for o in absorption(chain).outcomes if o.kind == "trap"}
    return flow.nodes, traps[flow.outcome] if flow.kind == "trap" else None


def chances(chain: Chain, found: Flows) -> dict[Ended, float]:
    return {ended(chain, f): f.probability for f in found.flows}


@pytest.mark.parametrize("p", [Fraction(1, 8), Fraction(1, 2), Fraction(7, 8)])
def test_a_retry_loop_leaves_no_trace(p: Fraction) -> None:
    chain = chain_of({"try": {"try": p, "ok": (1 - p) * Fraction(3, 4), "bad": (1 - p) / 4}, "ok": {}, "bad": {}})
    found = flows(chain)
    assert [(f.name, f.outcome, f.kind) for f in found.flows] == [
        ("try -> ok", "ok", "stop"),
        ("try -> bad", "bad", "stop"),
    ]
    assert [f.probability for f in found.flows] == pytest.approx([0.75, 0.25], rel=1e-14)
    assert [row["covered"] for row in found.rows()] == pytest.approx([0.75, 1])
    assert (found.covered, found.complete) == (pytest.approx(1), True)


def test_gamblers_ruin() -> None:
    """On a line only one simple path leads to each end: the flows of a fair game of 4 from 1 are 3/4 and 1/4."""
    chain = chain_of(
        {"0": {}, "1": {"0": 0.5, "2": 0.5}, "2": {"1": 0.5, "3": 0.5}, "3": {"2": 0.5, "4": 0.5}, "4": {}}
    )
    found = flows(chain, start="1")
    assert [f.name for f in found.flows] == ["1 -> 0", "1 -> 2 -> 3 -> 4"]
    assert [f.probability for f in found.flows] == pytest.approx([0.75, 0.25], rel=1e-14)


def test_a_nest_of_two_loops() -> None:
    """plan -> work; work -> work 1/4, plan 1/8, done 1/2, and stops with 1/8: 4 of 5 runs are done."""
    chain = chain_of({"plan": {"work": 1}, "work": {"work": 0.25, "plan": 0.125, "done": 0.5}, "done": {}}, "plan")
    found = flows(chain)
    assert [(f.name, f.probability) for f in found.flows] == [
        ("plan -> work -> done", pytest.approx(0.8)),
        ("plan -> work", pytest.approx(0.2)),
    ]


def test_an_irreducible_loop() -> None:
    """x <-> y, entered at either; x leaves with 1/2, y with 1/3; 3/2 rounds from each. From x: 3/4 stop there,
    else y at last: 1/4. From y: 1/2 of both, times the starts 3/5 and 2/5."""
    chain = chain_of({"x": {"y": Fraction(1, 2)}, "y": {"x": Fraction(2, 3)}}, {"x": 0.6, "y": 0.4})
    expected = {("x",): 0.6 * 3 / 4, ("x", "y"): 0.6 / 4, ("y",): 0.4 / 2, ("y", "x"): 0.4 / 2}
    assert {f.nodes: f.probability for f in flows(chain).flows} == pytest.approx(expected)
    assert [f.nodes for f in flows(chain, 2).flows] == [("x",), ("y",)]
    with pytest.raises(ChainError, match="no node is called"):
        flows(chain, start="nobody")


def test_traps() -> None:
    """Runs that start inside a trap, at whatever node, are one flow without nodes."""
    chain = chain_of({"a": {"p": 0.25, "q": 0.25, "z": 0.5}, "p": {"q": 1}, "q": {"p": 1}, "z": {"z": 1}, "b": {}})
    law = {"a": 0.25, "p": 0.2, "q": 0.2, "b": 0.35}
    found = flows(chain, start=law)
    assert [(f.nodes, f.outcome, f.kind, f.probability) for f in found.flows] == [
        ((), "{p, q}", "trap", 0.4),
        (("b",), "b", "stop", 0.35),
        (("a",), "z", "trap", 0.125),
        (("a",), "{p, q}", "trap", 0.125),
    ]
    assert [f.name for f in found.flows] == ["{p, q}", "b", "a -> z", "a -> {p, q}"]
    assert [f.outcome for f in flows(chain, 1, law).flows] == ["{p, q}"]


def test_a_trap_and_a_node_of_one_name() -> None:
    chain = chain_of(
        {"a": {"b": 0.25, "c": 0.25, "{b, c}": 0.5}, "b": {"c": 1}, "c": {"b": 1}, "{b, c}": {"{b, c}": 1}}, "a"
    )
    assert [(f.outcome, f.probability) for f in flows(chain).flows] == [("{b, c}", 0.5)] * 2


@pytest.mark.parametrize("row", [{}, {"a": 0.5}, {"a": 1}])
def test_a_chain_of_one_state(row: dict[str, float]) -> None:
    [flow] = flows(chain_of({"a": row})).flows
    assert (flow.name, flow.outcome, flow.probability) == ("a", "a", 1)


def test_exits_that_one_minus_a_sum_would_lose() -> None:
    chain = chain_of({"a": {"b": 1 - 3e-13, END: 3e-13}, "b": {"a": 1 - 1e-13, END: 1e-13}}, "a")
    assert [f.probability for f in flows(chain).flows] == pytest.approx([0.75, 0.25], rel=1e-12)
    chain = chain_of({"a": {"a": 1.0, "b": 1e-17, "c": 3e-17, END: 0}, "b": {}, "c": {}})
    assert [(f.name, f.probability) for f in flows(chain).flows] == [
        ("a -> c", pytest.approx(0.75)),
        ("a -> b", pytest.approx(0.25)),
    ]


def test_chances_that_no_number_holds_are_refused() -> None:
    far = {"a": {"b": 1.0}, "b": {"a": 1.0, "c": 1e-200}, "c": {"b": 1.0, "d": 1e-200}, "d": {}}
    with pytest.raises(AnalysisError, match="can't be told from never"):
        flows(chain_of({i: {**row, END: 0 if row else 1} for i, row in far.items()}))


def test_a_bound_that_is_hit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    every = flows(shop(), ALL)
    monkeypatch.setattr(module, "BUDGET", 8)
    found = flows(shop(), ALL)
    assert (every.complete, found.complete) == (True, False)
    assert 0 < len(found.flows) < len(every.flows)
    assert found.flows == every.flows[: len(found.flows)]
    assert "stopped at its bound" in str(found)


@pytest.mark.parametrize("top", [0, -3])
def test_nothing_asked_for(top: int) -> None:
    with pytest.raises(AnalysisError, match="at least 1"):
        flows(shop(), top)


@settings(max_examples=120)
@given(chains(traps=True))
def test_flows_equal_played_out_loop_erasure(chain: Chain) -> None:
    found = flows(chain, ALL)
    expected = {ended: p for ended, p in erasure(chain).flows.items() if p > 1e-15}
    assert chances(chain, found) == pytest.approx(expected, rel=1e-9, abs=1e-11)
    assert len(chances(chain, found)) == len(found.flows)
    assert sum(f.probability for f in found.flows) == pytest.approx(1, abs=1e-10)
    assert found.covered == pytest.approx(1, abs=1e-10)
    assert found.complete
    json.dumps(found.to_dict(), allow_nan=False)


@settings(max_examples=200)
@given(chains(largest=4))
def test_flows_equal_the_determinants(chain: Chain) -> None:
    """pi_f = alpha(f_0) prod p stop(f_last) det N[f, f], over all simple paths."""
    _, N, law = fundamental(chain)
    P, n = chain.P.toarray(), len(chain.names)
    expected = {}
    for length in range(1, n + 1):
        for path in permutations(range(n), length):
            p = law[path[0]] * P[path[:-1], path[1:]].prod() * chain.stop[path[-1]]
            if p > 0:
                names = tuple(chain.names[i] for i in path)
                expected[names] = p * np.linalg.det(N[np.ix_(path, path)])
    assert {f.nodes: f.probability for f in flows(chain, ALL).flows} == pytest.approx(expected, rel=1e-10, abs=1e-12)


@settings(max_examples=120)
@given(chains(traps=True), st.integers(1, 8))
def test_the_first_flows_are_the_most_probable_ones(chain: Chain, top: int) -> None:
    every = {ended: p for ended, p in erasure(chain).flows.items() if p > 1e-15}
    found = flows(chain, top)
    best = sorted(every.values(), reverse=True)[:top]
    assert [f.probability for f in found.flows] == pytest.approx(best, rel=1e-9)
    assert chances(chain, found) == pytest.approx({x: every[x] for x in chances(chain, found)}, rel=1e-9)
    assert found.covered == pytest.approx(sum(best), rel=1e-9)
    ranked = [(round(-f.probability, 10), f.nodes) for f in found.flows]
    assert ranked == sorted(ranked)


@settings(max_examples=200)
@given(chains(), st.integers(1, 8), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, top: int, random: Random) -> None:
    """Names keep their alphabetical order here: it decides between equals."""
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(sorted(LETTERS), "UVWXYZ", strict=True))
    expected, other = flows(chain, top), flows(relabelled(chain, order, names), top)
    assert [f.nodes for f in other.flows] == [tuple(names[i] for i in f.nodes) for f in expected.flows]
    assert [f.outcome for f in other.flows] == [names[f.outcome] for f in expected.flows]
    assert [f.probability for f in other.flows] == pytest.approx([f.probability for f in expected.flows], rel=1e-11)


@settings(max_examples=200)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing_about_traps(chain: Chain, random: Random) -> None:
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(LETTERS, "UVWXYZ", strict=True))
    other = relabelled(chain, order, names)
    expected = {
        (tuple(names[i] for i in nodes), trap and frozenset(names[i] for i in trap)): p
        for (nodes, trap), p in chances(chain, flows(chain, ALL)).items()
    }
    assert chances(other, flows(other, ALL)) == pytest.approx(expected, rel=1e-11)


def gains(chain: Chain, path: tuple[str, ...], mean: np.ndarray) -> tuple[float, float]:
    """Return expected loops along a path, and what crossing arrows of these means adds up to, given that flow.

    By a complex step: the flow's probability in a chain whose shares are weighted is their generating function.
    """
    h = 1e-30
    f = [chain.index[name] for name in path]
    P = chain.P.toarray()
    keep = [i for i, name in enumerate(chain.names) if not any(name in trap for trap in traps_of(chain))]
    Q = (P * (1 + 1j * h * mean))[np.ix_(keep, keep)]
    at = [keep.index(i) for i in f]
    N = np.linalg.inv(np.eye(len(keep)) - Q)
    p = np.linalg.det(N[np.ix_(at, at)]) * Q[at[:-1], at[1:]].prod()
    rounds = 0.0
    for k in range(len(at)):
        free = [i for i in range(len(keep)) if i not in at[:k]]
        inner = np.linalg.inv(np.eye(len(free)) - Q[np.ix_(free, free)].real)
        rounds += inner[free.index(at[k]), free.index(at[k])] - 1
    return rounds, p.imag / p.real / h


@settings(max_examples=100)
@given(chains(traps=True), st.integers(0, 100))
def test_rounds_events_and_times_of_flows(chain: Chain, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = len(chain.names)
    mean = rng.choice([0.0, 0.5, 3.0], (n, n))
    stated = {(a, b): (mean[i, j], 0.0) for i, a in enumerate(chain.names) for j, b in enumerate(chain.names)}
    for f in flows(chain, 20, latencies=stated).flows:
        if f.nodes:
            rounds, events = gains(chain, f.nodes, np.ones((n, n)))
            assert f.rounds == pytest.approx(rounds, rel=1e-9, abs=1e-11)
            assert f.events == pytest.approx(1 + events, rel=1e-9)
            if f.kind == "stop":
                assert f.time == pytest.approx(gains(chain, f.nodes, mean)[1], rel=1e-9, abs=1e-12)


@settings(max_examples=60)
@given(chains())
def test_events_of_all_flows_are_those_of_runs(chain: Chain) -> None:
    found = flows(chain, ALL)
    assert sum(f.probability * f.events for f in found.flows) == pytest.approx(absorption(chain).events, rel=1e-10)


def test_rounds_events_and_time_in_rationals() -> None:
    """try repeats with 1/4, 2 s each, else goes on to ok in 1 s: 1/3 rounds, 7/3 events, 5/3 s."""
    chain = chain_of({"try": {"try": Fraction(1, 4), "ok": Fraction(3, 4)}, "ok": {}})
    [flow] = flows(chain, latencies={("try", "try"): (2, 0), ("try", "ok"): (1, 0)}).flows
    assert (flow.rounds, flow.events, flow.time) == pytest.approx((1 / 3, 7 / 3, 5 / 3), rel=1e-14)
    assert "time" in str(flows(chain, latencies={("try", "try"): (2, 0), ("try", "ok"): (1, 0)}))
    assert "time" not in flows(chain).printed()
    with pytest.raises(AnalysisError, match="no latency is known"):
        flows(chain, latencies={("try", "try"): (2, 0)})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("large", [False, True])
def test_exact_probabilities_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, seed: int, large: bool) -> None:
    if large:
        monkeypatch.setattr(flow_parts, "DENSE", 1)
    rng = np.random.default_rng(seed)
    seen = 0
    for _ in range(40):
        chain = dyadic(rng)
        keep, _ = transient(chain)
        P = [[Fraction(float(p)) for p in row] for row in chain.P.toarray()]
        try:
            found = flows(chain, 30)
        except AnalysisError:
            assert large
            continue
        for f in found.flows:
            path = [chain.index[name] for name in f.nodes]
            if f.kind == "trap" or not path:
                continue
            seen += 1
            p, rounds = Fraction(float(chain.start[path[0]])), Fraction(0)
            for k, i in enumerate(path):
                free = [j for j in keep if j not in path[:k]]
                matrix = [[(a == b) - P[a][b] for b in free] for a in free]
                G = solution(matrix, [int(a == i) for a in free])[free.index(i)]
                p *= G * (P[i][path[k + 1]] if k + 1 < len(path) else Fraction(float(chain.stop[i])))
                rounds += G - 1
            assert abs(Fraction(f.probability) - p) <= Fraction(f.error_bound)
            assert abs(Fraction(f.rounds) - rounds) <= Fraction(f.rounds_bound)
    assert seen > 30


@settings(max_examples=60)
@given(chains(traps=True), st.integers(1, 10))
def test_large_classes_give_the_same(chain: Chain, top: int) -> None:
    expected = flows(chain, top)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_parts, "DENSE", 1)
        patch.setattr(module, "DENSE", 1)
        found = flows(chain, top)
    assert [f.nodes for f in found.flows] == [f.nodes for f in expected.flows]
    for f, e in zip(found.flows, expected.flows, strict=True):
        assert abs(f.probability - e.probability) <= f.error_bound + e.error_bound
        assert abs(f.events - e.events) <= f.events_bound + e.events_bound


def test_a_class_of_many_nodes() -> None:
    """A line of 2,000 nodes, on with 1/2, back with 1/4: only one flow ends at each node."""
    n = 2000
    rows = np.arange(n)
    P = sparse.csr_array(
        (
            np.r_[np.full(n - 1, 0.5), np.full(n - 1, 0.25)],
            (np.r_[rows[:-1], rows[1:]], np.r_[rows[1:], rows[:-1]]),
        ),
        shape=(n, n),
    )
    chain = Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))
    found = flows(chain, 12)
    ends = {o.outcome: o.probability for o in absorption(chain).outcomes}
    assert [len(f.nodes) for f in found.flows] == list(range(1, 13))
    for f in found.flows:
        assert f.probability == pytest.approx(ends[f.outcome], rel=1e-9)


def test_flows_that_are_less_probable_than_any_number() -> None:
    """a -> b -> c has 1e-400: it is listed after the others; so it is in a class, where the way back is as faint."""
    straight = Chain.from_matrix([[0, 1e-200, 0], [0, 0, 1e-200], [0, 0, 0]], ["a", "b", "c"], "a", stop=[1, 1, 1])
    back = Chain.from_matrix(
        [[0, 1e-200, 1e-250], [1e-200, 0, 1e-200], [1e-200, 0, 0]], ["a", "b", "c"], "a", stop=[1, 1, 1]
    )
    found = flows(straight)
    assert [(f.name, f.probability) for f in found.flows] == [("a", 1.0), ("a -> b", 1e-200), ("a -> b -> c", 0.0)]
    assert all(0 < f.error_bound < 1e-14 for f in found.flows)
    assert [f.name for f in flows(back).flows] == ["a", "a -> b", "a -> c", "a -> b -> c"]
    # The only way out of the class is 1e-400 away, and c leads back to nothing but a.
    hidden = Chain.from_matrix(
        [[0.5, 1e-200, 0.5], [0, 0, 1e-200], [1, 0, 0]], ["a", "b", "c"], "a", stop=[1e-17, 1, 1e-17]
    )
    assert [f.name for f in flows(hidden).flows] == ["a", "a -> c", "a -> b", "a -> b -> c"]
    assert flows(hidden).complete


@pytest.mark.parametrize("top", [0, -1, 2.5, True, "3", None, float("nan"), float("inf")])
def test_how_many_is_a_whole_number(top: object) -> None:
    with pytest.raises(AnalysisError, match="whole number of at least 1"):
        flows(shop(), top)  # type: ignore[arg-type]


def test_bounds_of_single_flows_are_those_of_near_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of 300 nodes, searched with all ways of bounding."""
    rng = np.random.default_rng(3)
    P = sparse.random_array((300, 300), density=0.012, rng=rng).toarray() + np.roll(np.eye(300), 1, axis=1) * 0.2
    P *= 0.95 / P.sum(axis=1, keepdims=True)
    chain = Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))
    expected = flows(chain, 20)
    monkeypatch.setattr(flow_parts, "DENSE", 1)
    monkeypatch.setattr(module, "DENSE", 1)
    found = [flows(chain, 20)]
    monkeypatch.setattr(module, "BOUNDED", 0)
    monkeypatch.setattr(module, "kernels", lambda: None)
    found.append(flows(chain, 20))
    for each in found:
        assert each.complete
        assert [f.nodes for f in each.flows] == [f.nodes for f in expected.flows]
        assert [f.probability for f in each.flows] == pytest.approx([f.probability for f in expected.flows], rel=1e-9)


def test_results_show_themselves() -> None:
    for result in (flows(shop()), flows(pit()), flows(shop(), 1), Flows((), 0.0, False)):
        assert str(result).startswith("Flows")
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.flows)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
