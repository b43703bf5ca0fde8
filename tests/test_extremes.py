"""Where numbers end: chances below 1e-308, times above 1e154, large classes that are slow and wide."""

from __future__ import annotations

from fractions import Fraction
from math import inf, sqrt

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

from flowstat.analyze import visits as visits_module
from flowstat.analyze.absorption import absorption
from flowstat.analyze.hitting import hitting
from flowstat.analyze.quantiles import quantiles
from flowstat.analyze.reversible import reversible
from flowstat.analyze.stationary import stationary
from flowstat.analyze.steps import steps, within
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.hard_chains import HARD


def test_a_trap_that_is_reached_with_a_chance_below_all_numbers_is_reached() -> None:
    chain = Chain.from_matrix(
        [[0, 1e-200, 0], [0, 0, 1e-200], [0, 0, 1]], ["a", "b", "trap"], "a", stop=[1 - 1e-200, 1, 0]
    )
    found = absorption(chain)
    assert (found.events, found.events_sd) == (inf, inf)
    trap = found.outcomes[-1]
    assert (trap.outcome, trap.kind, trap.probability) == ("trap", "trap", 0.0)
    assert 0 < trap.error_bound < 1e-300
    at = visits(chain).nodes[2]
    assert (at.visits, at.reached) == (inf, 0.0)
    assert at.reached_bound > 0
    assert not any("No run from the start" in note for note in stationary(chain).notes())


def test_a_way_below_all_numbers_may_lead_to_long_visits() -> None:
    chain = Chain.from_matrix([[0, 1e-165, 0], [0, 0, 1e-165], [0, 0, 1]], ["a", "b", "d"], "a", stop=[1, 1, 1e-280])
    at = visits(chain).nodes[2]
    assert abs(at.visits - 1e-50) <= at.visits_bound < 1e-20


def test_numbers_of_less_than_full_precision_are_bounded_so() -> None:
    chain = Chain.from_matrix([[0, 1.1e-160, 0], [0, 0, 1.3e-160], [0, 0, 0]], ["a", "b", "d"], "a", stop=[1, 1, 1])
    at = visits(chain).nodes[2]
    assert abs(Fraction(at.visits) - Fraction(1.1e-160) * Fraction(1.3e-160)) <= Fraction(at.visits_bound)


def test_a_walk_whose_law_ends_below_all_numbers_is_reversible() -> None:
    n = 400
    P = np.diag(np.full(n - 1, 0.1), 1) + np.diag(np.full(n - 1, 0.9), -1)
    P += np.diag(1 - P.sum(axis=1))
    assert reversible(Chain.from_matrix(P)).reversible


@pytest.mark.parametrize(("stay", "leave"), [(0.5, 0.5 + 4e-10), (1e-10, 1 - 1e-10)])
def test_a_node_stays_as_often_as_what_leaves_leaves_it(stay: float, leave: float) -> None:
    found = absorption(Chain.from_matrix([[stay]], ["a"], "a", stop=[leave]))
    exact = sqrt(Fraction(1) - Fraction(leave)) / leave
    assert abs(found.events_sd - exact) <= found.events_sd_bound + 1e-15 * exact


def test_the_deviation_of_slow_runs_is_known_well() -> None:
    [walk] = (case for case in HARD if case.name == "reflecting walk, up 0.1")
    table = {**walk.table, "20": {"(end)": Fraction(1)}}
    names = list(table)
    P = [[float(row.get(j, 0)) for j in names] for row in table.values()]
    found = absorption(Chain.from_matrix(P, names, "0", stop=[float(row.get("(end)", 0)) for row in table.values()]))
    assert found.events_sd_bound <= 1e-11 * found.events_sd
    geometric = absorption(Chain.from_matrix([[1.0]], ["a"], "a", stop=[1e-100]))
    assert geometric.events_sd == pytest.approx(1e100, rel=1e-12)
    assert geometric.events_sd_bound <= 1e-12 * geometric.events_sd


@pytest.mark.parametrize("rare", [1e-100, 1e-160, 1e-200, 1e-250])
def test_the_variance_of_those_few_that_get_there(rare: float) -> None:
    """Of the runs that ever get there, the steps are geometric with 0.8: their variance is 0.8 / 0.2^2."""
    at = hitting(Chain.from_matrix([[0.8, rare], [0, 1]], ["a", "t"], "a", stop=[0.2, 0]), "t").start
    assert at.variance_if_hit is not None
    assert abs(at.variance_if_hit - 20) <= at.variance_if_hit_bound + 1e-13
    assert at.variance_if_hit_bound < 1e-8


def test_a_variance_beside_a_much_longer_one() -> None:
    chain = Chain.from_matrix([[0.5, 0.5, 0], [0, 1, 0], [0, 1e-200, 1]], ["a", "goal", "slow"])
    for state in hitting(chain, "goal").states:
        if state.state == "a":
            assert state.variance is None or abs(state.variance - 2) <= state.variance_if_hit_bound


