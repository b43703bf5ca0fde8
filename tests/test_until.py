"""Until in a window of steps: against powers of dense matrices, and its gradient against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze.closing import closed_chain, end_name
from flowstat.analyze.collected import Collected
from flowstat.analyze.hitting import hitting
from flowstat.analyze.lasting import Lasting
from flowstat.analyze.steps import within
from flowstat.analyze.until import Until
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from tests.oracles import chain_of, chains, pit, shop

ROUNDED = 1e-13


def played(P, left, right, low, high, failing=False):
    """Return the chance of a window by steps from the end of it; without an end after very many."""
    y = right.astype(float)
    if high is None:
        for _ in range(60):
            # Twice as many steps each time.
            y = np.where(right, 1.0, np.where(left, P @ y, 0.0))
        inner = left & ~right
        step = np.linalg.matrix_power(np.where(inner[:, None], P, np.eye(len(P))), 2**40)
        y = step @ y
    for _ in range(0 if high is None else high - low):
        y = np.where(right, 1.0, np.where(left, P @ y, 0.0))
    for _ in range(low):
        y = np.where(left, P @ y, 0.0)
    return 1 - y if failing else y


@st.composite
def questions(draw):
    """Draw a closed chain with two sets of states and a window."""
    chain = draw(chains(traps=True))
    n = len(chain.names) + 1
    left, right = (np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))) for _ in range(2))
    low = draw(st.integers(0, 4))
    high = draw(st.none() | st.integers(low, low + 6))
    return closed_chain(chain, chain.start), left, right, low, high, draw(st.booleans())


@given(questions())
@settings(max_examples=120)
def test_the_chances_are_those_of_the_steps(question) -> None:
    closed, left, right, low, high, failing = question
    P = closed.P.toarray()
    found = Until(closed, left, right, low, high, failing)
    expected = played(P, left, right, low, high, failing)
    assert (np.abs(found.solved.values - expected) <= found.solved.bound + ROUNDED).all()
    assert (found.never == (expected < 1e-9)).all()
    assert (found.always == (expected > 1 - 1e-9)).all()
    assert (found.solved.values[found.never] <= found.solved.bound[found.never]).all()
    if found.other is not None:
        assert np.allclose(found.other.values, 1 - expected, atol=ROUNDED)


@given(questions())
@settings(max_examples=60)
def test_the_gradient_is_that_of_the_chances(question) -> None:
    closed, left, right, low, high, failing = question
    P = closed.P.toarray()
    gradient = Until(closed, left, right, low, high, failing).gradient(closed.start)
    rows, columns, _ = closed.arrows()

    def value(k, change):
        moved = P.copy()
        moved[rows[k], columns[k]] += change
        high_enough = 400 + low if high is None else high
        y = right.astype(float)
        for _ in range(high_enough - low):
            y = np.where(right, 1.0, np.where(left, moved @ y, 0.0))
        for _ in range(low):
            y = np.where(left, moved @ y, 0.0)
        return float(closed.start @ y) * (-1 if failing else 1)

    for k in range(len(rows)):
        if P[rows[k], rows[k]] == 1:
            continue
        change = 1e-7
        found = (value(k, change) - value(k, -change)) / (2 * change)
        assert abs(found - gradient[k]) <= 1e-4 * (1 + abs(found))


def test_many_steps_are_those_of_the_other_analyses() -> None:
    chain = shop()
    closed = closed_chain(chain, chain.start)
    every = np.ones(len(closed.names), bool)
    goal = np.zeros_like(every)
    goal[chain.index["ship"]] = True
    for steps in (7, 1000, 10**15):
        found = Until(closed, every, goal, 0, steps)
        expected = within(chain, "ship", steps)
        assert found.solved.values[:-1] == pytest.approx([s.probability for s in expected.states], rel=1e-12)
    settled = Until(closed, every, goal, 0, 10**9).gradient(closed.start)
    assert settled == pytest.approx(Until(closed, every, goal, 0, 5000).gradient(closed.start), rel=1e-9)
    assert Until(closed, every, goal).solved.values[:-1] == pytest.approx(
        [s.probability for s in hitting(chain, "ship").states], rel=1e-12
    )


def test_a_chance_of_the_opposite_loses_no_digits() -> None:
    chain = chain_of({"a": {"a": 0.5, "b": 0.5}, "b": {}}, "a")
    closed = closed_chain(chain, chain.start)
    every = np.ones(3, bool)
    goal = np.array([False, True, False])
    still = Until(closed, every, goal, 0, 200, failing=True)
    assert still.solved.values[0] == pytest.approx(0.5**200, rel=1e-13, abs=0)
    assert still.solved.bound[0] < 1e-12 * 0.5**200
    rare = chain_of({"a": {"b": 1.0, "(end)": 1e-20}, "b": {}, "c": {}}, "a")
    closed = closed_chain(rare, rare.start)
    goal = np.array([False, True, False, False])
    missed = Until(closed, np.ones(4, bool), goal, failing=True)
    assert missed.solved.values[0] == pytest.approx(1e-20, rel=1e-13, abs=0)
    assert missed.other is not None
    assert missed.other.values[0] == 1
    assert not missed.always[0]


def test_steps_before_the_window_are_bounded() -> None:
    # Two nodes by turns: nothing settles, and nobody waits for it.
    turns = Chain.from_matrix([[0, 1], [1, 0]], ["a", "b"], "a")
    closed = closed_chain(turns, turns.start)
    every, a = np.ones(3, bool), np.array([True, False, False])
    assert Until(closed, every, a, 1001, 1001).solved.values.tolist() == [0.0, 1.0, 0.0]
    late = Until(closed, every, a, 10**15, 10**15)
    for ask in (lambda: late.solved, lambda: late.never, lambda: late.gradient(closed.start)):
        with pytest.raises(AnalysisError, match="too many"):
            ask()
    # Once all is settled the last steps do not count; before, they are too many.
    assert Until(closed, every, a, 0, 10**12).gradient(closed.start).tolist() == [0.0, 0.0, 0.0]
    slow = chain_of({"a": {"a": 1 - 2**-40, "b": 2**-40}, "b": {}}, "a")
    closed = closed_chain(slow, slow.start)
    with pytest.raises(AnalysisError, match="hangs on"):
        Until(closed, every, np.array([False, True, False]), 0, 10**11).gradient(closed.start)
    # The chance itself is leapt to.
    slow = Chain.from_matrix([[0.999, 0.001], [0, 1]], ["a", "b"], "a")
    closed = closed_chain(slow, slow.start)
    b = np.array([False, True, False])
    found = Until(closed, every, b, 0, 10**6, failing=True)
    assert found.solved.values[0] == pytest.approx(0.999**10**6, abs=1e-9)


def test_early_ends_of_steps_keep_their_bound() -> None:
    chain = chain_of({"a": {"a": 0.25, "b": 0.75}, "b": {"b": 1.0}}, "a")
    closed = closed_chain(chain, chain.start)
    right = np.array([False, True, False])
    found = Until(closed, np.ones(3, bool), right, 5000, 5000)
    assert abs(found.solved.values[0] - 1) <= found.solved.bound[0] + 1e-16
    assert found.solved.bound[0] < 1e-10
    assert found.always[0] is np.False_


def longest(k):
    """Return a line of k nodes, each of which may skip the next one."""
    table = {f"n{i}": {f"n{i + 1}": 0.5, f"n{min(k - 1, i + 2)}": 0.5} for i in range(k - 2)}
    table[f"n{k - 2}"] = {f"n{k - 1}": 1.0}
    table[f"n{k - 1}"] = {}
    return chain_of(table, "n0")


@pytest.mark.parametrize("steps", [4, 5, 8, 9, 10])
def test_every_run_is_there_in_time_by_the_longest_way(steps: int) -> None:
    chain = longest(10)
    closed = closed_chain(chain, chain.start)
    goal = np.zeros(11, bool)
    goal[9] = True
    found = Until(closed, np.ones(11, bool), goal, 0, steps)
    assert bool(found.always[0]) is (steps >= 9)
    assert bool(found.never[0]) is (steps < 5)


def average(P, inside, steps=2**22):
    """Return the share of very many steps at some states, for chains of periods 1 and 2."""
    late = np.linalg.matrix_power(P, steps)
    return (late @ inside + late @ P @ inside) / 2


@given(st.integers(0, 2**7 - 1))
def test_the_long_run_is_that_of_many_steps(code: int) -> None:
    chain = pit()
    closed = closed_chain(chain, chain.start)
    P = closed.P.toarray()
    inside = np.array([code >> k & 1 for k in range(len(P))], bool)
    found = Lasting(closed, inside)
    expected = average(P, inside.astype(float))
    assert (np.abs(found.solved.values - expected) <= found.solved.bound + 1e-9).all()
    assert (np.abs(found.other.values - (1 - expected)) <= found.other.bound + 1e-9).all()
    assert (found.never == (expected < 1e-9)).all()
    assert (found.always == (expected > 1 - 1e-9)).all()
    gradient = found.gradient(closed.start)
    rows, columns, _ = closed.arrows()
    for k in range(len(rows) - 1):
        if rows[k] != rows[k + 1]:
            continue
        # From one arrow of a node to the next.
        values = []
        for change in (1e-6, -1e-6):
            moved = P.copy()
            moved[rows[k], columns[k]] += change
            moved[rows[k], columns[k + 1]] -= change
            values.append(float(closed.start @ average(moved, inside.astype(float))))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient[k] - gradient[k + 1], abs=1e-5)


@given(questions())
@settings(max_examples=60)
def test_what_is_collected_is_the_sum_of_the_steps(question) -> None:
    closed, _, goal, *_ = question
    P = closed.P.toarray()
    found = Collected(closed, goal)
    one = np.where(goal, 0.0, 1.0)
    one[-1] = 0.0
    hit = played(P, np.ones(len(goal), bool), goal, 0, None)
    x = np.zeros(len(goal))
    for _ in range(3000):
        x = np.where(goal, 0.0, one + P @ x)
    sure = hit > 1 - 1e-9
    assert (found.infinite == ~sure).all()
    assert np.allclose(found.solved.values[sure], x[sure])
    assert np.isinf(found.solved.values[~sure]).all()


def test_the_end_has_a_name_of_its_own() -> None:
    chain = Chain.from_matrix(np.eye(2), ["end", "end'"], "end")
    assert end_name(chain) == "end''"
    assert closed_chain(chain, chain.start).names == ("end", "end'", "end''")
