import json
from decimal import Decimal, localcontext
from fractions import Fraction
from math import cos, inf, log, pi, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import eigh_tridiagonal

from flowstat.analyze import eigen, factored_inverse, perron, solve, sought
from flowstat.analyze import roots as roots_of
from flowstat.analyze.eigen import leading
from flowstat.analyze.metastable import metastable
from flowstat.analyze.perron import part_of
from flowstat.analyze.roots import by_root
from flowstat.analyze.solve import Solver
from flowstat.analyze.spectrum import Spectrum, spectrum
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from tests.oracles import chain_of, chains, pit, relabelled, shop, traps_of
from tests.test_bounds import dyadic


def listed(found: Spectrum) -> np.ndarray:
    """All eigenvalues that are there, in an order that rounding does not change."""
    values = np.array(found.values, complex)
    return values[np.lexsort((values.imag.round(7), values.real.round(7)))]


def matched(values: np.ndarray, expected: np.ndarray, tolerance: float = 1e-9) -> bool:
    """Whether each value is one of those expected, and none twice."""
    left = list(expected)
    for value in values:
        if not left:
            return False
        at = int(np.argmin(np.abs(np.array(left) - value)))
        if abs(left.pop(at) - value) > tolerance:
            return False
    return True


def walk(n: int, up: float, down: float) -> Chain:
    """A walk on 0..n-1 that stays where it can't go on."""
    P = np.diag(np.full(n - 1, up), 1) + np.diag(np.full(n - 1, down), -1)
    return Chain.from_matrix(P + np.diag(1 - P.sum(axis=1)))


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_walk_on_a_complete_graph(n: int) -> None:
    found = spectrum(Chain.from_matrix((np.ones((n, n)) - np.eye(n)) / (n - 1)))
    assert listed(found) == pytest.approx(sorted([1.0] + [-1 / (n - 1)] * (n - 1)), abs=1e-14)
    assert found.error_bound < 1e-13
    assert found.classes[0].reversible


@pytest.mark.parametrize("n", [3, 4, 5, 8, 9])
def test_a_walk_round_a_cycle_turns(n: int) -> None:
    """Forward with 3/4, back with 1/4: `cos a + i sin(a) / 2` with a = 2 pi k / n; of even length it has period 2."""
    P = 0.75 * np.roll(np.eye(n), 1, axis=1) + 0.25 * np.roll(np.eye(n), -1, axis=1)
    found = spectrum(Chain.from_matrix(P), 20)
    angles = 2 * pi * np.arange(n) / n
    assert len(found.values) == n
    assert matched(listed(found), np.cos(angles) + 0.5j * np.sin(angles), 1e-13)
    for e in found.eigenvalues:
        if e.imaginary and 0 < e.modulus < 1:
            assert e.period == pytest.approx(2 * pi / np.angle(complex(e.real, e.imaginary)))
            assert e.relaxation == pytest.approx(-1 / log(e.modulus))
            assert e.turns == pytest.approx(e.relaxation / e.period)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_a_reflecting_walk(n: int) -> None:
    """Its eigenvalues are `1 - 2 up (1 - cos(pi k / n))` where both ways are as likely."""
    found = spectrum(walk(n, 0.25, 0.25), n)
    exact = [4 * 0.25 * sin(pi * k / (2 * n)) ** 2 for k in range(n)]
    assert sorted(e.decay for e in found.eigenvalues) == pytest.approx(exact, rel=1e-11, abs=1e-14)
    assert found.classes[0].gap == pytest.approx(exact[1], rel=1e-13)
    assert found.classes[0].gap_bound < 3e-11 * exact[1]


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_the_urn_of_ehrenfest(n: int) -> None:
    """Of n balls one changes sides: `1 - 2 k / n`, with period 2; lazily, half of that and 1/2."""
    P = np.diag(np.arange(n, 0, -1) / n, 1) + np.diag(np.arange(1, n + 1) / n, -1)
    found = spectrum(Chain.from_matrix(P), 30)
    wanted = [1 - 2 * k / n for k in range(n + 1) if 2 * k != n]
    assert listed(found).real == pytest.approx(sorted(wanted), abs=1e-13)
    assert {e.real for e in found.eigenvalues} >= {1.0, -1.0}
    assert (found.classes[0].period, found.classes[0].gap) == (2, 0.0)
    lazy = spectrum(Chain.from_matrix((P + np.eye(n + 1)) / 2), 30)
    assert lazy.classes[0].gap == pytest.approx(1 / n, rel=1e-13)


