"""One large class, solved by the first way that gets there, and its bound proven.

A narrow band is eliminated (`flowstat.analyze.banded`). Else the class is relaxed, by compiled code
(`flowstat.analyze.sweeps`) or without it (`flowstat.analyze.relaxing`), or, if it mixes too slowly for that, factored
(`flowstat.analyze.factors`); of their answers x the residual r proves a bound: with M = I - Q of the class and any v
such that `M v` is positive, `|x - exact| <= v max(|r| / M v)`, since the inverse of the M-matrix M has no negative
entry (Berman and Plemmons, Nonnegative Matrices in the Mathematical Sciences (1994), chapter 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze import sweeps
from flowstat.analyze.banded import narrow_order, solve_band, spreads
from flowstat.analyze.factors import factored
from flowstat.analyze.relaxing import relax
from flowstat.analyze.sweep_code import sweeping
from flowstat.analyze.sweeps import Sweeps, System

__all__ = ["LargeClass", "residual"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

TOGETHER = 8
"""How many columns are swept together: each takes some 50 bytes a state."""


def residual(off: sparse.csr_array, moving: Vector, x: Vector, right: Vector, unit: float) -> Vector:
    """Return how far an answer is from solving `moving x = right + off x`, at most; rounding is `unit` of the sizes."""
    rounded = unit * (np.abs(right) + moving * np.abs(x) + off @ np.abs(x))
    result: Vector = np.abs(right - (moving * x - off @ x)) + rounded
    return result


@dataclass
class LargeClass:
    """A class with what was found out about it; k of a chain's n states.

    Attributes
    ----------
    P, stop : (n, n), (n,)
        The chain.
    states : (k,)
        Those of the class.
    leaving : (k,)
        Chance of leaving it.
    unit, inward
        What rounding may do to a sum over a row, and over a column.
    """

    P: sparse.csr_array
    stop: Vector
    states: Index
    leaving: Vector
    unit: float
    inward: float
    _way: dict[bool, Way] = field(init=False, default_factory=dict)
    _swept: dict[bool, Sweeps | None] = field(init=False, default_factory=dict)

    @cached_property
    def block(self) -> sparse.csr_array:
        """Chances within the class, (k, k)."""
        if len(self.states) == self.P.shape[0]:
            return self.P
        return sparse.csr_array(self.P[self.states][:, self.states])

    @cached_property
    def _narrow(self) -> Index | None:
        return None if spreads(self.P, self.states) else narrow_order(self.block)

    @cached_property
    def _system(self) -> System:
        return sweeps.system(self.P, self.stop, self.states)

    def solve(self, right: Vector, wrong: Vector, transposed: bool, tolerance: float) -> tuple[Vector, Vector] | None:
        """Return the answer, (k, q), and its bound for a right side off by up to `wrong`; None if no way gets there."""
        if self._narrow is not None:
            found = self._band(right, wrong, transposed)
            if found is not None:
                return found
        if len(self.states) >= sweeps.LARGE and sweeping() is not None:
            found = self._sweep(right, wrong, transposed)
            if found is not None and _within(*found, tolerance):
                return found
        way = self._way.get(transposed)
        if way is None:
            way = self._way[transposed] = Way(self, transposed, transposed not in self._swept)
        x = way.answer(right)
        if x is None:
            return None
        bound = way.bound(x, right, wrong)
        return (x, bound) if bound is not None and _within(x, bound, tolerance) else None

    def _band(self, right: Vector, wrong: Vector, transposed: bool) -> tuple[Vector, Vector] | None:
        order = self._narrow
        assert order is not None
        q = right.shape[1]
        size = np.abs(right)
        # Most often what is wrong is in proportion to the right side, and so what comes of it to what comes of that.
        with np.errstate(invalid="ignore", divide="ignore"):
            share = float(np.where(wrong > 0, wrong / size, 0.0).max(initial=0.0))
        columns = [right]
        if (right < 0).any():
            columns.append(size)
        if share > 8 * self.unit:
            columns.append(wrong)
            share = 0.0
        solved = solve_band(self.P, self.stop, self.states[order], np.hstack(columns)[order], transposed)
        if solved is None or not np.isfinite(solved[0]).all():
            return None
        found, relative = np.empty_like(solved[0]), solved[1]
        found[order] = solved[0]
        x = found[:, :q]
        size = found[:, q : 2 * q] if (right < 0).any() else x
        inherited = found[:, -q:] if len(columns) > 1 and columns[-1] is wrong else share * size
        return x, 1.01 * (inherited + relative * size)

    def _sweep(self, right: Vector, wrong: Vector, transposed: bool) -> tuple[Vector, Vector] | None:
        """Solve by compiled sweeps; None if they don't get there, which is not tried again."""
        if transposed not in self._swept:
            unit = self.inward if transposed else self.unit
            self._swept[transposed] = Sweeps(self._system.transposed() if transposed else self._system, unit)
        ready = self._swept[transposed]
        x, bound = np.empty_like(right), np.empty_like(right)
        for first in range(0, right.shape[1], TOGETHER):
            some = slice(first, first + TOGETHER)
            found = ready.solve(right[:, some], wrong[:, some]) if ready is not None else None
            if found is None:
                self._swept[transposed] = None
                return None
            x[:, some], bound[:, some] = found
        return x, bound


