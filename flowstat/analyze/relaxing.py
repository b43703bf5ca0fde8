"""A large class that mixes fast, without compiled code: gone round in, with what goes in kept equal to what comes out.

`x = (b + A x) / moving` again and again forgets where it began as fast as the class mixes, except how large x is as a
whole: that shrinks only as fast as the class is left. So after some rounds x is scaled, or shifted, by the balance of
the whole class (aggregation to one state: Stewart, Introduction to the Numerical Solution of Markov Chains (1994),
section 6.3). Nothing is claimed of the answer: `flowstat.analyze.large` proves a bound of it, or refuses it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

__all__ = ["relax"]

Vector = npt.NDArray[np.float64]

ROUNDS = 8
"""Rounds between two corrections."""

MOST = 4000
"""Rounds after which a class is said to mix too slowly."""


def relax(off: sparse.csr_array, moving: Vector, right: Vector, weights: Vector, accuracy: float) -> Vector | None:
    """Solve `moving x = right + off x`, (n, q); None if it does not get there.

    Parameters
    ----------
    weights : (n,)
        Roughly how often the class is at each state, for a system of gains; ones for a system of visits: with these the
        equations are added up to the one of the whole class.
    accuracy
        How small the residual has to be, relative to the sizes of what it is the difference of.
    """
    away = moving[:, None]
    whole = weights @ (away - (off @ np.ones_like(away)))
    shape = off.T @ weights
    if not whole[0] > 0:
        return None
    x = right / away
    worst = previous = np.inf
    for k in range(0, MOST, ROUNDS):
        for _ in range(ROUNDS):
            x = (right + off @ x) / away
        # What the weighted equations say together.
        balance = weights @ right - (weights * moving - shape) @ x
        direction = _direction(x)
        x += direction * (balance / ((weights * moving - shape) @ direction))
        inside = off @ x
        size = np.abs(right) + away * np.abs(x) + np.abs(inside)
        worst = float((np.abs(right - (away * x - inside)).max(axis=0) / np.maximum(size.max(axis=0), 1e-300)).max())
        if worst <= accuracy:
            return x
        if k >= 10 * ROUNDS and worst > 0.97 * previous:
            return x if worst <= 100 * accuracy else None
        previous = worst
    return None


def _direction(x: Vector) -> Vector:
    """Return the shape of what is left of an error: that of the answer where it has one sign, else a constant."""
    return np.where((x > 0).all(axis=0), x, 1.0)
