"""Proven bounds hold: the exact answer, in fractions, lies within them."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from flowstat.analyze import banded, factors, relaxing, solve, sweeps
from flowstat.analyze.absorption import absorption
from flowstat.analyze.solve import Solver
from flowstat.analyze.visits import visits
from flowstat.estimate.chain import Chain

CHAINS = 2400


def dyadic(rng):
    """Return a chain whose chances are dyadic fractions, many of them tiny, so that its rows sum to 1 exactly."""
    n = int(rng.integers(1, 7))
    P, stop = np.zeros((n, n)), np.zeros(n)
    for i in range(n):
        ways = rng.permutation(n + 1)[: int(rng.integers(1, min(n + 1, 4) + 1))]
        left = Fraction(1)
        shares = []
        for _ in ways[1:]:
            share = Fraction(int(rng.integers(1, 8)), 2 ** (5 + int(rng.choice([0, 1, 8, 30]))))
            shares.append(share)
            left -= share
        for way, share in zip(ways, [left, *shares], strict=True):
            if way == n:
                stop[i] = float(share)
            else:
                P[i, way] = float(share)
    return Chain.from_matrix(P, start="0", stop=stop)


def solution(A, b):
    """Solve a system in fractions; None if it is singular."""
    n = len(A)
    rows = [[*map(Fraction, row), Fraction(right)] for row, right in zip(A, b, strict=True)]
    for k in range(n):
        pivot = next((r for r in range(k, n) if rows[r][k]), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for r in range(n):
            if r != k and rows[r][k]:
                rows[r] = [x - rows[r][k] * y for x, y in zip(rows[r], rows[k], strict=True)]
    return [row[-1] for row in rows]


def transient(chain):
    """Return the transient states and I - Q among them, in fractions."""
    closed = {int(i) for states in Solver(chain.P, chain.stop).closed for i in states}
    keep = [i for i in range(len(chain.names)) if i not in closed]
    P = [[Fraction(float(value)) for value in row] for row in chain.P.toarray()[np.ix_(keep, keep)]]
    return keep, [[(i == j) - P[i][j] for j in range(len(keep))] for i in range(len(keep))]


def check(values, bound, exact):
    for value, off, right in zip(values, bound, exact, strict=True):
        assert abs(Fraction(float(value)) - right) <= Fraction(float(off)), (value, off, float(right))


def test_a_chain_in_fractions_is_the_one_in_floats():
    rng = np.random.default_rng(0)
    for _ in range(200):
        chain = dyadic(rng)
        for i in range(len(chain.names)):
            row = [*chain.P.toarray()[i], chain.stop[i]]
            assert sum(map(Fraction, map(float, row))) == 1


WAYS = {
    "dense": {},
    "compiled": {(solve, "COMPILED"): 0},
    "band": {(solve, "DENSE"): 1},
    "swept": {(solve, "DENSE"): 1, (banded, "NARROW"): -1, (sweeps, "LARGE"): 0},
    "relaxed": {(solve, "DENSE"): 1, (banded, "NARROW"): -1},
    "sparse LU": {(solve, "DENSE"): 1, (banded, "NARROW"): -1, (relaxing, "MOST"): 0},
    "rough LU": {
        (solve, "DENSE"): 1,
        (banded, "NARROW"): -1,
        (relaxing, "MOST"): 0,
        (factors, "FACTORED"): 0,
        (factors, "FILL"): 0,
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(8))
def test_exact_answers_lie_within_the_bounds(monkeypatch, seed, way):
    for (module, name), value in WAYS[way].items():
        monkeypatch.setattr(module, name, value)
    refused = way in ("swept", "relaxed", "sparse LU", "rough LU")
    rng = np.random.default_rng(seed)
    solved = 0
    for _ in range(CHAINS // 24 if not refused else 40):
        chain = dyadic(rng)
        keep, matrix = transient(chain)
        if not keep:
            continue
        solver = Solver(chain.P, chain.stop)
        gain = rng.choice([0.0, 1.0, 0.1, 1e-9, 3.0], (len(chain.names), 2))
        gain[:, 1] -= 1.0
        start = np.eye(len(chain.names))[0]
        try:
            x, (v, _), gaps = solver.backward(gain), solver.visits(start), solver.return_gaps()
        except solve.AnalysisError:
            assert refused
            continue
        solved += 1
        for k in range(2):
            check(x.values[keep, k], x.bound[keep, k], solution(matrix, gain[keep, k]))
        transposed = [list(row) for row in zip(*matrix, strict=True)]
        exact = solution(transposed, start[keep])
        check(v.values[keep], v.bound[keep], exact)
        units = np.eye(len(keep))
        diagonal = [solution(matrix, units[k])[k] for k in range(len(keep))]
        check(gaps.values[keep], gaps.bound[keep], [1 / value for value in diagonal])
        found = absorption(chain)
        stops = {
            chain.names[i]: visited * Fraction(float(chain.stop[i])) for i, visited in zip(keep, exact, strict=True)
        }
        for outcome in found.outcomes:
            if outcome.kind == "stop":
                check([outcome.probability], [outcome.error_bound], [stops[outcome.outcome]])
        if np.isfinite(found.events):
            check([found.events], [found.events_bound], [sum(exact)])
            mean = solution(matrix, np.ones(len(keep)))
            second = solution(matrix, [2 * m - 1 for m in mean])
            at = keep.index(0)
            variance = second[at] - mean[at] ** 2
            low = max(Fraction(0), Fraction(found.events_sd) - Fraction(found.events_sd_bound))
            assert low**2 <= variance <= (Fraction(found.events_sd) + Fraction(found.events_sd_bound)) ** 2
        for node in visits(chain).nodes:
            i = chain.index[node.node]
            if i in keep:
                k = keep.index(i)
                check([node.visits], [node.visits_bound], [exact[k]])
                variance = exact[k] * (2 * diagonal[k] - 1 - exact[k])
                check([node.variance], [node.variance_bound], [variance])
                check([node.reached], [node.reached_bound], [exact[k] / diagonal[k]])
                check([node.again], [node.again_bound], [1 - 1 / diagonal[k]])
    assert solved > (60 if not refused else 15)


def test_bounds_are_close():
    """They say something: a plain chain is solved to a few units in the last place."""
    rng = np.random.default_rng(1)
    P = sparse.random_array((50, 50), density=0.1, rng=rng).toarray()
    P *= 0.9 / np.maximum(P.sum(axis=1, keepdims=True), 1e-9)
    chain = Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))
    found = absorption(chain)
    assert found.error_bound < 1e-14
    assert found.events_bound < 1e-12
    assert found.events_sd_bound < 1e-11