def _within(x: Vector, bound: Vector, tolerance: float) -> bool:
    sizes = np.maximum(x.max(axis=0), -x.min(axis=0))
    return bool((bound.max(axis=0) <= tolerance * sizes).all())


class Way:
    """A class's system, or its transpose, with the way that solves it."""

    def __init__(self, large: LargeClass, transposed: bool, relaxes: bool) -> None:
        block = large.block
        off = sparse.csr_array(block - sparse.diags_array(block.diagonal()))
        self.moving = (np.asarray(off.sum(axis=1)).ravel() + large.leaving)[:, None]
        self.off = sparse.csr_array(off.T) if transposed else off
        self.unit = large.inward if transposed else large.unit
        n = len(self.moving)
        ones = np.ones((n, 1))
        self._factors: Callable[[Vector], Vector] | None = None
        self._relaxes = relaxes
        self._hopeless = False
        self._weights = np.ones(n)
        if relaxes and not transposed:
            visits = relax(sparse.csr_array(off.T), self.moving[:, 0], ones, self._weights, 1e-4)
            self._relaxes = visits is not None
            if visits is not None:
                self._weights = visits[:, 0] / visits.max()
        self._v = self.answer(ones)
        self._least = self._proof()

    def answer(self, right: Vector) -> Vector | None:
        """Return an answer of which nothing is claimed, (n, q); None if nothing would be proven of it."""
        if self._hopeless:
            return None
        if self._relaxes:
            x = relax(self.off, self.moving[:, 0], right, self._weights, 2 * self.unit)
            if x is not None:
                return x
            self._relaxes = False
        if self._factors is None:
            self._factors = factored(sparse.csr_array(sparse.diags_array(self.moving[:, 0]) - self.off))
            if self._factors is None:
                return None
        x = self._factors(right)
        return np.maximum(x, 0.0) if (right >= 0).all() else x

    def _proof(self) -> Vector | None:
        """Return `M v` at least, for a v such that it is positive; None if there is no such v."""
        if self._v is not None and (self._v > 0).all():
            inside = self.off @ self._v
            least: Vector = self.moving * self._v - inside - self.unit * (self.moving * self._v + inside)
            if (least > 0).all():
                return least
        self._hopeless = True
        return None

    def bound(self, x: Vector, right: Vector, wrong: Vector) -> Vector | None:
        """Return how far each entry of an answer may be off; None if that can't be proven."""
        if self._v is None or self._least is None:
            return None
        off = wrong + residual(self.off, self.moving, x, right, self.unit)
        bound: Vector = 1.01 * self._v * (off / self._least).max(axis=0)
        return bound
