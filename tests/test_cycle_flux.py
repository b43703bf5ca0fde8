"""Fluxes of cycles and circulations: worked examples, exact answers within the bounds, balance."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from flowstat.analyze import cycle_flux, solve
from flowstat.analyze.circulation import circulation
from flowstat.analyze.cycles import cycles
from flowstat.analyze.flows import flows
from flowstat.analyze.stationary import stationary
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from tests.oracles import chain_of, pit, rotated
from tests.test_bounds import dyadic, solution

WAYS = {
    "whole": {},
    "others out": {(cycle_flux, "WHOLE"): 0},
    "one at a time": {(cycle_flux, "WHOLE"): 0, (cycle_flux, "TOGETHER"): (1, 1)},
    "sparse": {(cycle_flux, "WHOLE"): 0, (cycle_flux, "DENSE"): 0, (cycle_flux, "SLICE"): 1, (solve, "DENSE"): 1},
}


def determinant(A):
    rows, value = [list(map(Fraction, row)) for row in A], Fraction(1)
    for k in range(len(rows)):
        pivot = next((r for r in range(k, len(rows)) if rows[r][k]), None)
        if pivot is None:
            return Fraction(0)
        if pivot != k:
            rows[k], rows[pivot] = rows[pivot], rows[k]
            value = -value
        value *= rows[k][k]
        for r in range(k + 1, len(rows)):
            rows[r] = [x - rows[r][k] / rows[k][k] * y for x, y in zip(rows[r], rows[k], strict=True)]
    return value


def without(chain, some):
    """I - P without some states, in fractions."""
    P = chain.P.toarray()
    keep = [i for i in range(len(P)) if i not in some]
    return keep, [[(i == j) - Fraction(float(P[i, j])) for j in keep] for i in keep]


def product(chain, path):
    value = Fraction(1)
    for i, j in zip(path, (*path[1:], path[0]), strict=True):
        value *= Fraction(float(chain.P[i, j]))
    return value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(4))
def test_exact_fluxes_lie_within_the_bounds(monkeypatch, seed, way):
    for (module, name), value in WAYS[way].items():
        monkeypatch.setattr(module, name, value)
    rng = np.random.default_rng(seed)
    checked = 0
    for _ in range(60):
        chain = dyadic(rng)
        P, names = chain.P.toarray(), chain.names
        found = cycles(chain, 10**6)
        trapped = {i for t in solve.Solver(chain.P, chain.stop).closed for i in t.tolist()}
        live = {i for i in range(len(names)) if i not in trapped}
        whole = determinant(without(chain, trapped)[1])
        for c in found.cycles:
            path = tuple(chain.index[i] for i in c.nodes)
            if c.traversals in (None, np.inf) or path[0] in trapped:
                continue
            rest, matrix = without(chain, trapped | set(path))
            hit = Fraction(int(0 in path))
            if 0 in live and 0 not in path:
                gain = [sum(Fraction(float(P[i, j])) for j in path) for i in rest]
                hit = solution(matrix, gain)[rest.index(0)]
            exact = hit * product(chain, path) * determinant(matrix) / whole
            assert abs(Fraction(c.traversals) - exact) <= Fraction(c.error_bound)
            if way != "sparse":
                assert c.error_bound <= 1e-10 * max(1, exact)
            checked += 1
    assert checked > 60


@pytest.mark.parametrize("way", list(WAYS)[:3])
def test_exact_rates_lie_within_the_bounds(monkeypatch, way):
    for (module, name), value in WAYS[way].items():
        monkeypatch.setattr(module, name, value)
    rng = np.random.default_rng(5)
    for _ in range(60):
        n = int(rng.integers(1, 6))
        weights = rng.integers(0, 3, (n, n)) + np.roll(np.eye(n, dtype=np.int64), 1, axis=1)
        P = np.zeros((n, n))
        for i in range(n):
            # Dyadic shares, one of them tiny.
            some = np.flatnonzero(weights[i])
            for j in some[1:]:
                P[i, j] = 2.0 ** -int(rng.choice([4, 5, 30]))
            P[i, some[0]] = 1 - P[i].sum()
        chain = Chain.from_matrix(P, start="0")
        apart = [determinant(without(chain, {i})[1]) for i in range(n)]
        found = circulation(chain, "0", 10**6)
        for c in found.cycles:
            path = tuple(chain.index[i] for i in c.nodes)
            exact = product(chain, path) * determinant(without(chain, set(path))[1]) / sum(apart)
            assert abs(Fraction(c.rate) - exact) <= Fraction(c.error_bound)
            assert c.error_bound < 1e-11
        assert found.covered == pytest.approx(1, abs=1e-12)
        assert found.imbalance <= min(found.imbalance_bound, 1e-12)


def test_circulation_of_a_triangle_by_hand():
    """a -> b or c by halves, b -> a or c by halves, c -> a: pi = 4/9, 2/9, 3/9, since b's inflow is half of a's and
    c's half of both. a -> b -> c -> a: 1/4 / (9/4), as the determinants without a, b, c are 1, 1/2, 3/4."""
    chain = Chain.from_matrix([[0, 0.5, 0.5], [0.5, 0, 0.5], [1, 0, 0]], ["a", "b", "c"])
    rates = {c.nodes: c.rate for c in circulation(chain).cycles}
    assert rates == pytest.approx({("a", "b"): 1 / 9, ("a", "c"): 2 / 9, ("a", "b", "c"): 1 / 9})
    assert {c.nodes: c.rate for c in cycles(chain).cycles} == pytest.approx(rates)
    laws = {row["node"]: row["law"] for row in stationary(chain).rows()}
    assert laws["a"] == pytest.approx(4 / 9)