def test_a_slow_chain_is_known_after_any_number_of_steps() -> None:
    chain = Chain.from_matrix([[1, 1e-17], [0, 1]], ["a", "b"], "a")
    found = within(chain, "b", 10**17).start
    assert abs(found.probability + np.expm1(-1)) <= found.probability_bound + 1e-16
    assert found.probability_bound < 1e-12
    assert within(chain, "b", 10**6).start.probability == pytest.approx(1e-11)


@pytest.mark.parametrize("bad", [2.5, -1, float("nan"), inf, "3", None])
def test_a_number_of_steps_is_a_whole_number(bad: object) -> None:
    chain = Chain.from_matrix([[0.5, 0.5], [0, 1]], ["a", "b"], "a")
    for ask in (within, steps):
        with pytest.raises(AnalysisError, match="whole number"):
            ask(chain, "b", bad)
    if bad is not None:
        with pytest.raises(AnalysisError, match="whole number"):
            quantiles(chain, "b", 0.5, limit=bad)
    assert within(chain, "b", 3.0) == within(chain, "b", 3)


def test_what_is_no_name_is_told() -> None:
    chain = Chain.from_matrix([[0.5, 0.5], [0, 1]], ["a", "b"], "a")
    with pytest.raises(AnalysisError, match="targets are nodes"):
        hitting(chain, 5)
    with pytest.raises(AnalysisError, match="numbers"):
        quantiles(chain, "b", "x")
    for start in (["a", "b"], 3):
        with pytest.raises(ChainError, match="a start is a node"):
            hitting(chain, "b", start)


def grid(rows: int, columns: int) -> sparse.csr_array:
    """Return a walk to the neighbours on a grid."""
    at = np.arange(rows * columns).reshape(rows, columns)
    pairs = [(at[:-1], at[1:]), (at[:, :-1], at[:, 1:])]
    i = np.concatenate([x.ravel() for a, b in pairs for x in (a, b)])
    j = np.concatenate([x.ravel() for a, b in pairs for x in (b, a)])
    n = rows * columns
    return sparse.csr_array((1 / np.bincount(i, minlength=n)[i], (i, j)), shape=(n, n))


def test_a_grid_is_factored() -> None:
    P = grid(60, 60)
    n = P.shape[0]
    chain = Chain.from_matrix(P, None, "5")
    at = hitting(chain, str(n - 1)).start
    keep = np.arange(n - 1)
    direct = splu(sparse.csc_array(sparse.eye_array(n - 1) - P[keep][:, keep])).solve(np.ones(n - 1))[5]
    assert at.mean is not None
    assert at.mean == pytest.approx(direct, rel=1e-9)
    degrees = np.diff(P.indptr)
    law = stationary(chain)
    assert (np.abs(law.law - degrees / degrees.sum()) <= law.law_bound).all()


def test_visits_of_a_large_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the mean, each node's numbers take a solution: they are those that are asked for."""
    monkeypatch.setattr(visits_module, "MANY", 2)
    chain = Chain.from_matrix([[0, 0.5, 0.5], [0.5, 0, 0.25], [0.5, 0.25, 0]], ["a", "b", "c"], stop=[0, 0.25, 0.25])
    found = visits(chain)
    assert [v.reached for v in found.nodes] == [None, None, None]
    assert found.unasked == 3
    assert "name nodes" in str(found)
    some = visits(chain, nodes=["c", "b"])
    monkeypatch.undo()
    assert list(some.nodes) == [visits(chain).nodes[1], visits(chain).nodes[2]]
    assert [v.visits for v in found.nodes] == [v.visits for v in visits(chain).nodes]


def test_a_long_law_is_refused() -> None:
    with pytest.raises(AnalysisError, match="too long"):
        steps(Chain.from_matrix([[0.5, 0.5], [0, 1]], ["a", "b"], "a"), "b", 10**8)


def test_a_chance_of_nearly_nothing_spoils_no_variance() -> None:
    chain = Chain.from_matrix([[0, 1e-200, 0], [0, 0, 1e-200], [0, 0, 1]], ["a", "b", "t"], "a", stop=[1, 1, 0])
    found = hitting(chain, "t")
    assert 0 < found.start.probability_bound < 1e-280
    assert found.states[1].mean_if_hit == 1


def test_the_news_of_a_step_is_known_as_well_as_its_row_sums_to_one() -> None:
    stay, stop = 1e-15, 1 - 1e-15
    found = stationary(Chain.from_matrix([[stay]], ["a"], "a", stop=[stop]))
    for chance in (stay, float(1 - Fraction(stop))):
        news = -(chance * np.log2(chance) + stop * np.log2(stop)) / stop
        assert abs(found.run_entropy - news) <= found.run_entropy_bound + 1e-28