def test_collecting_coupons() -> None:
    """States that lead to themselves and on have their own chances to stay as eigenvalues."""
    n = 6
    P = np.diag(np.arange(n) / n) + np.diag((n - np.arange(n - 1)) / n, 1)[:n, :n]
    chain = Chain.from_matrix(P, stop=1 - P.sum(axis=1).clip(0, 1))
    assert listed(spectrum(chain)) == pytest.approx([k / n for k in range(1, n)])


@pytest.mark.parametrize("d", range(2, 13))
def test_periods_are_exact(d: int) -> None:
    """A ring of d, with a detour of the same length: d eigenvalues on the circle, each as it is."""
    P = np.roll(np.eye(d + 1), 1, axis=1)
    P[d - 2, d - 1], P[d - 2, d] = 0.25, 0.75
    P[d - 1] = P[d] = 0
    P[[d - 1, d], 0] = 1
    found = spectrum(Chain.from_matrix(P), 20)
    assert found.classes[0].period == d
    assert matched(listed(found), np.exp(2j * pi * np.arange(d) / d), 2e-15)
    assert len(found.values) == d
    assert all(e.modulus == 1 and e.relaxation == inf and e.decay == 0 for e in found.eigenvalues)
    assert "never forgets its phase" in str(found)
    assert not found.more


@pytest.mark.parametrize("tiny", [1e-3, 1e-9, 1e-17, 1e-100])
def test_a_gap_that_no_eigenvalue_shows(tiny: float) -> None:
    """Two states: the second eigenvalue is `1 - a - b`."""
    found = spectrum(
        chain_of({"a": {"a": 1 - tiny, "b": tiny, END: 0}, "b": {"b": 1 - 2 * tiny, "a": 2 * tiny, END: 0}})
    )
    (one, two) = found.eigenvalues
    assert one.relaxation == inf
    assert two.decay == pytest.approx(3 * tiny, rel=1e-14)
    assert two.decay_bound < 1e-13 * tiny
    assert two.relaxation == pytest.approx(-1 / np.log1p(-3 * tiny), rel=1e-14)
    assert two.relaxation_bound < 1e-12 * two.relaxation
    assert found.classes[0].gap == two.decay


@pytest.mark.parametrize("back", [0.0, 1.0])
@pytest.mark.parametrize("tiny", [1e-5, 1e-10, 1e-17])
def test_blocks_that_hardly_lead_to_each_other(tiny: float, back: float) -> None:
    """Blocks whose nodes all lead to the next block with the same chance are as slow as the cycle of blocks."""
    k, m = 5, 4
    P = np.kron(np.eye(k), np.full((m, m), 1 / m)) + np.kron(np.roll(np.eye(k), 1, axis=1), np.full((m, m), tiny / m))
    P += back * np.kron(np.roll(np.eye(k), -1, axis=1), np.full((m, m), tiny / m))
    P /= 1 + tiny * (1 + back)
    found = spectrum(Chain.from_matrix(P), 5)
    scale = tiny / (1 + tiny * (1 + back))
    turns = [2 * pi * j / k for j in (1, 2)]
    apart = [scale * complex((1 + back) * (1 - cos(a)), (1 - back) * sin(a)) for a in turns]
    slow = [e for e in found.eigenvalues if 0 < e.decay < 0.1]
    wanted = [z for z in apart for _ in range(1 if back == 0 else 2)]
    assert [e.decay for e in slow] == pytest.approx([z.real - (abs(z) ** 2 - z.real**2) / 2 for z in wanted], rel=1e-5)
    if tiny < 1e-6:
        assert [e.decay for e in slow] == pytest.approx([z.real for z in wanted], rel=1e-9)
    assert found.classes[0].reversible == bool(back)


@pytest.mark.parametrize("a", [0.5, 3e-13, 1e-100])
def test_runs_leave_a_class_slowly(a: float) -> None:
    """Two states hand each other the flow, and let a and a/3 of it go: the root is `sqrt((1 - a) (1 - a / 3))`."""
    b = a / 3
    found = spectrum(chain_of({"x": {"y": 1 - a, END: a}, "y": {"x": 1 - b, END: b}}))
    with localcontext() as context:
        context.prec = 250
        root = ((1 - Decimal(a)) * (1 - Decimal(b))).sqrt()
        leaves = float(1 - root)
    part = found.classes[0]
    assert (part.kind, part.period) == ("transient", 2)
    assert part.leaves == pytest.approx(leaves, rel=1e-13)
    assert abs(part.leaves - leaves) <= part.leaves_bound <= 1e-11 * leaves
    assert [e.real for e in found.eigenvalues] == pytest.approx([float(root), -float(root)], abs=1e-15)
    assert found.eigenvalues[0].relaxation == pytest.approx(-1 / np.log1p(-leaves), rel=1e-12)
    assert sum(part.law) == pytest.approx(1)


