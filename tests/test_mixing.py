"""Mixing times: by the definition, by closed forms, and within the bounds where powers are out of reach."""

from fractions import Fraction
from math import inf, log, log1p

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import gaps, mixing
from flowstat.analyze.mixing import Mixing
from flowstat.analyze.restart import restart
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from tests.oracles import chains, pit, shop
from tests.test_passage import irreducible

mix = mixing.mixing


def by_definition(chain: Chain, epsilon: float) -> tuple[int, int]:
    """The mixing time one step at a time, in bounds that allow for rounding."""
    P = chain.P.toarray()
    n = len(P)
    A = np.vstack([(P.T - np.eye(n))[:-1], np.ones(n)])
    law = np.linalg.solve(A, np.append(np.zeros(n - 1), 1))
    M, found = np.eye(n), []
    for t in range(5000):
        far = np.abs(M - law).sum(axis=1).max() / 2
        if far > epsilon + 1e-9:
            found = [t + 1]
        if far <= epsilon - 1e-9:
            return (found or [0])[0], t
        M = M @ P
    raise AssertionError("slow")


def walk_on_a_line(n: int, up: float = 0.25) -> Chain:
    P = sparse.diags_array([np.full(n - 1, up), np.full(n - 1, 0.25)], offsets=[1, -1], shape=(n, n)).tolil()
    P.setdiag(1 - np.asarray(P.sum(axis=1)).ravel())
    return Chain.from_matrix(sparse.csr_array(P))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from([0.25, 0.1, 0.01, 0.4]))
def test_powers_by_the_definition(seed: int, n: int, epsilon: float) -> None:
    chain = irreducible(seed, n)
    lazy = Chain.from_matrix((chain.P.toarray() + np.eye(n)) / 2)
    [found] = mix(lazy, epsilon).classes
    low, high = by_definition(lazy, epsilon)
    assert found.method == "powers"
    assert low <= found.at_least <= found.at_most <= high
    assert found.steps is not None


@pytest.mark.parametrize("reversible", [True, False])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 9), st.sampled_from([0.25, 0.1, 0.01]))
def test_bounds_hold_where_powers_are_out_of_reach(reversible: bool, seed: int, n: int, epsilon: float) -> None:
    P = irreducible(seed, n).P.toarray()
    if reversible:
        P = np.where(P > 0, P + 0.01, 0)
        P = P + P.T
        P /= P.sum(axis=1, keepdims=True)
    chain = Chain.from_matrix((P + np.eye(n)) / 2)
    low, high = by_definition(chain, epsilon)
    for states_of_all in (300, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mixing, "POWERS", 0)
            patch.setattr(gaps, "ALL", states_of_all)
            [found] = mix(chain, epsilon).classes
        assert found.at_least <= high
        assert low <= found.at_most
        if reversible:
            assert found.method in ("gap", "gap, estimated")


def test_closed_forms() -> None:
    """Two states: `d(t) = max(p, q)/(p + q) |1 - p - q|^t`; a complete graph: `(1 - 1/n) (n - 1)^-t`."""
    p, q = 0.1, 0.05
    for epsilon in (0.25, 0.01, 1e-6):
        [found] = mix(Chain.from_matrix([[1 - p, p], [q, 1 - q]]), epsilon).classes
        t = log(epsilon * (p + q) / max(p, q)) / log(1 - p - q)
        assert found.steps == np.ceil(t)
    n = 10
    [found] = mix(Chain.from_matrix((np.ones((n, n)) - np.eye(n)) / (n - 1)), 1e-4).classes
    assert found.steps == np.ceil(log(1e-4 / (1 - 1 / n)) / -log(n - 1))
    assert mix(Chain.from_matrix([[0.5, 0.5], [0.5, 0.5]])).classes[0].steps == 1
    assert mix(Chain.from_matrix([[1.0]])).classes[0].steps == 0


def test_an_even_distance_is_left_open_by_rounding_at_most() -> None:
    """d(1) is 1/4 exactly: a time of 1, and if rounding leaves a doubt 2 is not ruled out."""
    [found] = mix(Chain.from_matrix([[0.75, 0.25], [0.25, 0.75]])).classes
    assert found.at_least == 1
    assert found.at_most <= 2


@pytest.mark.parametrize("period", range(2, 13))
def test_periodic_classes_never_mix(period: int) -> None:
    found = mix(Chain.from_matrix(np.roll(np.eye(period), 1, axis=1)))
    assert (found.classes[0].steps, found.classes[0].method, found.classes[0].period) == (inf, "periodic", period)
    assert "never mixes" in str(found)


