"""Systems `shift x = b + A x` of a nonnegative matrix, class by class, each class by a way that does not fill up.

Small classes are factored together, in topological order, so that nothing fills up but within a class. A large class
that can be put in a line has sparse factors in that order, and one as flat as a map in another order. Any other one is
turned into a chain: with y > 0 and `A y <= shift y`, which near the Perron vector holds below the root `shift`,
`y_i^-1 A_ij y_j / shift` is substochastic, and is relaxed (`flowstat.analyze.relaxing`): the error along y goes by the
balance of the whole class, so that it takes as long as the class mixes, however close to the root the shift is. What
mixes too slowly has factors, whole or rough ones (`flowstat.analyze.factors`). Nothing is claimed of the answers: those
who ask prove bounds of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph, linalg

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.factors import factored
from flowstat.analyze.relaxing import relax
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.strong import Classes

__all__ = ["Factors", "Plan"]

DENSE = 400
"""Up to how many states a system is factored densely."""

SMALL = 400
"""Up to how many states a class is factored beside others."""

FILLING = 200
"""From how many states on the states of a class are put in an order that fills up little."""

NARROW, FLAT = 48, 4.0
"""How far arrows of a large class may reach back in that order, on average, that it is factored in it; and how far, by
the root of its size, that it is factored in another one."""

PRODUCTS, CHECKED = 600, 10
"""How many products there are, at most, to come near a Perron vector, and after how many it is looked at."""

STRAIGHT = 1e-3
"""How near: what the quotients spread, relative to the distance of the root from the shift."""

Solve = Callable[[Vector], Any]


class Plan:
    """The classes of a matrix, in the order that they are solved in: the same for all with its arrows.

    Attributes
    ----------
    order : (n,)
        The states, by class.
    stretches
        Some classes each: first and last place in the order, and whether it is one large class, of which kind.
    """

    def __init__(self, A: sparse.csr_array) -> None:
        classes = Classes(A)
        sizes = np.diff(classes.offsets)
        self.order = classes.states.copy()
        self.stretches: list[tuple[int, int, str]] = []
        begin = 0
        for c in np.flatnonzero(sizes > min(FILLING, SMALL)).tolist():
            first, last = int(classes.offsets[c]), int(classes.offsets[c + 1])
            some = classes.states[first:last]
            block = sparse.csr_array(A[some][:, some])
            line: Index = csgraph.reverse_cuthill_mckee(block).astype(np.int64)
            if sizes[c] <= SMALL:
                self.order[first:last] = some[line]
                continue
            far = _reach(block, line)
            kind = "narrow" if far <= NARROW else "flat" if far <= FLAT * sizes[c] ** 0.5 else "wide"
            if kind == "narrow":
                self.order[first:last] = some[line]
            self.stretches += [(begin, first, "small"), (first, last, kind)]
            begin = last
        self.stretches = [s for s in (*self.stretches, (begin, len(self.order), "small")) if s[0] < s[1]]


def _reach(block: sparse.csr_array, line: Index) -> float:
    """Return how far arrows reach back in an order, by row, on average: so much do factors fill up."""
    n = block.shape[0]
    place = np.empty(n, np.int64)
    place[line] = np.arange(n)
    sources = place[np.repeat(np.arange(n), np.diff(block.indptr))]
    targets = place[block.indices]
    first = np.arange(n)
    np.minimum.at(first, np.maximum(sources, targets), np.minimum(sources, targets))
    return float((np.arange(n) - first).mean())


class Factors:
    """`shift I - A` solved.

    Parameters
    ----------
    A : (n, n) sparse
        At least 0, of a radius below the shift.
    near : (n,)
        A positive vector with `A near <= shift near`; looked for if not given.
    plan
        That of A, where it is known already.
    relaxes
        Whether large classes are worth relaxing; else they are factored at once.
    """

    def __init__(
        self,
        A: sparse.csr_array,
        shift: float = 1.0,
        near: Vector | None = None,
        plan: Plan | None = None,
        *,
        relaxes: bool = True,
    ) -> None:
        self.A, self.shift, self.n = A, shift, A.shape[0]
        self._relaxes = relaxes
        self._dense: Vector | None = None
        if self.n <= DENSE:
            dense = np.asarray(A.toarray(), np.float64)
            self._dense = np.asarray(shift * np.eye(self.n) - dense, np.float64)
            return
        plan = Plan(A) if plan is None else plan
        self._order = plan.order
        ordered = sparse.csr_array(A[plan.order][:, plan.order])
        self._parts: list[tuple[int, int, sparse.csr_array, Solve]] = []
        for first, last, kind in plan.stretches:
            rows = sparse.csr_array(ordered[first:last])
            block = sparse.csr_array(rows[:, first:last])
            if kind == "wide":
                solve = self._wide(block, None if near is None else near[plan.order[first:last]])
            else:
                solve = self._whole(block, "MMD_AT_PLUS_A" if kind == "flat" else "NATURAL")
            self._parts.append((first, last, sparse.csr_array(rows[:, last:]), solve))

    def solve(self, right: Vector) -> Vector | None:
        """Return an answer, (n,); None if the matrix is singular or there is no way to one."""
        with np.errstate(all="ignore"):
            if self._dense is not None:
                try:
                    x = np.linalg.solve(self._dense, right).astype(np.float64)
                except np.linalg.LinAlgError:
                    return None
                return x if np.isfinite(x).all() else None
            found: Vector = np.empty(self.n)
            b = right[self._order]
            for first, last, onward, solve in reversed(self._parts):
                part = solve(b[first:last] + onward @ found[last:])
                if part is None or not np.isfinite(part).all():
                    return None
                found[first:last] = part
            x = np.empty(self.n)
            x[self._order] = found
            return x

    def _whole(self, block: sparse.csr_array, order: Literal["NATURAL", "MMD_AT_PLUS_A"]) -> Solve:
        """Factor a block: the diagonal of an M-matrix needs no pivots."""
        system = sparse.csc_array(sparse.diags_array(np.full(block.shape[0], self.shift)) - block)
        try:
            made: Any = linalg.splu(
                system, permc_spec=order, diag_pivot_thresh=0.0, options={"SymmetricMode": order != "NATURAL"}
            )
        except RuntimeError:
            return lambda right: None
        return lambda right: np.asarray(made.solve(right), np.float64)

    def _wide(self, block: sparse.csr_array, near: Vector | None) -> Solve:
        """Relax a class; if it mixes too slowly, factor it."""
        y, hopeless = (near, False) if near is not None or not self._relaxes else _leading(block, self.shift)
        if hopeless:
            return lambda right: None
        with np.errstate(all="ignore"):
            made = None if y is None else _as_chain(block, self.shift, y)
        if y is None or made is None:
            y, off = np.ones(block.shape[0]), block
            moving = np.full(len(y), self.shift)
        else:
            off, moving = made
        weight = _weight(off, moving) if made is not None and self._relaxes else None
        unit = 2 * (int(np.diff(block.indptr).max()) + 6) * UNIT
        later: list[Solve] = []

        def solve(right: Vector) -> Vector | None:
            b = (right / y)[:, None]
            x = None if weight is None else relax(off, moving, b, weight, unit)
            if x is None:
                if not later:
                    whole = factored(sparse.csr_array(sparse.diags_array(moving) - off))
                    later.append((lambda b: None) if whole is None else whole)
                x = later[0](b)
            return None if x is None else np.asarray(x[:, 0] * y)

        return solve


def _as_chain(A: sparse.csr_array, shift: float, y: Vector) -> tuple[sparse.csr_array, Vector] | None:
    """Return `y_i^-1 A_ij y_j` between different states, and what leaves each; None if nothing leaves the class."""
    rows = np.repeat(np.arange(len(y)), np.diff(A.indptr))
    data = np.where(rows == A.indices, 0.0, A.data * y[A.indices] / y[rows])
    leaving = np.maximum(shift - (A @ y) / y, 0.0)
    off = sparse.csr_array((data, A.indices, A.indptr), shape=A.shape)
    moving: Vector = np.asarray(off.sum(axis=1), np.float64).ravel() + leaving
    return (off, moving) if np.isfinite(moving).all() and (moving > 0).all() and leaving.any() else None


def _weight(off: sparse.csr_array, moving: Vector) -> Vector | None:
    """Return about how often a chain is at each of its states; None if it mixes too slowly to be relaxed."""
    n = len(moving)
    visits = relax(sparse.csr_array(off.T), moving, np.ones((n, 1)), np.ones(n), 1e-4)
    return None if visits is None else np.asarray(visits[:, 0] / visits.max())


def _leading(A: sparse.csr_array, shift: float) -> tuple[Vector | None, bool]:
    """Return a vector near the right Perron vector of an irreducible matrix, and whether its root is above the shift.

    None if it is, or products do not get there.
    """
    x = np.ones(A.shape[0])
    for k in range(1, PRODUCTS + 1):
        y = A @ x
        if k % CHECKED == 0:
            quotient = y / x
            low, high = float(quotient.min()), float(quotient.max())
            if low > shift:
                return None, True
            if high - low <= STRAIGHT * (shift - high):
                return x, False
        # Half of each product is put off for a turn, since the class may be periodic.
        new = y + shift * x
        x = np.maximum(new / new.max(), 1e-280)
    return None, False
