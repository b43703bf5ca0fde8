"""Arithmetic with answers whose errors are bounded: what comes out has a proven bound, too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, Solver, total

__all__ = ["closed_states", "dot", "exact", "minus", "plus", "quotient", "root", "row_sums", "times"]

Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

MARGIN = 1.01
"""The bounds are rounded, too, and this is more than that can take away."""


def exact(values: npt.ArrayLike) -> Solved:
    """Return numbers that are known as they are stored."""
    array = np.asarray(values, np.float64)
    return Solved(array, np.zeros_like(array))


def plus(a: Solved, b: Solved) -> Solved:
    """Return a sum."""
    values = a.values + b.values
    return Solved(values, MARGIN * (a.bound + b.bound + UNIT * np.abs(values)))


def minus(a: Solved, b: Solved) -> Solved:
    """Return a difference; where a and b are close it is known no better than they are."""
    values = a.values - b.values
    return Solved(values, MARGIN * (a.bound + b.bound + UNIT * np.abs(values)))


def times(a: Solved, b: Solved) -> Solved:
    """Return a product."""
    values = a.values * b.values
    off = np.abs(a.values) * b.bound + a.bound * np.abs(b.values) + a.bound * b.bound
    return Solved(values, MARGIN * (off + UNIT * np.abs(values)))


def quotient(a: Solved, b: Solved) -> Solved:
    """Return a quotient; 0 with an infinite bound where the divisor can't be told from 0."""
    least = np.abs(b.values) - b.bound
    known = least > 0
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.divide(a.values, b.values, out=np.zeros(np.broadcast(a.values, least).shape), where=known)
        # |a/b - A/B| = |(a - A) - (a/b) (b - B)| / |B|
        off = MARGIN * ((a.bound + np.abs(values) * b.bound) / np.where(known, least, 1.0) + UNIT * np.abs(values))
    known = known & np.isfinite(values) & np.isfinite(off)
    return Solved(np.where(known, values, 0.0), np.where(known, off, np.inf))


def dot(a: Solved, b: Solved) -> Solved:
    """Return the sum of the products."""
    return total(times(a, b))


def root(a: Solved) -> Solved:
    """Return the root of numbers of at least 0."""
    values = np.sqrt(np.maximum(a.values, 0.0))
    # |sqrt a - sqrt b| is no more than the root of |a - b|, nor than |a - b| / sqrt a.
    with np.errstate(over="ignore"):
        apart = np.divide(a.bound, values, out=np.full_like(values, np.inf), where=values > 0)
    return Solved(values, MARGIN * (np.minimum(np.sqrt(a.bound), apart) + UNIT * values))


def row_sums(rows: Index, of: Solved, n: int) -> Solved:
    """Return the sums of the entries of each of n rows."""
    values = np.bincount(rows, of.values, n).astype(np.float64)
    sizes = np.bincount(rows, np.abs(of.values), n)
    terms = np.bincount(rows, minlength=n)
    return Solved(values, MARGIN * (np.bincount(rows, of.bound, n) + (terms + 2) * UNIT * sizes))


def closed_states(solver: Solver) -> Mask:
    """Return which states are in a class that nothing leaves."""
    mask = np.zeros(solver.n, bool)
    parts = solver.closed
    if parts:
        mask[np.concatenate(parts)] = True
    return mask
