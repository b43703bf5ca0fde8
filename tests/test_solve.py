import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import banded, solve
from flowstat.analyze.elimination import eliminate
from flowstat.analyze.solve import Solver, strong_classes
from flowstat.analyze.strong import Classes
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from tests.oracles import chain_of, chains, fundamental, traps_of


@pytest.fixture
def sparse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "DENSE", 1)
    monkeypatch.setattr(banded, "NARROW", -1)


def check_solver(chain: Chain) -> None:
    """Visits, collected gains and return chances are those of the inverse that numpy finds."""
    names, N, law = fundamental(chain)
    keep = [chain.index[name] for name in names]
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(chain.start)
    v, inflow = visited.values, entered.values
    assert v[keep] == pytest.approx(law @ N, abs=1e-12)
    trapped = np.setdiff1d(np.arange(solver.n), keep)
    assert inflow[trapped].sum() == pytest.approx(1 - (law @ N) @ chain.stop[keep], abs=1e-12)
    gain = np.stack([np.arange(1.0, solver.n + 1), chain.stop], axis=1)
    x = solver.backward(gain, closed=0.0).values
    assert x[keep] == pytest.approx(N @ gain[keep], rel=1e-11, abs=1e-12)
    assert not x[trapped].any()
    assert solver.backward(gain[:, 0]).values[keep] == pytest.approx(x[keep, 0], rel=1e-12)
    gaps = solver.return_gaps().values
    assert gaps[keep] == pytest.approx(1 / np.diag(N), rel=1e-11)
    assert not gaps[trapped].any()


@settings(max_examples=300)
@given(chains(largest=6, traps=True))
def test_elimination_equals_numpy(chain: Chain) -> None:
    check_solver(chain)


@settings(max_examples=200)
@given(chains(largest=6, traps=True))
def test_sparse_solution_equals_numpy(sparse_only: None, chain: Chain) -> None:
    check_solver(chain)


@settings(max_examples=200)
@given(chains(largest=6))
def test_dense_and_sparse_agree(chain: Chain) -> None:
    answers = []
    with pytest.MonkeyPatch.context() as patch:
        for largest in (1500, 1):
            patch.setattr(solve, "DENSE", largest)
            solver = Solver(chain.P, chain.stop)
            solved = [solver.visits(chain.start)[0], solver.backward(np.ones(solver.n)), solver.return_gaps()]
            answers.append([each.values for each in solved])
    for dense, through_sparse in zip(*answers, strict=True):
        assert through_sparse == pytest.approx(dense, rel=1e-11, abs=1e-14)


def test_sparse_solution_refuses_what_it_cannot_solve(sparse_only: None) -> None:
    chain = chain_of({"a": {"b": 1 - 3e-13, END: 3e-13}, "b": {"a": 1 - 1e-13, END: 1e-13}})
    with pytest.raises(AnalysisError, match="too close to closed"):
        Solver(chain.P, chain.stop).visits(chain.start)
    with pytest.raises(AnalysisError, match="too close to closed"):
        Solver(chain.P, chain.stop).backward(chain.stop)


@settings(max_examples=200)
@given(chains(largest=6, traps=True))
def test_classes_come_before_those_they_lead_to(chain: Chain) -> None:
    order = [c.tolist() for c in strong_classes(chain.P)]
    assert sorted(i for c in order for i in c) == list(range(len(chain.names)))
    place = {i: k for k, c in enumerate(order) for i in c}
    rows, columns, _ = chain.arrows()
    assert all(place[i] <= place[j] for i, j in zip(rows.tolist(), columns.tolist(), strict=True))
    closed = {frozenset(chain.names[i] for i in c) for c in Solver(chain.P, chain.stop).closed}
    assert closed == set(traps_of(chain))


