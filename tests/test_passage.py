"""First passage times, Kemeny's constant and time reversal, against closed forms, fractions and simulation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import passage, solve
from flowstat.analyze.all_pairs import all_passages
from flowstat.analyze.passage import first_passage, kemeny
from flowstat.analyze.restart import restart
from flowstat.analyze.reversal import reversal
from flowstat.analyze.reversible import reversible
from flowstat.analyze.stationary import stationary
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import agrees, chains, pit, relabelled, shop
from tests.test_bounds import check, dyadic, solution
from tests.test_stationary import law_in_fractions


def irreducible(seed: int, n: int, ways: int = 3) -> Chain:
    """A ring with arrows across it, of chances that are all over the place."""
    rng = np.random.default_rng(seed)
    A = np.roll(np.eye(n), 1, axis=1)
    for i in range(n):
        A[i, rng.integers(0, n, ways)] += 10.0 ** rng.uniform(-4, 0, ways)
    return Chain.from_matrix(A / A.sum(axis=1, keepdims=True))


def by_definition(P: np.ndarray) -> np.ndarray:
    n = len(P)
    M = np.zeros((n, n))
    for j in range(n):
        others = np.delete(np.arange(n), j)
        M[others, j] = np.linalg.solve(np.eye(n - 1) - P[np.ix_(others, others)], np.ones(n - 1))
    return M + np.diag(1 + (P * M.T).sum(axis=1))


def kemeny_by_eigenvalues(P: np.ndarray) -> float:
    values = np.linalg.eigvals(P)
    values = np.delete(values, np.argmin(np.abs(values - 1)))
    return float((1 / (1 - values)).sum().real)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_all_pairs(seed: int, n: int) -> None:
    chain = irreducible(seed, n)
    P = chain.P.toarray()
    found = first_passage(chain)
    assert found.steps == pytest.approx(by_definition(P), rel=1e-8)
    assert found.kemeny == pytest.approx(kemeny_by_eigenvalues(P), rel=1e-8, abs=1e-10)
    law = stationary(chain).law
    assert np.diag(found.steps) == pytest.approx(1 / law, rel=1e-12)
    # The same from wherever one starts.
    off = found.steps - np.diag(np.diag(found.steps))
    assert off @ law == pytest.approx(np.full(n, found.kemeny), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("largest", [1500, 1])
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_one_row_one_column_one_entry(largest: int, seed: int, n: int) -> None:
    """Also as in large classes."""
    chain = irreducible(seed, n)
    whole = first_passage(chain)
    with pytest.MonkeyPatch.context() as patch:
        if largest == 1:
            patch.setattr(solve, "DENSE", 1)
            patch.setattr(passage, "MATRIX", 1)
        k = seed % n
        try:
            row, column = first_passage(chain, str(k)), first_passage(chain, target=str(k))
            entry = first_passage(chain, "0", str(k))
            constant = kemeny(chain)
        except AnalysisError:
            assert largest == 1
            return
    for one, part in ((row, whole.steps[k]), (column, whole.steps[:, k]), (entry, whole.steps[0, k])):
        assert one.steps.ravel() == pytest.approx(part, rel=1e-6)
        assert (np.abs(one.steps.ravel() - part) <= one.steps_bound.ravel() + 1e-13 * part).all()
    assert constant.constants[0] == pytest.approx(whole.kemeny, rel=1e-6)
    assert abs(constant.constants[0] - whole.kemeny) <= constant.error_bound + whole.kemeny_bound


def test_closed_forms() -> None:
    """Complete graphs: n - 1 steps; rings: k steps; walks on rings: k (n - k); reflecting walks."""
    n = 7
    found = first_passage(Chain.from_matrix((np.ones((n, n)) - np.eye(n)) / (n - 1)))
    assert found.steps == pytest.approx(np.full((n, n), n - 1.0) + np.eye(n), rel=1e-14)
    assert found.kemeny == pytest.approx((n - 1) ** 2 / n, rel=1e-14)
    ring = first_passage(Chain.from_matrix(np.roll(np.eye(n), 1, axis=1)))
    k = (np.arange(n)[None, :] - np.arange(n)[:, None]) % n
    assert ring.steps.tolist() == np.where(k, k, n).tolist()
    assert ring.kemeny == pytest.approx((n - 1) / 2)
    both = (np.roll(np.eye(n), 1, axis=1) + np.roll(np.eye(n), -1, axis=1)) / 2
    assert first_passage(Chain.from_matrix(both)).steps == pytest.approx(np.where(k, k * (n - k), n), rel=1e-14)


def test_a_reflecting_walk_that_takes_1e19_steps() -> None:
    """Up with 1/8 and down with 7/8 among 20 states and more: from k to k + 1 it takes `sum 8 * 7^j`."""
    n, up = 23, Fraction(1, 8)
    P = np.diag(np.full(n - 1, 1 / 8), 1) + np.diag(np.full(n - 1, 7 / 8), -1)
    P[0, 0] = P[-1, -1] = 0
    P += np.diag(1 - P.sum(axis=1))
    step = Fraction(1) / up
    exact = Fraction(0)
    for _ in range(n - 1):
        exact += step
        step = (1 + Fraction(7, 8) * step) / up
    found = first_passage(Chain.from_matrix(P), "0", str(n - 1))
    assert exact > 10**18
    assert abs(Fraction(found.steps[0, 0]) - exact) <= Fraction(found.error_bound)
    assert found.steps[0, 0] == pytest.approx(float(exact), rel=1e-13)


def test_slow_exchange_is_right_to_each_entry() -> None:
    P = np.array([[0.5, 0.5, 0], [0.5, 0.5, 3e-17], [0, 1e-17, 1]])
    found = first_passage(Chain.from_matrix(P))
    assert found.steps[2, 1] == pytest.approx(1e17, rel=1e-14)
    assert found.steps[1, 2] == pytest.approx(2 / 3e-17, rel=1e-14)
    # 1/(1 - lambda) of the fast pair is next to nothing.
    assert found.kemeny == pytest.approx(1 / 2.5e-17, rel=1e-14)
    assert kemeny(Chain.from_matrix(P)).constants[0] == found.kemeny


@settings(max_examples=60, deadline=None)
@given(chains(largest=5, traps=True), st.permutations(range(5)))
def test_names_and_order_change_nothing(chain: Chain, order: list[int]) -> None:
    again = relabelled(chain, [i for i in order if i < len(chain.names)], {n: n for n in chain.names})
    for name in stationary(chain).nodes:
        one, other = first_passage(chain, name), first_passage(again, name)
        steps = dict(zip(other.targets, other.steps[0], strict=True))
        assert [steps[t] for t in one.targets] == pytest.approx(one.steps[0].tolist(), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_exact_times_lie_within_the_bounds(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    seen = 0
    for _ in range(250):
        chain = dyadic(rng)
        for constant, of in zip(kemeny(chain).rows(), stationary(chain).classes, strict=True):
            assert constant["class"] == of.name
        solver = solve.Solver(chain.P, chain.stop)
        for states in solver.closed:
            P = [[Fraction(float(p)) for p in row] for row in chain.P.toarray()[np.ix_(states, states)]]
            n = len(P)
            exact = [[Fraction(0)] * n for _ in range(n)]
            for j in range(n):
                others = [i for i in range(n) if i != j]
                steps = solution([[(i == k) - P[i][k] for k in others] for i in others], [1] * (n - 1))
                assert steps is not None
                for i, m in zip(others, steps, strict=True):
                    exact[i][j] = m
            constant = sum((p * m for p, m in zip(law_in_fractions(P), exact[0], strict=True)), Fraction(0))
            for j in range(n):
                exact[j][j] = 1 + sum(P[j][i] * exact[i][j] for i in range(n) if i != j)
            found = first_passage(chain, target=chain.names[states[-1]])
            check(found.steps[:, 0], found.steps_bound[:, 0], [row[-1] for row in exact])
            found = all_passages(sparse.csr_array(chain.P[states][:, states]), solver.unit)
            for k in range(n):
                check(found.values[k], found.bound[k], exact[k])
            row = passage._from(sparse.csr_array(chain.P[states][:, states]), 0, solver) if n > 1 else None
            if row is not None:
                check(row.values, row.bound, exact[0])
            name = chain.names[states[0]]
            mine = [r for r in kemeny(chain).rows() if name in r["class"].strip("{}").split(", ")]
            check([mine[0]["kemeny"]], [mine[0]["error_bound"]], [constant])
            seen += 1
    assert seen > 60


def test_bounds_are_close() -> None:
    found = first_passage(irreducible(3, 60))
    assert (found.steps_bound <= 1e-10 * found.steps).all()


def test_a_large_class() -> None:
    n = 600
    chain = irreducible(1, n, 2)
    column = first_passage(chain, target="7")
    row = first_passage(chain, "7")
    law = stationary(chain)
    place = law.nodes.index("7")
    assert column.steps[place, 0] == pytest.approx(1 / law.law[place], rel=1e-9)
    constant = kemeny(chain)
    times_to = np.delete(row.steps[0], place) @ np.delete(law.law, place)
    assert constant.constants[0] == pytest.approx(times_to, rel=1e-8)
    with pytest.raises(AnalysisError, match="too many for all pairs"):
        first_passage(chain)
    column = first_passage(irreducible(1, 2000, 2), target="7")
    assert (column.steps_bound < 1e-9 * column.steps).all()


def test_simulated() -> None:
    rng = np.random.default_rng(11)
    chain = irreducible(8, 6)
    cumulated = np.cumsum(chain.P.toarray(), axis=1)
    runs = 20_000
    now, steps, waiting = np.zeros(runs, int), np.zeros(runs), np.ones(runs, bool)
    while waiting.any():
        at = now[waiting]
        now[waiting] = np.minimum((rng.random(len(at))[:, None] >= cumulated[at]).sum(axis=1), 5)
        steps[waiting] += 1
        waiting &= now != 4
    expected = first_passage(chain, "0", "4").steps[0, 0]
    assert agrees(float(steps.mean()), float(expected), float(steps.std() / np.sqrt(runs)))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AnalysisError, match="every run ends"):
        first_passage(shop())
    with pytest.raises(AnalysisError, match="2 closed classes"):
        first_passage(pit())
    with pytest.raises(AnalysisError, match="two closed classes"):
        first_passage(pit(), "ping", "stuck")
    with pytest.raises(AnalysisError, match="in no closed class"):
        first_passage(pit(), "a")
    with pytest.raises(ChainError, match="no node"):
        first_passage(pit(), target="nobody")
    tiny = np.diag([1.0, 0, 0, 0]) + np.diag([1e-200, 1e-200, 1e-200], 1) + np.diag([1.0, 1, 1], -1)
    with pytest.raises(AnalysisError, match="too long to be numbers"):
        first_passage(Chain.from_matrix(tiny))
    assert kemeny(shop()).rows() == []


def test_one_state_and_restarted_runs() -> None:
    found = first_passage(pit(), "stuck")
    assert found.rows() == [{"source": "stuck", "target": "stuck", "steps": 1.0, "error_bound": found.error_bound}]
    times = first_passage(restart(shop(), "order"), target="order")
    events = 1 / stationary(shop(), "order", restarted=True).law[0]
    assert times.steps[times.sources.index("order"), 0] == pytest.approx(events, rel=1e-13)
    assert "Kemeny" in str(first_passage(restart(shop())))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_reversal(seed: int, n: int) -> None:
    chain = irreducible(seed, n)
    law = stationary(chain).law
    back = reversal(chain)
    assert back.P.toarray() == pytest.approx(law[None, :] * chain.P.toarray().T / law[:, None], rel=1e-11, abs=1e-300)
    assert stationary(back).law == pytest.approx(law, rel=1e-11)
    assert reversal(back).P.toarray() == pytest.approx(chain.P.toarray(), rel=1e-10)
    assert kemeny(back).constants[0] == pytest.approx(kemeny(chain).constants[0], rel=1e-10, abs=1e-13)
    assert back.error_bound < 1e-10


def test_reversal_of_a_walk_is_the_walk() -> None:
    P = np.diag([0.9, 0.5, 1e-9], 1) + np.diag([0.25, 1e-12, 1.0], -1)
    P += np.diag(1 - P.sum(axis=1))
    chain = Chain.from_matrix(P)
    assert reversible(chain).reversible
    assert reversal(chain).P.toarray() == pytest.approx(P, rel=1e-13)
    assert reversal(pit(), "ping").names == ("ping", "pong")
    with pytest.raises(AnalysisError, match="closed classes"):
        reversal(pit())


def test_reversal_without_a_law_is_refused() -> None:
    n = 900
    P = np.diag(np.full(n - 1, 0.125), 1) + np.diag(np.full(n - 1, 0.75), -1)
    P += np.diag(1 - P.sum(axis=1))
    with pytest.raises(AnalysisError, match="too small a part"):
        reversal(Chain.from_matrix(P))
