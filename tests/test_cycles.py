import json
from collections import Counter
from fractions import Fraction
from math import inf, prod
from random import Random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze import cycle_delay as module
from flowstat.analyze import cycle_search
from flowstat.analyze.absorption import absorption
from flowstat.analyze.cycles import Cycle, Cycles, cycles
from flowstat.analyze.flows import flows
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from tests.oracles import (
    ERASED,
    LETTERS,
    Path,
    chain_of,
    chains,
    erasure,
    exact,
    mean_agrees,
    pit,
    relabelled,
    rotated,
    shop,
    shop_runs,
)

ALL = 10**6


def complete(n: int, seed: int | None = None) -> Chain:
    """A complete digraph without self-loops: even shares, or random ones and an end."""
    if seed is None:
        return Chain.from_matrix((np.ones((n, n)) - np.eye(n)) / (n - 1))
    weights = np.random.default_rng(seed).dirichlet(np.ones(n), n) * 0.9
    np.fill_diagonal(weights, 0)
    return Chain.from_matrix(weights, start="0", stop=1 - weights.sum(axis=1))


def enumerated(chain: Chain, max_length: int | None = None) -> list[tuple[Path, Fraction]]:
    """All elementary cycles, most probable first, equals by length and by names; exact for simple shares."""
    graph = chain.to_networkx()
    found = []
    for cycle in nx.simple_cycles(graph, length_bound=max_length):
        arrows = zip(cycle, cycle[1:] + cycle[:1], strict=True)
        found.append((rotated(cycle), prod(exact(graph[i][j]["share"]) for i, j in arrows)))
    return sorted(found, key=lambda c: (-c[1], len(c[0]), c[0]))


def traversals(found: Cycles) -> dict[Path, float]:
    return {rotated(c.nodes): c.traversals for c in found.cycles}


@pytest.mark.parametrize("p", [Fraction(1, 8), Fraction(1, 2), Fraction(7, 8)])
def test_a_retry_loop(p: Fraction) -> None:
    """It is closed p/(1-p) times in a run."""
    [cycle] = cycles(chain_of({"try": {"try": p, "ok": 1 - p}, "ok": {}})).cycles
    assert (cycle.name, cycle.kind, cycle.probability) == ("try -> try", "self", float(p))
    assert cycle.traversals == pytest.approx(float(p / (1 - p)))


def test_a_nest_of_two_loops() -> None:
    """plan -> work for sure, work -> work 1/4, work -> plan 1/8: work has 8/5 visits, plan 6/5 of which 1/5 by the
    cycle; each visit of work closes its self-loop with 1/4, and plan's cycle closes with 1/8: 2/5 and 1/5."""
    chain = chain_of({"plan": {"work": 1}, "work": {"work": Fraction(1, 4), "plan": Fraction(1, 8)}}, "plan")
    found = cycles(chain)
    assert [(c.name, c.kind, c.probability) for c in found.cycles] == [
        ("work -> work", "self", 0.25),
        ("plan -> work -> plan", "chain", 0.125),
    ]
    assert [c.traversals for c in found.cycles] == pytest.approx([2 / 5, 1 / 5])
    assert found.covered == pytest.approx((2 / 5 + 2 * 1 / 5) / (14 / 5))
    assert (found.more, found.complete) == (False, True)


def test_where_a_cycle_is_closed_depends_on_where_runs_come_in() -> None:
    """x <-> y with 1/2 each way, also to the ends: from x, expected closings are those of x: 1/4 / (1 - 1/4)."""
    chain = chain_of({"x": {"y": 0.5}, "y": {"x": 0.5}}, "x")
    for start in ("x", "y", {"x": 0.25, "y": 0.75}):
        assert traversals(cycles(chain, start=start)) == pytest.approx({("x", "y"): 1 / 3})
    outside = chain_of({"in": {"x": 0.5}, "x": {"y": 0.5}, "y": {"x": 0.5}, "z": {"z": 0.5}}, "in")
    assert traversals(cycles(outside)) == pytest.approx({("x", "y"): 1 / 6, ("z",): 0})
    with pytest.raises(ChainError, match="no node is called"):
        cycles(chain, start="nobody")