@pytest.mark.parametrize(("p", "q"), [(3e-13, 1e-13), (1e-17, 2e-17), (1e-100, 1e-101)])
def test_two_states_that_hardly_ever_change(p: float, q: float) -> None:
    [found] = mix(Chain.from_matrix([[1.0 - p, p], [q, 1.0 - q]])).classes
    time = log(0.25 * (p + q) / max(p, q)) / log1p(-(p + q))
    assert 0 < found.at_least <= time * (1 + 1e-9)
    assert time * (1 - 1e-9) <= found.at_most < 10 * time


def test_two_groups_that_hardly_ever_change() -> None:
    """A reversible class of two fast groups; and a slow round, which is not reversible: nothing is known from above."""
    e = 1e-18
    P = np.array([[0.5, 0.5, 0, 0], [0.5, 0.5, e, 0], [0, e, 0.25, 0.75], [0, 0, 0.75, 0.25]])
    [found] = mix(Chain.from_matrix(P)).classes
    time = log(2) / e
    assert found.at_least <= time <= found.at_most < 100 * time
    round_ = np.eye(3) + 1e-18 * np.roll(np.eye(3), 1, axis=1)
    found = mix(Chain.from_matrix(round_))
    assert found.classes[0].at_most == inf
    assert found.classes[0].at_least > 1e10
    assert "No upper bound" in str(found)


def test_large_reversible_classes() -> None:
    """The lazy walk on a line of n has the eigenvalues `(1 + cos(pi k/n))/2`."""
    n = 700
    [found] = mix(walk_on_a_line(n)).classes
    gap = np.sin(np.pi / (2 * n)) ** 2
    assert found.method == "gap, estimated"
    assert found.at_least == pytest.approx(log(2) / -log1p(-gap), rel=1e-5)
    assert found.at_most == pytest.approx(log(2 * np.sqrt(n)) / -log1p(-gap), rel=1e-5)


def test_large_classes_that_are_not_reversible() -> None:
    rng = np.random.default_rng(0)
    n = 600
    rows = np.repeat(np.arange(n), 4)
    columns = np.concatenate([(np.arange(n) + 1) % n, rng.integers(0, n, 3 * n)]).reshape(4, n).T.ravel()
    P = sparse.csr_array((np.full(4 * n, 0.25), (rows, columns)), shape=(n, n))
    chain = Chain.from_matrix((P + sparse.eye_array(n)) / 2)
    low, high = by_definition(chain, 0.25)
    [found] = mix(chain).classes
    assert found.method == "norm"
    assert high - 2 <= found.at_least <= high
    assert low <= found.at_most < 20 * high


@settings(max_examples=60, deadline=None)
@given(chains(largest=5, traps=True))
def test_every_closed_class_is_answered(chain: Chain) -> None:
    found = mix(chain)
    assert isinstance(found, Mixing)
    assert found.error_bound <= 1
    assert all(0 <= row["at_least"] <= row["at_most"] for row in found.rows())


def test_runs_that_end_and_a_wrong_epsilon() -> None:
    assert "Every run ends" in str(mix(shop()))
    assert mix(restart(shop())).classes[0].steps is not None
    assert {row["class"] for row in mix(pit()).rows()} == {"stuck", "{ping, pong}"}
    for epsilon in (0, 0.5, -1, float("nan")):
        with pytest.raises(AnalysisError, match="epsilon"):
            mix(pit(), epsilon)


def test_exact_powers_in_fractions() -> None:
    """On dyadic chances the distance is computed in fractions, and the time is the same."""
    P = [[Fraction(7, 8), Fraction(1, 8), Fraction(0)], [Fraction(1, 4), Fraction(1, 2), Fraction(1, 4)],
         [Fraction(0), Fraction(1, 2), Fraction(1, 2)]]  # fmt: skip
    law = [Fraction(4, 7), Fraction(2, 7), Fraction(1, 7)]
    M, t = [[Fraction(i == j) for j in range(3)] for i in range(3)], 0
    while max(sum(abs(M[i][j] - law[j]) for j in range(3)) / 2 for i in range(3)) > Fraction(1, 100):
        M = [[sum(M[i][k] * P[k][j] for k in range(3)) for j in range(3)] for i in range(3)]
        t += 1
    assert mix(Chain.from_matrix([[float(p) for p in row] for row in P]), 0.01).classes[0].steps == t
