"""Large classes: swept by compiled code, known as one class, or as a band."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import csgraph, linalg

from flowstat.analyze import banded, connected, doubles, large, solve, sweep_code, sweeps
from flowstat.analyze.solve import Solver
from flowstat.analyze.strong import Classes
from flowstat.estimate.chain import Chain
from tests.benchmarks.made_chains import band, giant
from tests.oracles import chains
from tests.test_bounds import check, dyadic, solution, transient

N = 30_000


@pytest.fixture(scope="module")
def mixing() -> Chain:
    P, stop = giant(N)
    return Chain.from_matrix(P, stop=stop)


def gains(n: int) -> np.ndarray:
    """Ones, the chance of some ends, and numbers of both signs."""
    rng = np.random.default_rng(3)
    return np.stack([np.ones(n), np.arange(n) % 3 == 0, rng.standard_normal(n)], axis=1)


def no_python(*_: object) -> None:
    raise AssertionError("solved without compiled code")


def relative(solved: solve.Solved) -> float:
    return float((solved.bound.max(axis=0) / np.abs(solved.values).max(axis=0)).max())


def test_compiled_and_plain_answers_agree_within_both_bounds(monkeypatch: pytest.MonkeyPatch, mixing: Chain) -> None:
    gain, start = gains(N), np.eye(N, 2)
    with monkeypatch.context() as patch:
        patch.setattr(large, "Way", no_python)
        fast = Solver(mixing.P, mixing.stop)
        swept = [fast.backward(gain), fast.visits(start)[0], fast.backward(gain[:, 1])]
    with monkeypatch.context() as patch:
        patch.setattr(large, "sweeping", lambda: None)
        slow = Solver(mixing.P, mixing.stop)
        plain = [slow.backward(gain), slow.visits(start)[0], slow.backward(gain[:, 1])]
    for a, b in zip(swept, plain, strict=True):
        assert (np.abs(a.values - b.values) <= a.bound + b.bound).all()
        assert relative(a) <= 1e-12
    assert swept[2].values == pytest.approx(swept[0].values[:, 1], rel=1e-12)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_whatever_is_asked_first_is_certified(mixing: Chain, column: int) -> None:
    """What proves the bounds is one of the right sides, or comes beside them, and serves later ones."""
    solver = Solver(mixing.P, mixing.stop)
    first = solver.backward(gains(N)[:, column])
    again = solver.backward(gains(N))
    assert relative(first) <= 1e-12
    assert relative(again) <= 1e-12
    assert (np.abs(first.values - again.values[:, column]) <= first.bound + again.bound[:, column]).all()


def test_columns_are_solved_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch, mixing: Chain) -> None:
    whole = Solver(mixing.P, mixing.stop).backward(gains(N))
    monkeypatch.setattr(large, "TOGETHER", 2)
    parts = Solver(mixing.P, mixing.stop).backward(gains(N))
    assert (np.abs(parts.values - whole.values) <= parts.bound + whole.bound).all()
    assert relative(parts) <= 1e-12


def test_the_number_of_cores_changes_no_answer(monkeypatch: pytest.MonkeyPatch, mixing: Chain) -> None:
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(sweeps, "_cores", lambda cores=cores: cores)
        solved = Solver(mixing.P, mixing.stop).backward(gains(N))
        found.append((solved.values.tobytes(), solved.bound.tobytes()))
    assert len(set(found)) == 1


def test_weights_are_found_where_the_balance_is_uneven(monkeypatch: pytest.MonkeyPatch, mixing: Chain) -> None:
    """With them or without, the answer is the same."""
    even = Solver(mixing.P, mixing.stop).backward(np.ones(N))
    monkeypatch.setattr(sweeps, "UNEVEN", 0.0)
    weighed = Solver(mixing.P, mixing.stop).backward(np.ones(N))
    assert relative(weighed) <= 1e-12
    assert (np.abs(weighed.values - even.values) <= weighed.bound + even.bound).all()


def test_a_class_that_is_seldom_left_is_swept(monkeypatch: pytest.MonkeyPatch, mixing: Chain) -> None:
    """A doubly stochastic class that each state leaves with e: 1/e events from everywhere, and as many visits."""
    monkeypatch.setattr(large, "Way", no_python)
    rng = np.random.default_rng(0)
    columns = np.concatenate([rng.permutation(N) for _ in range(3)] + [np.roll(np.arange(N), -1)])
    P = sparse.csr_array((np.full(4 * N, 0.25 * (1 - 2.0**-20)), (np.tile(np.arange(N), 4), columns)), shape=(N, N))
    P.sum_duplicates()
    solver = Solver(P, np.full(N, 2.0**-20))
    found = solver.backward(np.ones(N))
    assert (np.abs(found.values - 2.0**20) <= found.bound).all()
    assert relative(found) <= 1e-12
    visited = solver.visits(np.full(N, 1 / N))[0]
    assert (np.abs(visited.values - 2.0**20 / N) <= visited.bound + 1e-15 * visited.values).all()


def test_classes_within_a_chain_hand_on_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two large classes in a row, some states before them, in any order; as scipy's sparse LU."""
    monkeypatch.setattr(sweeps, "LARGE", 1000)
    monkeypatch.setattr(large, "Way", no_python)
    n = 2000
    P, stop = giant(n)
    ways = np.flatnonzero(stop > 0)
    across = sparse.csr_array((stop[ways] / 2, (ways, ways)), shape=(n, n))
    first = sparse.csr_array([[0.5, 0.25], [0.0, 0.0]])
    whole = sparse.block_array([[first, None, None], [None, P, across], [None, None, P]], format="csr")
    whole = sparse.csr_array(whole + sparse.csr_array(([1.0], ([1], [2])), shape=whole.shape))
    ends = np.concatenate([[0.25, 0.0], stop - across.sum(axis=1), stop])
    order = np.random.default_rng(1).permutation(len(ends))
    chain, gain, start = sparse.csr_array(whole[order][:, order]), gains(len(ends)), (order == 0).astype(float)
    solver = Solver(chain, ends[order])
    lu = linalg.splu(sparse.csc_array(sparse.eye_array(len(ends)) - chain))
    for found, other in (
        (solver.backward(gain), lu.solve(gain)),
        (solver.visits(start)[0], lu.solve(start, trans="T")),
    ):
        assert (np.abs(found.values - other) <= found.bound + 1e-10 * np.abs(other).max(axis=0)).all()
        assert relative(found) <= 1e-11