@pytest.mark.parametrize("n", [3, 30])
def test_the_quasi_stationary_law(n: int) -> None:
    """A walk between two ends where it dies stays with `cos(pi / (n + 1))`, spread like a sine."""
    P = np.diag(np.full(n - 1, 0.5), 1) + np.diag(np.full(n - 1, 0.5), -1)
    part = spectrum(Chain.from_matrix(P, stop=1 - P.sum(axis=1))).classes[0]
    assert part.leaves == pytest.approx(2 * sin(pi / (2 * (n + 1))) ** 2, rel=1e-12)
    law = np.sin(pi * np.arange(1, n + 1) / (n + 1))
    assert part.law == pytest.approx(law / law.sum(), rel=1e-6)
    assert part.leaves_bound < 1e-11 * part.leaves
    assert part.law_residual < 1e-8


@settings(max_examples=300)
@given(chains(traps=True))
def test_the_spectrum_is_that_of_the_matrix(chain: Chain) -> None:
    found = spectrum(chain, 50)
    expected = np.linalg.eigvals(chain.P.toarray())
    assert not found.more
    # A defective 0 is off by the fifth root of the rounding, and so may be what numpy finds.
    assert matched(np.array(found.values), expected, 2e-3)
    simple = np.array([v for v in expected if np.sum(np.abs(expected - v) < 1e-2) == 1])
    assert matched(simple[np.abs(simple) > 1e-2], np.array(found.values), 1e-9)
    assert sum(np.abs(v) > 1e-2 for v in expected) == sum(abs(v) > 1e-2 for v in found.values)
    assert sum(e.real == 1 for e in found.eigenvalues) == len(traps_of(chain))
    assert [e.decay for e in found.eigenvalues] == sorted(e.decay for e in found.eigenvalues)
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found)
    for part in found.classes:
        inside = [chain.index[name] for name in part.nodes]
        block = chain.P.toarray()[np.ix_(inside, inside)]
        assert np.array(part.law) @ block == pytest.approx(part.root * np.array(part.law), abs=1e-9)


@settings(max_examples=50)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter(chain: Chain, random) -> None:
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = {name: name.upper() for name in chain.names}
    one, other = spectrum(chain, 50), spectrum(relabelled(chain, order, names), 50)
    sure = [[e.decay for e in found.eigenvalues if e.error_bound < 1e-9] for found in (one, other)]
    assert sure[0] == pytest.approx(sure[1], abs=1e-9)


DIGITS = Decimal(10) ** -60


def characteristic(P: np.ndarray) -> list[Fraction]:
    """Return the coefficients of det(z - P), highest first, exactly (Faddeev and LeVerrier)."""
    n = len(P)
    A = [[Fraction(float(v)) for v in row] for row in P]
    M = [[Fraction(0)] * n for _ in range(n)]
    coefficients = [Fraction(1)]
    for k in range(1, n + 1):
        M = [[sum(A[i][h] * M[h][j] for h in range(n)) for j in range(n)] for i in range(n)]
        for i in range(n):
            M[i][i] += coefficients[-1]
        trace = sum(A[i][h] * M[h][i] for i in range(n) for h in range(n))
        coefficients.append(-trace / k)
    return coefficients


