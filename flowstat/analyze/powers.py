"""The mixing time by the powers of a class, with all that rounding may do to them added up."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, Vector

__all__ = ["by_powers", "followed"]

FOLLOWED = 200_000_000
"""How many operations are spent on following the law from one state of a large class."""

Power = tuple[Vector, float]
"""A power of a matrix, and how far the entries of any of its rows may be off in sum."""


def by_powers(P: Vector, law: Solved, epsilon: float, unit: float) -> tuple[float, float]:
    """Return bounds of the mixing time of a class: the same where rounding leaves no doubt.

    Parameters
    ----------
    P : (n, n)
        Its chances.
    law : (n,)
        Its stationary law.
    epsilon
        Distance in total variation.
    unit
        How far the rows of P may be off in sum.

    Returns
    -------
    The bounds; the second is `inf` if the class is so slow that the powers are lost in rounding.

    Notes
    -----
    The distance `d(t)` never rises, and each bound is one power's whose distance is known well enough. A product adds
    up the errors of both factors (their rows sum to 1) and n + 3 units.
    """
    n = len(P)

    def distance(power: Power) -> tuple[float, float]:
        M, off = power
        far = float(np.abs(M - law.values).sum(axis=1).max()) / 2
        return far, 0.51 * (off + float(law.bound.sum()) + (n + 4) * 2 * UNIT)

    def surely(power: Power) -> bool:
        far, off = distance(power)
        return far - off > epsilon

    def maybe(power: Power) -> bool:
        far, off = distance(power)
        return far + off > epsilon

    start: Power = np.eye(n), 0.0
    if not maybe(start):
        return 0.0, 0.0
    powers: list[Power] = [(P, 2 * unit)]
    while maybe(powers[-1]):
        if powers[-1][1] > epsilon / 4:
            return _last(powers, start, surely)[0] + 1 if surely(start) else 0.0, inf
        powers.append(_product(powers[-1], powers[-1]))
    least = _last(powers, start, surely)[0] + 1 if surely(start) else 0.0
    return float(least), float(_last(powers, start, maybe)[0] + 1)


def _last(powers: list[Power], start: Power, still: Callable[[Power], bool]) -> tuple[float, Power]:
    """Return the last time at which something still holds, by bisection from the largest power down."""
    time, at = 0, start
    for k in range(len(powers) - 1, -1, -1):
        onward = _product(at, powers[k]) if time else powers[k]
        if still(onward):
            time, at = time + 2**k, onward
    return time, at


def _product(a: Power, b: Power) -> Power:
    n = len(a[0])
    return a[0] @ b[0], 1.01 * (a[1] + b[1] + a[1] * b[1] + (n + 3) * UNIT)


def followed(P: sparse.csr_array, law: Solved, epsilon: float, unit: float) -> float:
    """Return a lower bound of the mixing time of a large class: what it takes from a few states that are far away."""
    n = P.shape[0]
    home = int(np.argmax(law.values))
    order = csgraph.breadth_first_order(sparse.csr_array(P.T), home, return_predecessors=False)
    starts = np.unique([home, int(np.argmin(law.values)), int(order[-1])])
    x = np.zeros((n, len(starts)))
    x[starts, np.arange(len(starts))] = 1.0
    onward = sparse.csr_array(P.T)
    least, off = 0.0, float(law.bound.sum()) + 2 * (n + 4) * UNIT
    for step in range(max(10, FOLLOWED // (P.nnz * len(starts)))):
        far = float(np.abs(x - law.values[:, None]).sum(axis=0).max()) / 2
        if far - 0.51 * (off + 2 * step * unit) <= epsilon:
            break
        least = step + 1.0
        x = onward @ x
    return least