def test_cycles_of_traps() -> None:
    chain = chain_of({"a": {"b": 0.5, "c": 0.5}, "b": {"b": 1}, "c": {}, "d": {"d": 1}}, "a")
    found = cycles(chain)
    assert traversals(found) == {("b",): inf, ("d",): 0}
    assert found.covered is None
    assert {c.probability for c in found.cycles} == {1}


def test_exits_that_one_minus_a_sum_would_lose() -> None:
    """The cycle a, b is closed (1 - 4e-13) / 4e-13 times."""
    chain = chain_of({"a": {"b": 1 - 3e-13, END: 3e-13}, "b": {"a": 1 - 1e-13, END: 1e-13}}, "a")
    assert cycles(chain).cycles[0].traversals == pytest.approx(1 / 4e-13, rel=1e-12)
    assert cycles(chain_of({"a": {"a": 1.0, END: 1e-17}})).cycles[0].traversals == pytest.approx(1e17)


def test_keys_along_a_cycle() -> None:
    graph = parse_graph("b/ok -> a; a/x -> b; a/y -> b; b -> c;")
    [cycle] = cycles(estimate(Counts(), graph)).cycles
    assert (cycle.nodes, cycle.keys) == (("b", "a"), ("ok", "x|y"))


@pytest.mark.parametrize(("n", "number"), [(2, 1), (3, 5), (4, 20), (5, 84), (6, 409), (7, 2365)])
def test_complete_graphs_have_as_many_cycles_as_known(n: int, number: int) -> None:
    """OEIS A006231."""
    found = cycles(complete(n), ALL)
    assert (len(found.cycles), found.more, found.complete) == (number, False, True)
    assert len({rotated(c.nodes) for c in found.cycles}) == number


def test_the_best_of_very_many() -> None:
    """20 nodes, all arrows: 3e17 cycles. Of those of up to 4 nodes, a full enumeration knows the best; longer ones
    that are listed too must be better than the last of these."""
    chain = complete(20, 3)
    graph = chain.to_networkx()
    every = []
    for cycle in nx.simple_cycles(graph, length_bound=4):
        shares = [graph[i][j]["share"] for i, j in zip(cycle, cycle[1:] + cycle[:1], strict=True)]
        every.append((prod(shares), rotated(cycle)))
    every.sort(reverse=True)
    short, found = cycles(chain, 20, max_length=4), cycles(chain, 20)
    assert [rotated(c.nodes) for c in short.cycles] == [c for _, c in every[:20]]
    assert [c.probability for c in short.cycles] == pytest.approx([p for p, _ in every[:20]])
    assert (len(found.cycles), found.more, found.complete) == (20, True, True)
    listed = [rotated(c.nodes) for c in found.cycles if len(c.nodes) <= 4]
    assert listed == [c for _, c in every[: len(listed)]]
    assert all(c.probability >= every[len(listed)][0] for c in found.cycles)


def test_a_bound_that_is_hit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_search, "WORK", (0, 0))
    monkeypatch.setattr(module, "BUDGET", 150)
    found = cycles(complete(8), 50)
    assert found.cycles
    assert not found.complete
    assert found.more
    assert "stopped at its bound" in str(found)
    monkeypatch.setattr(module, "BUDGET", 1)
    least = cycles(complete(8), 50)
    assert not least.complete
    assert "within the search's bound" in str(least) or "stopped at its bound" in str(least)


@pytest.mark.parametrize(("top", "max_length"), [(0, None), (-1, None), (5, 0)])
def test_nothing_asked_for(top: int, max_length: int | None) -> None:
    with pytest.raises(AnalysisError, match="at least 1"):
        cycles(shop(), top, max_length=max_length)