@pytest.mark.parametrize("seed", range(3))
def test_swept_answers_hold_their_bounds(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Of small classes with tiny chances, against fractions: an answer is right to its bound, or there is none."""
    rng = np.random.default_rng(100 + seed)
    solved = 0
    for _ in range(60):
        chain = dyadic(rng)
        keep, matrix = transient(chain)
        members = next((m for m in Classes(chain.P).members() if set(m) <= set(keep) and len(m) > 1), None)
        if members is None:
            continue
        place = [keep.index(i) for i in members]
        block = [[matrix[i][j] for j in place] for i in place]
        right = rng.choice([0.0, 1.0, 0.1, -3.0], (len(members), 2))
        unit = 1.01 * 12 * 2.0**-53
        for transposed in (False, True):
            made = sweeps.system(chain.P, chain.stop, members)
            found = sweeps.Sweeps(made.transposed() if transposed else made, unit).solve(right, np.zeros_like(right))
            if found is None:
                continue
            solved += 1
            system = [list(row) for row in zip(*block, strict=True)] if transposed else block
            for k in range(2):
                check(found[0][:, k], found[1][:, k], solution(system, right[:, k]))
    assert solved > 20


def test_a_slow_class_is_left_to_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring of two ways, gone round evenly, and left at one state: `k (n - k)` steps to there, n + 1 from there."""
    monkeypatch.setattr(banded, "NARROW", -1)
    n = 25_000
    at = np.arange(n)
    P = sparse.csr_array((np.full(2 * n, 0.5), (np.tile(at, 2), np.concatenate([(at + 1) % n, (at - 1) % n]))))
    P.data[P.indptr[0] : P.indptr[1]] = 0.25
    stop = np.zeros(n)
    stop[0] = 0.5
    found = Solver(P, stop).backward(np.ones(n))
    exact = at * (n - at) + n + 1.0
    assert (np.abs(found.values - exact) <= found.bound + 1e-15 * exact).all()


@settings(max_examples=100)
@given(chains(largest=6, traps=True))
def test_one_class_is_told_from_several(chain: Chain) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connected, "LARGE", 0)
        told = connected.is_one_class(chain.P)
        patch.setattr(connected, "TURNS", 0)
        assert not connected.is_one_class(chain.P) or len(chain.names) == 1
    number, _ = csgraph.connected_components(chain.P, connection="strong")
    # One state without arrows is left to the search, which finds it soon.
    assert told == (number == 1 and bool((np.diff(chain.P.indptr) > 0).all()))