@settings(max_examples=200)
@given(chains(largest=6), st.integers(1, 6))
def test_censoring_keeps_the_first_arrivals(chain: Chain, keep: int) -> None:
    n = len(chain.names)
    keep = min(keep, n)
    P = chain.P.toarray()
    first = (
        chain.start[:keep] + chain.start[keep:] @ np.linalg.inv(np.eye(n - keep) - P[keep:, keep:]) @ P[keep:, :keep]
    )
    try:
        gone = eliminate(P, chain.stop)
    except AnalysisError:
        # Among the first states alone some are never left: no single class, which elimination is for.
        return
    assert gone.censored(chain.start, keep) == pytest.approx(first, abs=1e-12)
    if n > 1:
        rest = np.linalg.inv(np.eye(n - 1) - P[1:, 1:])
        assert gone.rounds == pytest.approx(P[0, 0] + P[0, 1:] @ rest @ P[1:, 0], abs=1e-12)


def test_the_stationary_law_of_a_closed_class() -> None:
    """A birth-death class with up-chances p and down-chances q has the law pi_k ~ prod p/q (detailed balance)."""
    up, down = [0.9, 0.5, 1e-9], [0.25, 1e-12, 1.0]
    P = np.diag(up, 1) + np.diag(down, -1)
    P += np.diag(1 - P.sum(axis=1))
    weights = np.cumprod([1.0, *(u / d for u, d in zip(up, down, strict=True))])
    law = Solver(sparse.csr_array(P), np.zeros(4)).stationary(np.arange(4)).values
    assert law == pytest.approx(weights / weights.sum(), rel=1e-13)


def test_a_stationary_law_that_no_numbers_hold_is_right_to_its_bound() -> None:
    """Its entries are 1e-600, 1e-400, 1e-200 and 1, whichever state comes first."""
    P = np.array([[1, 1, 0, 0], [1e-200, 1, 1, 0], [0, 1e-200, 1, 1], [0, 0, 1e-200, 1]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        found = Solver(sparse.csr_array(P[np.ix_(order, order)]), np.zeros(4)).stationary(np.arange(4))
        assert found.values == pytest.approx(np.array([0.0, 0.0, 1e-200, 1.0])[order], rel=1e-13)
        assert (found.bound >= 1e-308).all()
        assert (found.bound < 1e-13).all()


@pytest.mark.parametrize("largest", [1500, 1])
def test_a_long_ring_with_one_exit(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """A ring of n nodes left at the last one with 1/4 is gone round 4 times, whichever way it is solved."""
    monkeypatch.setattr(solve, "DENSE", largest)
    n = 200
    P = sparse.csr_array(np.roll(np.eye(n), 1, axis=1) * np.append(np.ones(n - 1), 0.75)[:, None])
    solver = Solver(P, np.append(np.zeros(n - 1), 0.25))
    v = solver.visits(np.eye(n)[0])[0].values
    assert v == pytest.approx(np.full(n, 4.0), rel=1e-12)
    assert solver.return_gaps().values == pytest.approx(np.full(n, 0.25), rel=1e-12)


@settings(max_examples=100)
@given(chains(largest=6, traps=True))
def test_compiled_code_sees_the_same_chain(chain: Chain) -> None:
    """Its classes, what leaves them, and how runs pass through."""
    plain = Solver(chain.P, chain.stop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solve, "COMPILED", 0)
        fast = Solver(chain.P, chain.stop)
        visited = fast.visits(np.stack([chain.start, np.eye(fast.n)[-1]], axis=1))[0]
    for name in ("label", "states", "offsets"):
        assert getattr(fast.order, name).tolist() == getattr(Classes(chain.P), name).tolist()
    assert fast.shut.tolist() == plain.shut.tolist() == [c.closed for c in plain.classes]
    assert fast.moving == pytest.approx(plain.moving, rel=1e-14)
    assert fast.exits == pytest.approx(plain.exits, rel=1e-14)
    assert (fast.unit, fast.inward) == (plain.unit, plain.inward)
    for k, start in enumerate((chain.start, np.eye(fast.n)[-1])):
        assert visited.values[:, k] == pytest.approx(plain.visits(start)[0].values, rel=1e-12)