@settings(max_examples=300)
@given(chains(traps=True), st.integers(1, 12), st.none() | st.integers(1, 5))
def test_the_best_cycles_are_those_of_the_full_enumeration(chain: Chain, top: int, max_length: int | None) -> None:
    every = enumerated(chain, max_length)
    found = cycles(chain, top, max_length=max_length)
    assert [rotated(c.nodes) for c in found.cycles] == [c for c, _ in every[:top]]
    assert [c.probability for c in found.cycles] == pytest.approx([float(p) for _, p in every[:top]], rel=1e-12)
    assert found.more == (len(every) > top)
    assert found.complete
    for c in found.cycles:
        assert chain.index[c.nodes[0]] == min(chain.index[i] for i in c.nodes)
    json.dumps(found.to_dict(), allow_nan=False)


@settings(max_examples=250)
@given(chains())
def test_traversals_equal_played_out_loop_erasure(chain: Chain) -> None:
    expected = erasure(chain).cycles
    found = traversals(cycles(chain, ALL))
    assert found == pytest.approx({c: expected.get(c, 0.0) for c in found}, rel=1e-9, abs=1e-11)
    assert set(expected) <= set(found)


@settings(max_examples=250)
@given(chains())
def test_cycles_and_flows_balance(chain: Chain) -> None:
    """Every message is in one closed cycle or in the flow that is left: v_i p_ij; and so is every event."""
    all_cycles, all_flows = cycles(chain, ALL), flows(chain, ALL)
    through: Counter[tuple[str, str]] = Counter()
    for c in all_cycles.cycles:
        for arrow in zip(c.nodes, c.nodes[1:] + c.nodes[:1], strict=True):
            through[arrow] += c.traversals
    for f in all_flows.flows:
        for arrow in zip(f.nodes, f.nodes[1:], strict=False):
            through[arrow] += f.probability
    v = {x.node: x.visits for x in visits(chain).nodes}
    for i, j, data in chain.to_networkx().edges(data=True):
        assert through[i, j] == pytest.approx(v[i] * data["share"], rel=1e-10, abs=1e-10)
    events = sum(c.traversals * len(c.nodes) for c in all_cycles.cycles)
    assert all_cycles.covered == pytest.approx(events / absorption(chain).events, rel=1e-10, abs=1e-12)
    events += sum(f.probability * len(f.nodes) for f in all_flows.flows)
    assert events == pytest.approx(absorption(chain).events, rel=1e-10)


@settings(max_examples=200)
@given(chains(traps=True), st.integers(1, 8), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, top: int, random: Random) -> None:
    """Names keep their alphabetical order here: it decides between equals."""
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(sorted(LETTERS), "UVWXYZ", strict=True))
    expected, other = cycles(chain, top), cycles(relabelled(chain, order, names), top)
    assert [rotated(c.nodes) for c in other.cycles] == [
        tuple(names[i] for i in rotated(c.nodes)) for c in expected.cycles
    ]
    for c, same in zip(other.cycles, expected.cycles, strict=True):
        assert (c.probability, c.traversals) == pytest.approx((same.probability, same.traversals), rel=1e-11)
    assert (other.covered is None) == (expected.covered is None)
    assert (other.covered or 0) == pytest.approx(expected.covered or 0, rel=1e-11)
    assert (other.more, other.complete) == (expected.more, expected.complete)


def test_simulated_runs_close_cycles_alike() -> None:
    closed = [counted for _, counted in shop_runs().erased()]
    found = cycles(shop(), ALL)
    assert set().union(*closed) <= set(traversals(found))
    for cycle, expected in traversals(found).items():
        assert mean_agrees([counted[cycle] for counted in closed], expected)
    assert len(closed) == ERASED
    lengths = (shop_runs().steps[:, :ERASED] >= 0).sum(axis=0)
    in_cycles = np.array([sum(len(c) * n for c, n in counted.items()) for counted in closed])
    assert found.covered is not None
    assert mean_agrees(in_cycles - found.covered * lengths, 0)


def test_results_show_themselves() -> None:
    empty = cycles(chain_of({"a": {"b": 1}, "b": {}}))
    assert "There is no cycle" in str(empty)
    for result in (
        cycles(shop()),
        cycles(pit()),
        cycles(shop(), 1),
        empty,
        Cycles((Cycle(("a",), ("",), 1, inf),), None, True, False),
    ):
        assert str(result).startswith("Cycles")
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.cycles)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