def divided(a: list[Fraction], b: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """Return quotient and remainder of polynomials."""
    a, quotient = list(a), []
    while len(a) >= len(b):
        factor = a[0] / b[0]
        quotient.append(factor)
        for k, value in enumerate(b):
            a[k] -= factor * value
        a.pop(0)
    while a and not a[0]:
        a.pop(0)
    return quotient, a


def simple(p: list[Fraction]) -> list[Fraction]:
    """Return the polynomial with the same roots, each once."""
    a, b = p, [c * (len(p) - 1 - k) for k, c in enumerate(p[:-1])]
    while b:
        a, b = b, divided(a, b)[1]
    return divided(p, a)[0]


def roots(p: list[Fraction]) -> list[tuple[Decimal, Decimal]]:
    """Return the roots to many digits: Durand and Kerner's iteration, all at once."""
    with localcontext() as context:
        context.prec = 90
        c = [Decimal(x.numerator) / Decimal(x.denominator) for x in p]
        found = [(Decimal(float(z.real)), Decimal(float(z.imag))) for z in np.roots([float(x) for x in c])]
        found = [(x + Decimal(k + 1) / 10**9, y + Decimal(2 * k + 1) / 10**9) for k, (x, y) in enumerate(found)]
        for _ in range(400):
            largest = Decimal(0)
            for k, z in enumerate(found):
                value, below = (Decimal(1), Decimal(0)), (c[0], Decimal(0))
                for w in found[:k] + found[k + 1 :]:
                    value = times(value, (z[0] - w[0], z[1] - w[1]))
                for coefficient in c[1:]:
                    below = times(below, z)
                    below = (below[0] + coefficient, below[1])
                size = (value[0] ** 2 + value[1] ** 2) * c[0]
                step = times(below, (value[0], -value[1]))
                step = (step[0] / size, step[1] / size)
                found[k] = (z[0] - step[0], z[1] - step[1])
                largest = max(largest, abs(step[0]), abs(step[1]))
            if largest < Decimal(10) ** -60:
                return found
    raise AssertionError("no convergence")


def times(a: tuple[Decimal, Decimal], b: tuple[Decimal, Decimal]) -> tuple[Decimal, Decimal]:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


@pytest.mark.parametrize("seed", range(4))
def test_exact_eigenvalues_lie_within_the_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen = close = 0
    for _ in range(60):
        chain = dyadic(rng)
        exact = roots(simple(characteristic(chain.P.toarray())))
        for e in spectrum(chain, 50).eigenvalues:
            with localcontext() as context:
                context.prec = 90
                apart = [((Decimal(e.real) - x) ** 2 + (Decimal(e.imaginary) - y) ** 2).sqrt() for x, y in exact]
                assert min(apart) <= Decimal(e.error_bound) + DIGITS
                decays = [1 - (x * x + y * y).sqrt() for x, y in exact]
                assert min(abs(Decimal(e.decay) - decay) for decay in decays) <= Decimal(e.decay_bound) + DIGITS
                nearest = decays[int(np.argmin([float(a) for a in apart]))]
                if e.error_bound < 1e-10 < nearest < Decimal("0.999"):
                    relaxation = -1 / (1 - nearest).ln()
                    assert abs(Decimal(e.relaxation) - relaxation) <= Decimal(e.relaxation_bound)
            seen += 1
            close += e.error_bound < 1e-12
    assert seen > 100
    assert close > 0.8 * seen


def test_bounds_of_gaps_in_fractions() -> None:
    """A birth-death chain with rates over many orders: the gap's bound is relative, and a root lies within it."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = int(rng.integers(2, 6))
        P = np.zeros((n, n))
        for i in range(n - 1):
            P[i, i + 1], P[i + 1, i] = 2.0 ** -rng.integers(2, 60), 2.0 ** -rng.integers(2, 60)
        P += np.diag(1 - P.sum(axis=1))
        part = spectrum(Chain.from_matrix(P)).classes[0]
        A = [[Fraction(float(v)) for v in row] for row in P]
        for i in range(n):
            A[i][i] = 1 - sum(A[i][j] for j in range(n) if j != i)
        low, high = (Fraction(part.gap) + sign * Fraction(part.gap_bound) for sign in (-1, 1))
        assert fewer(A, low) == 1
        assert fewer(A, high) >= 2


def fewer(A: list[list[Fraction]], gap: Fraction) -> int:
    """Return how many eigenvalues of a birth-death chain are above `1 - gap`: the sign changes of Sturm."""
    n = len(A)
    count, ratio = 0, Fraction(1)
    for i in range(n):
        ratio = (1 - gap) - A[i][i] - (A[i][i - 1] * A[i - 1][i] / ratio if i else 0)
        count += ratio < 0
        ratio = ratio or Fraction(1, 10**400)
    return count


def irreducible(n: int, seed: int, symmetric: bool, stop: float = 0.0) -> Chain:
    rng = np.random.default_rng(seed)
    A = rng.random((n, n)) * (rng.random((n, n)) < 4 / n) + 0.1 * np.roll(np.eye(n), 1, axis=1) + 1e-3 * np.eye(n)
    if symmetric:
        A = A + A.T
    P = A / A.sum(axis=1, keepdims=True)
    ends = np.where(rng.random(n) < 0.2, stop, 0.0)
    return Chain.from_matrix(P * (1 - ends)[:, None], stop=ends)


@pytest.mark.parametrize("stop", [0.0, 0.3])
@pytest.mark.parametrize("symmetric", [True, False])
def test_large_classes_are_as_small_ones(monkeypatch: pytest.MonkeyPatch, symmetric: bool, stop: float) -> None:
    chain = irreducible(120, 1, symmetric, stop)
    whole = spectrum(chain, 6)
    for module, name in ((eigen, "WHOLE"), (solve, "DENSE"), (perron, "SQUARED")):
        monkeypatch.setattr(module, name, 1)
    some = spectrum(chain, 6)
    assert [e.decay for e in some.eigenvalues] == pytest.approx([e.decay for e in whole.eigenvalues], rel=1e-9)
    assert [e.period or 0 for e in some.eigenvalues] == pytest.approx([e.period or 0 for e in whole.eigenvalues])
    assert max(e.residual for e in some.eigenvalues) < 1e-9
    assert whole.error_bound < 1e-10
    if symmetric and not stop:
        assert some.error_bound < 1e-11
    elif not symmetric:
        assert some.error_bound == inf
        assert "no proven bound of use" in str(some)
    assert some.classes[0].leaves == pytest.approx(whole.classes[0].leaves, rel=1e-9)
    assert some.classes[0].law == pytest.approx(whole.classes[0].law, rel=1e-6)


@pytest.mark.parametrize("n", [120, 121])
def test_slow_classes_are_factorised(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """A walk with eigenvalues at both ends, so near that products alone would take for ever."""
    monkeypatch.setattr(sought, "PATIENCE", 0)
    monkeypatch.setattr(eigen, "WHOLE", 1)
    exact = sorted(1 - abs(cos(pi * k / n)) for k in range(n))[:6]
    found = spectrum(walk(n, 0.5, 0.5), 6)
    assert [e.decay for e in found.eigenvalues] == pytest.approx(exact, abs=1e-12)
    assert {e.real > 0 for e in found.eigenvalues} == {True, False}
    lazy = spectrum(walk(n, 0.25, 0.25), 6)
    assert [e.decay for e in lazy.eigenvalues] == pytest.approx(
        [sin(pi * k / (2 * n)) ** 2 for k in range(6)], abs=1e-13
    )
    drift = spectrum(Chain.from_matrix(0.99 * np.eye(n) + 0.01 * np.roll(np.eye(n), 1, axis=1)), 4)
    turns = 0.01 * (1 - np.exp(2j * pi * np.arange(4) / n))
    assert [e.decay for e in drift.eigenvalues] == pytest.approx(1 - np.abs(1 - turns), rel=1e-9)


def test_what_does_not_converge_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Perron root is there all the same, and what is not known is said."""
    for name, value in (("PATIENCE", 0), ("INVERSIONS", 1), ("VECTORS", 0), ("RESTARTS", 1)):
        monkeypatch.setattr(sought, name, value)
    monkeypatch.setattr(eigen, "WHOLE", 1)
    mixing = irreducible(400, 2, False)
    # The walk's by their formula: without scaling rounding moves them by 1e-4 and more.
    known = np.append(1, 0.5 + 2 * np.sqrt(0.06) * np.cos(pi * np.arange(1, 1000) / 1000))
    cases = [(walk(1000, 0.3, 0.2), 40, known), (mixing, 10, np.linalg.eigvals(mixing.P.toarray()))]
    for chain, top, values in cases:
        found = spectrum(chain, top)
        assert found.eigenvalues[0].real == 1
        assert found.more
        for value in found.values:
            assert np.abs(values - value).min() < 1e-8


def crowded(n: int) -> Chain:
    """One class with four arrows to anywhere from each state: but for the root, eigenvalues crowd on a disc."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), n)
    weights[::100] /= 2
    columns = rng.integers(0, n, (n, 4))
    columns[:, 0] = (np.arange(n) + 1) % n
    P = sparse.csr_array((weights.ravel(), (np.repeat(np.arange(n), 4), columns.ravel())), shape=(n, n))
    stop = np.where(np.arange(n) % 100 == 0, 1 - weights.sum(axis=1), 0.0)
    return Chain.from_matrix(P, None, "0", stop=stop)


def test_a_crowd_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = crowded(1500)
    exact = np.linalg.eigvals(chain.P.toarray())
    exact = exact[np.argsort(-np.abs(exact))]
    monkeypatch.setattr(sought, "PATIENCE", 1e7)
    found = spectrum(chain, 10)
    first, part = found.eigenvalues[0], found.classes[0]
    assert abs(first.real - exact[0].real) <= first.error_bound + 1e-12
    assert first.decay_bound < 1e-10 * first.decay
    assert found.more
    assert part.below == pytest.approx(abs(exact[1]), rel=0.1)
    assert "crowd below" in str(found)
    for value in found.values:
        assert np.abs(exact - value).min() < 1e-9
    products = []
    monkeypatch.setattr("flowstat.analyze.eigen.sought", lambda *_: products.append(1))
    assert len(spectrum(chain, 1).eigenvalues) == 1
    assert not products


def test_what_has_not_settled_is_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow walk on a square, its factors too large: products seem to settle far below the second eigenvalue."""
    m = 30
    one = sparse.diags_array([np.full(m - 1, 0.125)] * 2, offsets=[1, -1])
    P = sparse.csr_array(sparse.kron(one, sparse.eye_array(m)) + sparse.kron(sparse.eye_array(m), one))
    P = sparse.csr_array(P + sparse.diags_array(1 - np.asarray(P.sum(axis=1)).ravel()))
    chain = Chain.from_matrix(P, None, "0")
    exact = (1 - cos(pi / m)) / 4
    for module, name, value in (
        (eigen, "WHOLE", 1),
        (factored_inverse, "FACTORS", 0),
        (sought, "RESTARTS", 1),
        (sought, "GROWN", 60),
    ):
        monkeypatch.setattr(module, name, value)
    found = spectrum(chain, 4)
    assert found.more
    assert found.classes[0].below == 1 or 1 - found.classes[0].below <= exact
    assert len(found.eigenvalues) == 1 or found.eigenvalues[1].decay == pytest.approx(exact)
    assert "in vain" in str(found)
    with pytest.raises(AnalysisError, match="too close together"):
        metastable(chain)


def hub(arms: int, length: int) -> Chain:
    """From a hub into one of many alike arms, where every state is stayed at with 0.3: eigenvalue 0.3 many times."""
    n = 1 + arms * length
    P = sparse.lil_array((n, n))
    for a in range(arms):
        first = 1 + a * length
        P[0, first] = 1 / arms
        for j in range(length):
            P[first + j, first + j] = 0.3
            P[first + j, first + j + 1 if j < length - 1 else 0] = 0.7
    return Chain.from_matrix(sparse.csr_array(P))


@pytest.mark.parametrize("arms", [40, 120])
def test_eigenvalues_that_rounding_scatters_are_withheld(arms: int) -> None:
    """The others are roots of `z (z - 0.3)^10 = 0.7^10`; 0.3 itself is in Jordan blocks of ten: a tenth root of it."""
    found = spectrum(hub(arms, 10))
    exact = np.roots([*np.polynomial.polynomial.polyfromroots([0.3] * 10 + [0.0])[::-1][:-1], -(0.7**10)])
    assert len(found.values) == 11
    assert matched(np.array(found.values), exact, 1e-9)
    for e in found.eigenvalues[1:]:
        assert e.error_bound > e.modulus
        assert np.abs(exact - complex(e.real, e.imaginary)).min() < e.error_estimate + 1e-10
        assert e.error_estimate < 1e-12
    assert found.more
    assert found.classes[0].withheld
    assert abs(complex(*found.classes[0].withheld[0]) - 0.3) < 0.1
    assert "nearly orthogonal" in str(found)


@pytest.mark.parametrize("seed", range(3))
def test_estimates_are_as_large_as_errors(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chain = irreducible(150, seed, False, 0.2)
    exact = spectrum(chain, 200)
    monkeypatch.setattr(eigen, "WHOLE", 1)
    found = spectrum(chain, 8)
    rough = [e for e in found.eigenvalues if e.error_estimate is not None]
    assert len(rough) > 3
    for e in rough:
        assert e.error_bound == inf
        near = min(exact.eigenvalues, key=lambda o: abs(complex(o.real - e.real, o.imaginary - e.imaginary)))
        assert abs(complex(near.real - e.real, near.imaginary - e.imaginary)) <= e.error_estimate + near.error_bound
        assert e.error_estimate < 1e-11


def test_a_circle_that_is_cut_says_so() -> None:
    ring = Chain.from_matrix(np.roll(np.eye(4), 1, axis=1))
    assert [spectrum(ring, top).more for top in (1, 2, 3)] == [True, True, False]
    found = spectrum(Chain.from_matrix(np.roll(np.eye(400), 1, axis=1)), 5)
    assert (len(found.eigenvalues), found.more) == (5, True)


def bottleneck(n: int) -> Chain:
    up = np.full(n - 1, 0.25)
    up[n // 2 - 1] = 1e-6
    P = sparse.csr_array(sparse.diags_array([up, up], offsets=[1, -1]))
    return Chain.from_matrix(sparse.csr_array(P + sparse.diags_array(1 - np.asarray(P.sum(axis=1)).ravel())), None, "0")


def test_rows_that_stay_hold_eigenvalues_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """All `p_ii` are at least 1/2: nothing is sought below 0, and the gap is as the tridiagonal solver finds it."""
    asked = []
    monkeypatch.setattr(sought, "_reaches", lambda *_: asked.append(1) or True)
    found = spectrum(bottleneck(2000), 2)
    up = np.full(1999, 0.25)
    up[999] = 1e-6
    away = np.concatenate([[0], up]) + np.concatenate([up, [0]])
    gap = eigh_tridiagonal(away, -up, select="i", select_range=(0, 1), eigvals_only=True, lapack_driver="stebz")[1]
    assert found.eigenvalues[1].decay == pytest.approx(gap, rel=1e-8)
    assert found.eigenvalues[1].error_bound < 1e-12
    assert not asked


def many(blocks: list[np.ndarray]) -> Chain:
    """Blocks in a row: what each leaves goes to the next half the time."""
    n = sum(map(len, blocks))
    P, at = sparse.lil_array((n, n)), 0
    for block in blocks:
        k = len(block)
        P[at : at + k, at : at + k] = block
        if at + k < n:
            for i in range(k):
                P[at + i, at + k] = (1 - block[i].sum()) / 2
        at += k
    P = sparse.csr_array(P)
    return Chain.from_matrix(P, None, "0", stop=np.maximum(0.0, 1 - np.asarray(P.sum(axis=1)).ravel()))


def test_of_classes_alike_some_are_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr("flowstat.analyze.spectrum.part_of", lambda s, c: looked.append(c) or part_of(s, c))
    found = spectrum(many([np.array([[0.5, 0.25], [0.3, 0.4]])] * 100), 10)
    root = 0.45 + np.sqrt(0.05**2 + 0.075)
    assert [e.real for e in found.eigenvalues] == pytest.approx([root] * 10, abs=1e-14)
    assert found.more
    assert len(looked) <= 12


def test_slow_classes_are_told_apart_by_squaring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings with one exit that is hardly taken: products alone would enclose no root of them."""
    rings = []
    for b in range(60):
        P = 0.5 * np.eye(20) + 0.5 * np.roll(np.eye(20), 1, axis=1)
        P[0, 1] -= 1e-6 * (1 + b / 60)
        rings.append(P)
    looked: list[int] = []
    monkeypatch.setattr(roots_of, "WORK", 0)
    monkeypatch.setattr("flowstat.analyze.spectrum.part_of", lambda s, c: looked.append(c) or part_of(s, c))
    found = spectrum(many(rings), 3)
    exact = sorted(1 - np.abs(np.linalg.eigvals(P)).max() for P in rings)[:3]
    assert [e.decay for e in found.eigenvalues] == pytest.approx(exact, rel=1e-6)
    assert len(looked) < 10


@settings(max_examples=100)
@given(chains(traps=True))
def test_roots_are_enclosed(chain: Chain) -> None:
    solver = Solver(chain.P, chain.stop)
    for c, leave in by_root(solver, 1):
        part = part_of(solver, c)
        assert leave <= part.leave + part.leave_bound


def test_only_classes_with_leading_eigenvalues_are_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many classes in a row, each leaving with its own chance, the slowest ones are looked at."""
    blocks, rng = 40, np.random.default_rng(3)
    P, stop = np.zeros((3 * blocks, 3 * blocks)), np.zeros(3 * blocks)
    for b in range(blocks):
        at = slice(3 * b, 3 * b + 3)
        leave = rng.uniform(0.05, 0.9)
        P[at, at] = (1 - leave) * np.array([[0, 0.5, 0.5], [0.9, 0, 0.1], [1, 0, 0]])
        if b + 1 < blocks:
            P[at, 3 * b + 3] = leave
        else:
            stop[at] = leave
    chain = Chain.from_matrix(P, stop=stop)
    looked = []
    monkeypatch.setattr("flowstat.analyze.spectrum.part_of", lambda s, c: looked.append(c) or part_of(s, c))
    found = spectrum(chain, 5)
    values = np.linalg.eigvals(P)
    assert [e.modulus for e in found.eigenvalues] == pytest.approx(np.sort(np.abs(values))[::-1][:5], rel=1e-9)
    assert found.more
    assert len(looked) < 10


def test_classes_are_told_apart() -> None:
    found = spectrum(pit(), 20)
    assert [e.of for e in found.eigenvalues[:3]] == ["{ping, pong}", "stuck", "{a, b, c}"]
    assert [e.kind for e in found.eigenvalues[:3]] == ["closed", "closed", "transient"]
    assert {(c.nodes, c.kind) for c in found.classes} >= {(("stuck",), "closed"), (("a", "b", "c"), "transient")}
    assert found.frame().shape[0] == len(found.eigenvalues)
    assert found.fans_out is shop().fans_out is False


def test_small_chains() -> None:
    alone = spectrum(chain_of({"a": {"a": 1}}))
    assert [(e.real, e.relaxation, e.error_bound) for e in alone.eigenvalues] == [(1.0, inf, 0.0)]
    assert alone.classes[0].gap is None
    none = spectrum(chain_of({"a": {"b": 1}, "b": {}}))
    assert (none.eigenvalues, none.error_bound, none.more) == ((), 0.0, False)
    assert "all eigenvalues are 0" in str(none)
    loop = spectrum(chain_of({"a": {"a": 1.0, "b": 1e-17, END: 0}, "b": {}}))
    assert loop.eigenvalues[0].decay == 1e-17
    assert loop.eigenvalues[0].relaxation == pytest.approx(1e17)
    with pytest.raises(AnalysisError, match="at least one"):
        spectrum(shop(), 0)


def test_chances_at_the_end_of_numbers() -> None:
    """An error with what to do, or a number: never a traceback."""
    far = chain_of({"a": {"b": 1.0, END: 0}, "b": {"a": 1.0, "c": 1e-200, END: 0}, "c": {"b": 1.0, END: 0}})
    assert spectrum(far).eigenvalues[0].real == 1
    with pytest.raises(AnalysisError):
        spectrum(chain_of({"a": {"b": 1.0, END: 1e-300}, "b": {"a": 1.0, END: 0}}))
    steep = spectrum(walk(300, 1e-3, 0.9))
    assert steep.eigenvalues[0].real == 1
    assert np.isfinite([e.decay for e in steep.eigenvalues]).all()


def test_what_is_0_by_its_arrows_is_left_out() -> None:
    """Nodes that only pass on: numpy finds the fifth root of the rounding for a 0 that is there five times."""
    ring = {str(k): {str(k + 1): 1.0} for k in range(6)}
    chain = chain_of({**ring, "6": {"0": 0.5, "3": 0.5}})
    found = spectrum(chain, 20)
    assert len(found.values) == 7
    tail = chain_of({"a": {"b": 0.5, "c": 0.5}, "b": {"c": 1}, "c": {"d": 1}, "d": {"a": 1}})
    assert len(spectrum(tail, 20).values) == 4
    shared = chain_of({"a": {"b": 0.5, "c": 0.5}, "b": {"a": 1}, "c": {"a": 1}})
    assert len(spectrum(shared, 20).values) == 2


def test_defective_eigenvalues_say_so() -> None:
    """Shuffled bits: 0 twice in a Jordan block of 2, by no arrow's doing."""
    P = np.zeros((8, 8))
    for i in range(8):
        P[i, (2 * i) % 8] = P[i, (2 * i + 1) % 8] = 0.5
    found = spectrum(Chain.from_matrix(P), 20)
    assert found.eigenvalues[0].real == 1
    for e in found.eigenvalues[1:]:
        assert e.modulus <= e.error_bound
        assert e.period is None
    assert "can't be told from 0" in str(found)


def test_leading_of_real_part() -> None:
    """By real part the root alone is left out: on a ring of 6 the next are a pair of real part 1/2."""
    ring = Chain.from_matrix(np.roll(np.eye(6), 1, axis=1))
    part = part_of(Solver(ring.P, ring.stop), 0)
    found = leading(part, 1, "real")
    assert found.values == pytest.approx(np.exp([1j * pi / 3, -1j * pi / 3]), abs=1e-13)
    assert len(leading(part, 1).values) == 0
