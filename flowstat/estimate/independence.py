"""Whether what events send depends on something: tests of tables of counts, and many of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from flowstat.errors import ChainError

__all__ = ["Dependence", "adjusted", "independence", "stated_rate"]

Index = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]

Method = Literal["chi-square", "Monte Carlo"]

ROWS, COLUMNS = 64, 32
"""A table is tested with so many rows and columns at most: the rarest ones are taken together."""

EXPECTED = 10.0
"""From how many expected events in every cell on the chi-square law is near enough."""

ENOUGH = 20
"""Drawing ends when so many tables were as uneven as the one that was seen."""

AT_ONCE = 1 << 18
"""Cells drawn at a time."""

TIE = 1e-9


@dataclass(frozen=True)
class Dependence:
    """What a table of counts says of whether its columns depend on its rows.

    Attributes
    ----------
    events
        How many there are in the table.
    rows, columns
        How many rows and columns have any.
    statistic
        Of the likelihood ratio: `G = 2 sum n log(n / expected)`.
    degrees
        `(rows - 1) (columns - 1)`, of the table that was tested.
    p_value
        Chance of such a G or a larger one if nothing depends on the row.
    method
        Where the p-value is from.
    bits
        How much of what is sent the row tells, in bits per event: `(G - degrees) / (2 n log 2)`, at least 0; an
        estimate.
    row, column
        The cell that is the furthest from what is expected, in standard deviations.
    share, elsewhere
        Share of the column in that row, and in all other rows.
    pooled
        Whether rare rows or columns were taken together.
    """

    events: int
    rows: int
    columns: int
    statistic: float
    degrees: int
    p_value: float
    method: Method
    bits: float
    row: int
    column: int
    share: float
    elsewhere: float
    pooled: bool


def independence(
    rows: Index, columns: Index, numbers: Index, random: np.random.Generator, draws: int = 9_999
) -> Dependence | None:
    """Test whether the columns of a table depend on its rows.

    Parameters
    ----------
    rows, columns, numbers : (m,)
        Events by row and column; a cell may come several times.
    random
        Draws tables where the law of the statistic is not known.
    draws
        How many at most.

    Returns
    -------
    Dependence
        None where there is nothing to compare: no two rows, or no two columns.

    Notes
    -----
    Where every cell has `EXPECTED` expected events or more, G over Williams' correction is held against the chi-square
    law (Williams, Biometrika 63 (1976)). Elsewhere tables with the same margins are drawn, until `ENOUGH` are as uneven
    as this one or there are as many as `draws`; that p-value is valid for any number of draws (Besag and Clifford,
    Biometrika 78 (1991)), and no less than `1 / (draws + 1)`. Of the next steps of a Markov chain the tables with the
    same margins are equally probable up to terms that vanish with the number of events (Billingsley, Annals of
    Mathematical Statistics 32 (1961)).

    Examples
    --------
    >>> found = independence(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([90, 10, 10, 90]),
    ...     np.random.default_rng(0))
    >>> found.method, found.p_value < 1e-20, found.share, found.elsewhere
    ('chi-square', True, 0.9, 0.1)
    """
    row_sums, column_sums = (np.bincount(k, numbers).astype(np.int64) for k in (rows, columns))
    seen = int((row_sums > 0).sum()), int((column_sums > 0).sum())
    if min(seen) < 2:
        return None
    (row_place, row_number), (column_place, column_number) = _kept(row_sums, ROWS), _kept(column_sums, COLUMNS)
    table = np.zeros((row_number, column_number), np.int64)
    np.add.at(table, (row_place[rows], column_place[columns]), numbers)
    right, below = table.sum(axis=1), table.sum(axis=0)
    n = int(table.sum())
    expected = np.outer(right, below) / n
    statistic = 2 * float(special.xlogy(table, table / expected).sum())
    degrees = (row_number - 1) * (column_number - 1)
    method: Method = "chi-square" if expected.min() >= EXPECTED else "Monte Carlo"
    if method == "chi-square":
        # Written so that nothing cancels for even margins.
        spread = float((n / right).sum() - 1) * float((n / below).sum() - 1)
        p_value = float(special.chdtrc(degrees, statistic / (1 + spread / (6 * n * degrees))))
    else:
        p_value = _drawn(table, right, below, random, draws)
    bits = max(0.0, (statistic - degrees) / (2 * n * float(np.log(2))))
    pooled = seen != table.shape
    row, column, share, elsewhere = _furthest(rows, columns, numbers, row_sums, column_sums)
    return Dependence(n, *seen, statistic, degrees, p_value, method, bits, row, column, share, elsewhere, pooled)


def adjusted(p_values: Iterable[float]) -> list[float]:
    """Return p-values adjusted so that those at most q have a false discovery rate of at most q.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995): of the k-th smallest of m, the
    least of `p m / k` from there on.

    Examples
    --------
    >>> adjusted([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    p = np.array(list(p_values), np.float64)
    if not len(p):
        return []
    order = np.argsort(p, kind="stable")
    raised = p[order] * (len(p) / np.arange(1, len(p) + 1))
    found = np.empty(len(p))
    found[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return [float(value) for value in found]


def stated_rate(rate: float) -> float:
    """Return a rate of false alarms.

    Raises
    ------
    ChainError
        If it is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise ChainError(f"a rate of false alarms is between 0 and 1, not {rate}")
    return float(rate)


def _kept(sums: Index, most: int) -> tuple[Index, int]:
    """Return the place of each row among those that are kept, the rare ones last and together, and how many."""
    order = np.argsort(-sums, kind="stable")
    number = min(int((sums > 0).sum()), most)
    place = np.full(len(sums), number - 1, np.int64)
    place[order[:number]] = np.arange(number)
    return place, number


def _drawn(table: Index, right: Index, below: Index, random: np.random.Generator, draws: int) -> float:
    """Return the share of tables with the same margins that are as uneven as one."""
    law = stats.random_table(right, below)
    seen = float(special.xlogy(table, table).sum())
    seen -= TIE * (1 + abs(seen))
    step = max(1, min(256, AT_ONCE // table.size))
    uneven = made = 0
    while made < draws:
        some = law.rvs(min(step, draws - made), random_state=random)
        as_much = np.cumsum(special.xlogy(some, some).sum(axis=(1, 2)) >= seen)
        if uneven + as_much[-1] >= ENOUGH:
            return ENOUGH / (made + int(np.searchsorted(as_much, ENOUGH - uneven)) + 1)
        uneven += int(as_much[-1])
        made += len(as_much)
    return (uneven + 1) / (made + 1)


def _furthest(rows: Index, columns: Index, numbers: Index, right: Index, below: Index) -> tuple[int, int, float, float]:
    """Return the cell that is the furthest from its expectation, its share in its row, and that in all others."""
    keys, place = np.unique(rows * len(below) + columns, return_inverse=True)
    cells = np.bincount(place, numbers)
    at, to = keys // len(below), keys % len(below)
    n = float(right.sum())
    expected = right[at] * (below[to] / n)
    variance = expected * ((n - right[at]) / n) * ((n - below[to]) / n)
    off = np.abs(cells - expected) / np.sqrt(np.where(variance > 0, variance, np.inf))
    k = int(np.argmax(off))
    inside, whole = float(right[at[k]]), float(below[to[k]])
    return int(at[k]), int(to[k]), float(cells[k]) / inside, (whole - float(cells[k])) / (n - inside)
