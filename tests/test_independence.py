"""Tests of tables against scipy, brute force over all tables, and data in which nothing depends on anything."""

from math import comb, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flowstat.estimate import independence as module
from flowstat.estimate.independence import adjusted, independence

TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 6), min_size=width, max_size=width), min_size=2, max_size=3)
)


def held(table, seed=0, draws=9_999):
    table = np.asarray(table)
    rows, columns = np.nonzero(np.ones_like(table))
    return independence(rows, columns, table.ravel(), np.random.default_rng(seed), draws)


def brute(table):
    """Return the chance of a statistic as large, over all tables with the same margins."""
    table = np.asarray(table)
    right, below = table.sum(axis=1), table.sum(axis=0)

    def statistic(cells):
        cells = np.asarray(cells, float)
        return float((cells[cells > 0] * np.log(cells[cells > 0])).sum())

    def fill(row, left):
        if row == len(right) - 1:
            yield (tuple(left),)
            return
        for first in compositions(right[row], left):
            for rest in fill(row + 1, [a - b for a, b in zip(left, first, strict=True)]):
                yield (first, *rest)

    def compositions(total, most):
        if len(most) == 1:
            if total <= most[0]:
                yield (total,)
            return
        for k in range(min(total, most[0]) + 1):
            for rest in compositions(total - k, most[1:]):
                yield (k, *rest)

    seen, whole, tail = statistic(table), 0, 0
    for cells in fill(0, below.tolist()):
        left = below.tolist()
        weight = 1
        for row in cells:
            weight *= prod(comb(a, b) for a, b in zip(left, row, strict=True))
            left = [a - b for a, b in zip(left, row, strict=True)]
        whole += weight
        tail += weight * (statistic(cells) >= seen - 1e-9)
    return tail / whole


@settings(max_examples=60)
@given(TABLES)
def test_the_statistic_is_that_of_scipy(table):
    table = np.asarray(table)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    found = held(table)
    if min(table.shape) < 2:
        assert found is None
        return
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert found.degrees == expected.dof
    assert (found.events, found.rows, found.columns) == (table.sum(), *table.shape)
    row, column = found.row, found.column
    assert found.share == pytest.approx(table[row, column] / table[row].sum())
    others = table.sum(axis=0) - table[row]
    assert found.elsewhere == pytest.approx(others[column] / others.sum())


@settings(max_examples=40)
@given(TABLES)
def test_drawn_p_values_are_those_of_all_tables(table):
    found = held(table, draws=4_000)
    if found is not None and found.method == "Monte Carlo":
        p = brute(np.asarray(table)[:, np.asarray(table).sum(axis=0) > 0])
        off = 5 * (p * (1 - p) / 4_000) ** 0.5 + 2 / 4_000
        # Drawing ends early where p is large: then it is known to a fifth or so.
        assert abs(found.p_value - p) <= max(off, 1.2 * p if found.p_value > 0.01 else 0.0)


def test_many_expected_events_take_the_chi_square_law():
    table = [[500, 400, 300], [450, 420, 330]]
    found = held(table)
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert found.method == "chi-square"
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.02)


def test_a_drawn_p_value_is_never_0():
    found = held([[9, 0], [0, 9]], draws=99)
    assert found.p_value == pytest.approx(1 / 100)
    assert found.bits == pytest.approx((found.statistic - 1) / (2 * 18 * np.log(2)))


def test_rare_rows_and_columns_are_taken_together():
    random = np.random.default_rng(5)
    rows, columns = np.arange(500), random.integers(0, 200, 500)
    columns[:2] = 0
    found = independence(rows, columns, np.ones(500, np.int64), random)
    assert (found.rows, found.columns) == (500, len(set(columns.tolist())))
    assert found.pooled
    assert found.degrees == (module.ROWS - 1) * (module.COLUMNS - 1)
    assert found.p_value > 0.01


@pytest.mark.parametrize("size", [(4, 3, 30), (3, 3, 3000)])
def test_where_nothing_depends_on_anything_p_values_are_even(size):
    rows, columns, n = size
    random = np.random.default_rng(7)
    values = []
    for k in range(600):
        cells = random.integers(0, rows, n) * columns + random.choice(columns, n, p=[0.7, 0.2, 0.1])
        table = np.bincount(cells, minlength=rows * columns).reshape(rows, columns)
        found = held(table, seed=k, draws=999)
        values.append(1.0 if found is None else found.p_value)
    for level in (0.01, 0.05, 0.2):
        assert sum(p <= level for p in values) <= 600 * level + 4 * (600 * level * (1 - level)) ** 0.5
    assert sum(p <= 0.5 for p in values) > 200


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=20))
def test_adjusted_values_are_those_of_scipy(values):
    expected = stats.false_discovery_control(values).tolist() if values else []
    assert adjusted(values) == pytest.approx(expected)