def test_long_runs_close_cycles_at_these_rates():
    """Loop-erasure of one run of 200,000 events; its standard error is taken from 100 stretches."""
    rng = np.random.default_rng(8)
    P = rng.dirichlet(np.ones(4), 4)
    chain = Chain.from_matrix(P, start="0")
    cumulated, draws = P.cumsum(axis=1), rng.random(200_000)
    stretches, path, now = [], [0], 0
    for begin in range(0, len(draws), 2000):
        closed: Counter[tuple[str, ...]] = Counter()
        for u in draws[begin : begin + 2000].tolist():
            now = min(int((u >= cumulated[now]).sum()), 3)
            if now in path:
                at = path.index(now)
                closed[rotated([str(i) for i in path[at:]])] += 1
                del path[at + 1 :]
            else:
                path.append(now)
        stretches.append(closed)
    for c in circulation(chain, top=10**6).cycles:
        seen = np.array([s[rotated(c.nodes)] / 2000 for s in stretches])
        assert abs(seen.mean() - c.rate) <= 4 * seen.std() / 10 + 1e-4


def test_fluxes_and_flows_balance_on_500_chains():
    """v_i p_ij is the sum of cycles and flows through the arrow, to 1e-12 of the largest."""
    rng = np.random.default_rng(9)
    for _ in range(500):
        n = int(rng.integers(2, 6))
        P = rng.dirichlet(np.ones(n + 1), n)
        P[rng.random(P.shape) < 0.4] = 0
        P[:, n] += 0.05
        P /= P.sum(axis=1, keepdims=True)
        chain = Chain.from_matrix(P[:, :n], start="0", stop=P[:, n])
        every, left = cycles(chain, 10**6), flows(chain, 10**6)
        v = np.array([x.visits for x in visits(chain).nodes])
        through = np.zeros((n, n))
        for nodes, count, closed in [(c.nodes, c.traversals, True) for c in every.cycles] + [
            (f.nodes, f.probability, False) for f in left.flows
        ]:
            at = [chain.index[i] for i in nodes]
            onward = [*at[1:], at[0]] if closed else at[1:]
            for i, j in zip(at, onward, strict=closed):
                through[i, j] += count
        assert np.abs(through - v[:, None] * chain.P.toarray()).max() <= 1e-12 * max(1.0, v.max())
        events = sum(c.traversals * len(c.nodes) for c in every.cycles)
        assert events + sum(f.probability * len(f.nodes) for f in left.flows) == pytest.approx(v.sum(), rel=1e-12)


def test_a_large_class():
    """1,600 nodes in a ring with a way back from each, as on an endless line."""
    n = 1600
    P = np.roll(np.eye(n), 1, axis=1) * 0.5 + np.roll(np.eye(n), -1, axis=1) * 0.375
    chain = Chain.from_matrix(P, start="0", stop=np.full(n, 0.125))
    found = cycles(chain, 5, through="0", max_length=2)
    assert found.complete
    two = {rotated(c.nodes): c for c in found.cycles if len(c.nodes) == 2}
    assert two["0", "1"].error_bound < 1e-11
    # Ever to the right x, to the left y: x = 1/2 + 3/8 x^2, y = 3/8 + 1/2 y^2; by symmetry y = 3/4 x.
    x = (1 - np.sqrt(1 - 0.75)) / 0.75
    y = 0.75 * x
    # Without 0 and 1 between them: from 0 to the left (3/8) and back with x, from 1 to the right (1/2) and back with y.
    stay_left, stay_right = 0.375 * x, 0.5 * y
    det = 1 / ((1 - stay_left) * (1 - stay_right) - 0.5 * 0.375)
    assert two["0", "1"].traversals == pytest.approx(0.5 * 0.375 * det, rel=1e-10)


def test_what_has_no_circulation():
    with pytest.raises(AnalysisError, match="no class is closed"):
        circulation(chain_of({"a": {"a": 0.5}}))
    with pytest.raises(AnalysisError, match="runs leave"):
        circulation(pit(), "a")
    with pytest.raises(AnalysisError, match="name a node"):
        circulation(pit())
    found = circulation(pit(), "ping")
    assert [(c.nodes, c.rate) for c in found.cycles] == [
        (("pong",), pytest.approx(1 / 3)),
        (("ping", "pong"), pytest.approx(1 / 3)),
    ]
    assert "balance" in str(found)
    assert list(found.frame().columns) == list(found.columns)