@pytest.mark.parametrize("n", [120_000])
def test_large_chains_of_one_class_are_seen_as_such(n: int) -> None:
    """Rings need one turn, whichever way they go; one arrow less, and it is no class."""
    at = np.arange(n)
    for step in (1, -1):
        P = sparse.csr_array((np.full(n, 0.5), (at, (at + step) % n)), shape=(n, n))
        assert connected.is_one_class(P)
        assert Classes(P).offsets.tolist() == [0, n]
        P.indices[n // 2] = n // 2
        assert not connected.is_one_class(P)
        assert len(Classes(P).offsets) == n + 1


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 1000))
def test_a_band_is_never_taken_for_wide(n: int, b: int, seed: int) -> None:
    """In whatever order its states are, and within a larger chain."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    rows, columns = (order[np.clip(np.repeat(np.arange(n), b) + shift, 0, n - 1)] for shift in (0, rng.integers(-b, b)))
    P = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n + 3, n + 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banded, "NARROW", b)
        assert not banded.spreads(P, np.arange(n))
        patch.setattr(banded, "PIECE", 3)
        far = np.abs(rows - columns).max()
        assert banded.bandwidth(sparse.csr_array(P[:n][:, :n])) == far


def test_a_class_that_mixes_is_wide(mixing: Chain) -> None:
    assert banded.spreads(mixing.P, np.arange(N))
    P, _ = band(2000)
    assert not banded.spreads(P, np.arange(2000))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_band_with_arrows_out_of_each_state_is_right_to_its_bound(
    monkeypatch: pytest.MonkeyPatch, transposed: bool
) -> None:
    """What leaves a state is the sum of several arrows, which no float holds: it is added up as pairs."""
    monkeypatch.setattr(solve, "DENSE", 1)
    rng = np.random.default_rng(2)
    n = 12
    P = np.zeros((n + 3, n + 3))
    for i in range(n):
        for j in range(max(0, i - 2), min(n, i + 3)):
            P[i, j] = rng.integers(1, 2**10) / 2.0**14
        P[i, n:] = rng.integers(1, 2**40, 3) / 2.0**55
    stop = np.array([float(1 - sum(map(Fraction, row))) for row in P])
    matrix = [[(i == j) - Fraction(P[i, j]) for j in range(n)] for i in range(n)]
    solver = Solver(sparse.csr_array(P), stop)
    if transposed:
        start = np.append(np.eye(n)[3], np.zeros(3))
        found = solver.visits(start)[0]
        exact = solution([list(row) for row in zip(*matrix, strict=True)], start[:n])
    else:
        gain = np.append(rng.integers(-4, 5, n), np.zeros(3))
        found = solver.backward(gain)
        exact = solution(matrix, gain[:n])
    check(found.values[:n], found.bound[:n], exact)
    assert (found.bound[:n] <= 1e-14 * np.abs(found.values[:n]).max()).all()


def test_pairs_of_floats_are_multiplied_with_one_rounding() -> None:
    """By few operations, where the processor has them: as right as by Dekker's."""
    import numba

    _, times, _ = doubles.arithmetic()
    product = numba.njit(lambda a, b, c, d: times(a, b, c, d))
    rng = np.random.default_rng(0)
    for _ in range(300):
        a, c = (float(x) for x in rng.standard_normal(2) * 10.0 ** rng.integers(-50, 50, 2))
        b, d = a * 2.0**-54 * rng.random(), c * 2.0**-54 * rng.random()
        high, low = product(a, b, c, d)
        exact = (Fraction(a) + Fraction(b)) * (Fraction(c) + Fraction(d))
        assert abs(Fraction(high) + Fraction(low) - exact) <= abs(exact) * Fraction(2) ** -102


def test_without_numba_there_is_no_compiled_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError

    monkeypatch.setattr(doubles, "arithmetic", missing)
    assert sweep_code.sweeping.__wrapped__() is None
    assert banded._kernels.__wrapped__() is None
