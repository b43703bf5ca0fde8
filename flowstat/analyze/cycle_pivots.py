"""The elimination of some states in many orders at once, and what its pivots tell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowstat.analyze.elimination import UNIT, divisor

__all__ = ["add_outer", "eliminated", "orders_of", "product", "spread_of"]

LOG_2 = float(np.log(2.0))

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Path = tuple[int, ...]


def orders_of(states: Index, paths: list[Path]) -> Index:
    """Return for each cycle its nodes, and then all others of the states, as places in these."""
    place = {int(i): k for k, i in enumerate(states.tolist())}
    found = []
    for path in paths:
        own = [place[i] for i in path]
        rest = np.delete(np.arange(len(states)), own)
        found.append(np.concatenate([own, rest]))
    return np.array(found, np.int64)


def eliminated(
    moves: Vector, out: Vector, inflow: Vector, orders: Index, lengths: Index, closed: bool
) -> tuple[Vector, Vector]:
    """Eliminate the states of each order from the last to the first.

    Returns
    -------
    pivots : (m, u)
        Chances to leave what comes before, for good.
    hit : (m, 2)
        Chance to come to the first `lengths` states, and how far the inflow may make that be off.
    """
    A, o, x = moves[orders[:, :, None], orders[:, None, :]], out[orders], inflow[orders]
    m, u = orders.shape
    pivots = np.zeros((m, u))
    for k in range(u - 1, 0, -1):
        pivot = pivots[:, k] = A[:, k, :k].sum(axis=1) + o[:, k]
        divisor(float(pivot.min()))
        into = A[:, :k, k] / pivot[:, None]
        passed = np.where((k >= lengths)[:, None], x[:, k] / pivot[:, None], 0.0)
        x[:, :k] += A[:, k, :k, None] * passed[:, None, :]
        if m > 1:
            A[:, :k, :k] += into[:, :, None] * A[:, k, None, :k]
        else:
            add_outer(A[0, :k, :k], into[0], A[0, k, :k])
        o[:, :k] += into * o[:, k, None]
    pivots[:, 0] = o[:, 0]
    if not closed:
        divisor(float(o[:, 0].min()))
    on = np.arange(u) < lengths[:, None]
    hit: Vector = np.where(on[:, :, None], x, 0.0).sum(axis=1)
    return pivots, hit


def add_outer(block: Vector, left: Vector, right: Vector) -> None:
    """Add the outer product of two vectors to a block; where most of them is 0, only there where it is not."""
    rows, columns = np.flatnonzero(left), np.flatnonzero(right)
    if 4 * len(rows) * len(columns) < block.size:
        block[np.ix_(rows, columns)] += np.multiply.outer(left[rows], right[columns])
    else:
        block += np.multiply.outer(left, right)


def spread_of(made: list[tuple[Vector, Vector]], lengths: Index, closed: bool) -> tuple[Vector, Vector]:
    """Return how far the product of pivots may be off relatively, and how far the chance to hit.

    The products of all pivots, of those of the states off a cycle, and of the latter times the chance to hit are sums
    of products of chances (the theorem of forests): they grow with each of them. What is sought are their quotients.
    """
    (_, middle), (least, low), (most, high) = made
    first = int(closed)
    with np.errstate(divide="ignore", over="ignore"):
        each = np.log(most[:, first:] / least[:, first:])
        off = np.arange(first, least.shape[1]) >= lengths[:, None]
        rest = np.where(off, each, 0.0).sum(axis=1)
        spread = np.expm1(each.sum(axis=1) + rest + 8 * least.shape[1] * UNIT)
        wide = np.exp(rest)
        doubt = np.maximum(high[:, 0] * wide - middle[:, 0], middle[:, 0] - low[:, 0] / wide)
    return spread, np.maximum(doubt, 0.0)


def product(factors: Vector) -> tuple[Vector, Vector]:
    """Return the product of each row, without overflow on the way, and its logarithm."""
    value, power = np.ones(len(factors)), np.zeros(len(factors), np.int64)
    for column in factors.T:
        value, more = np.frexp(value * column)
        power += more
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        return np.ldexp(value, np.clip(power, -2000, 2000)), np.log(value) + power * LOG_2
