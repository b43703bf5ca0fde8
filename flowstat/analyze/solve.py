"""Linear systems of a chain, class by class and without subtraction.

For transient states with transition block Q, `visits` computes `alpha (I - Q)^-1` and `backward`
`(I - Q)^-1 b`. Strongly connected classes are taken in topological order, and each is its own small
system. `1 - p_ii` is always the sum of what leaves, so that an exit chance of 1e-17 is not lost.

Source of the elimination: Grassmann, Taksar, Heyman, Operations Research 33 (1985), in the form for
substochastic blocks of Alfa, Xue, Ye, Mathematics of Computation 71 (2002): every entry is correct to a
relative error of about n times the rounding unit. Cost: n^3/3 for a class of n states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph, linalg

from flowstat.errors import AnalysisError

__all__ = ["Eliminated", "Solver", "divisor", "eliminate", "strong_classes"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

DENSE = 1500
"""Up to how many states a class is eliminated densely; larger ones go to sparse LU with a bound of its error."""

SLICE = 64
"""How many columns of an inverse sparse LU solves for at once."""

ACCURACY = 1e-6
"""What sparse LU must reach, relative to the largest entry of its answer; else it says that it can't."""

SMALLEST = 1e-290
"""Smaller chances of leaving are refused: their reciprocals, or sums of these, are no floating-point numbers."""


def strong_classes(P: sparse.csr_array) -> list[Index]:
    """Return the strongly connected classes, each sorted, a class before those it leads to."""
    n = P.shape[0]
    number, labels = csgraph.connected_components(P, directed=True, connection="strong")
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=number))[:-1])
    rows = np.repeat(np.arange(n), np.diff(P.indptr))
    between = np.unique(labels[rows].astype(np.int64) * number + labels[P.indices])
    sources, targets = np.divmod(between, number)
    between_classes = sources != targets
    sources, targets = sources[between_classes], targets[between_classes]
    waiting = np.bincount(targets, minlength=number)
    starts = np.searchsorted(sources, np.arange(number + 1))
    ready = [int(c) for c in np.flatnonzero(waiting == 0)[::-1]]
    order: list[Index] = []
    while ready:
        c = ready.pop()
        order.append(members[c].astype(np.int64))
        for t in targets[starts[c] : starts[c + 1]].tolist():
            waiting[t] -= 1
            if not waiting[t]:
                ready.append(t)
    return order


@dataclass(frozen=True)
class Eliminated:
    """A block eliminated from its last state to its first.

    `pivots[k]` is the chance to leave the states 0..k for good, from k, once later states are censored
    out; `rounds` the chance to come back to state 0 within the block. `triangles` holds, left of the diagonal, the
    chances to move to earlier states, and above it the visits to later ones per visit to earlier ones.
    """

    pivots: Vector
    rounds: float
    triangles: Vector

    def visits(self, inflow: Vector) -> Vector:
        """Solve `v = inflow + v A`: expected visits from an inflow, (n,)."""
        v = inflow.astype(np.float64)
        for k in range(len(v) - 1, 0, -1):
            v[:k] += v[k] / self.pivots[k] * self.triangles[k, :k]
        v[0] /= self.pivots[0]
        for k in range(1, len(v)):
            v[k] = v[k] / self.pivots[k] + v[:k] @ self.triangles[:k, k]
        return v

    def backward(self, gain: Vector) -> Vector:
        """Solve `x = gain + A x`: expected gain collected from each state, (n,) or (n, m)."""
        x = gain.astype(np.float64)
        for k in range(len(x) - 1, 0, -1):
            x[:k] += np.multiply.outer(self.triangles[:k, k], x[k])
        x[0] /= self.pivots[0]
        for k in range(1, len(x)):
            x[k] = (x[k] + self.triangles[k, :k] @ x[:k]) / self.pivots[k]
        return x

    def censored(self, inflow: Vector, keep: int) -> Vector:
        """Return the inflow as it first arrives at the states 0..keep-1, others censored out."""
        a = inflow.astype(np.float64)
        for k in range(len(a) - 1, keep - 1, -1):
            a[:k] += a[k] / self.pivots[k] * self.triangles[k, :k]
        return a[:keep]


def eliminate(A: Vector, leaving: Vector) -> Eliminated:
    """Eliminate a block whose rows with `leaving` sum to 1; the diagonal is only used for `rounds`.

    Parameters
    ----------
    A : (n, n)
        Transition chances within the block.
    leaving : (n,)
        Chance of leaving the block from each state.
    """
    A = A.astype(np.float64)
    out = leaving.astype(np.float64)
    n = len(out)
    pivots = np.zeros(n)
    for k in range(n - 1, 0, -1):
        pivot = pivots[k] = divisor(A[k, :k].sum() + out[k])
        A[:k, k] /= pivot
        A[:k, :k] += np.multiply.outer(A[:k, k], A[k, :k])
        out[:k] += A[:k, k] * out[k]
    pivots[0] = divisor(out[0]) if leaving.any() else 0.0
    return Eliminated(pivots, float(A[0, 0]), A)


def divisor(chance: float) -> float:
    """Return a chance of leaving that is going to be divided by; raise AnalysisError if it is too small."""
    if chance < SMALLEST:
        raise AnalysisError(
            f"some nodes are left with a chance below {SMALLEST:g}: that can't be told from never. "
            "If they are meant to be a trap, set the shares that lead out of them to 0"
        )
    return chance


@dataclass(frozen=True)
class _Class:
    states: Index
    closed: bool
    """Nothing leaves it."""


class Solver:
    """Solves a chain's systems; classes that nothing leaves are boundaries.

    Parameters
    ----------
    P : (n, n) sparse
        Transition chances; rows may sum to less than 1.
    leaving : (n,)
        Chance of ending at each state: the rest of the row.
    """

    def __init__(self, P: sparse.csr_array, leaving: Vector) -> None:
        self.P = P
        self.leaving = leaving
        self.n = P.shape[0]
        self.rows = np.repeat(np.arange(self.n), np.diff(P.indptr))
        self.label = np.zeros(self.n, np.int64)
        order = strong_classes(P)
        for c, states in enumerate(order):
            self.label[states] = c
        crossing = self.label[self.rows] != self.label[P.indices]
        self.across = sparse.csr_array((np.where(crossing, P.data, 0.0), P.indices, P.indptr), shape=(self.n, self.n))
        self.exits = np.asarray(self.across.sum(axis=1)).ravel() + leaving
        off = np.where(self.rows != P.indices, P.data, 0.0)
        self.moving = np.bincount(self.rows, weights=off, minlength=self.n) + leaving
        if self.moving.any():
            divisor(self.moving[self.moving > 0].min())
        self.classes = [_Class(states, not self.exits[states].any()) for states in order]
        self._factors: dict[int, Eliminated] = {}
        self._sparse: dict[tuple[int, bool], tuple[linalg.SuperLU, sparse.csc_array, float]] = {}

    @property
    def closed(self) -> list[Index]:
        """The classes that nothing leaves."""
        return [c.states for c in self.classes if c.closed]

    def block(self, states: Index) -> Vector:
        """Return the dense transition block among some states."""
        return np.asarray(self.P[states][:, states].toarray())

    def visits(self, start: Vector) -> tuple[Vector, Vector]:
        """Return expected visits (infinite in a closed class that is reached) and first inflow, both (n,).

        `inflow[i]` is the chance that the chain enters i's class at i.
        """
        inflow = start.astype(np.float64)
        v = np.zeros(self.n)
        for c, part in enumerate(self.classes):
            states = part.states
            if not inflow[states].any():
                continue
            if part.closed:
                v[states] = np.inf
                continue
            v[states] = self._solve(c, inflow[states], transposed=True)
            for i in states.tolist():
                span = slice(self.P.indptr[i], self.P.indptr[i + 1])
                inflow[self.P.indices[span]] += v[i] * self.across.data[span]
        return v, inflow

    def backward(self, gain: Vector, closed: float = 0.0) -> Vector:
        """Return the expected gain collected from each state until the end; `closed` in closed classes."""
        x = np.zeros(gain.shape)
        for c in range(len(self.classes) - 1, -1, -1):
            part = self.classes[c]
            states = part.states
            if part.closed:
                x[states] = closed
                continue
            x[states] = self._solve(c, gain[states] + self.across[states] @ x, transposed=False)
        return x

    def _solve(self, c: int, right: Vector, transposed: bool) -> Vector:
        states = self.classes[c].states
        x: Vector
        if len(states) == 1:
            x = right / self.moving[states[0]]
            return x
        if len(states) <= DENSE:
            factor = self._factors.get(c)
            if factor is None:
                factor = self._factors[c] = eliminate(self.block(states), self.exits[states])
            with np.errstate(over="ignore", invalid="ignore"):
                x = factor.visits(right) if transposed else factor.backward(right)
            if not np.isfinite(x).all():
                raise AnalysisError(f"a class of {len(states)} nodes is too close to closed: its visits overflow")
            return x
        lu, matrix, largest = self._lu(c, transposed)
        x = lu.solve(right)
        x = np.maximum(x + lu.solve(right - matrix @ x), 0.0)
        # The inverse has no negative entry: its largest row sum bounds what residual and rounding can change.
        error = (np.abs(right - matrix @ x).max() + np.finfo(float).eps * x.max()) * largest
        if not error <= ACCURACY * x.max():
            raise AnalysisError(
                f"a class of {len(states)} nodes is too close to closed to be solved to {ACCURACY:g} by sparse LU"
            )
        return x

    def _lu(self, c: int, transposed: bool) -> tuple[linalg.SuperLU, sparse.csc_array, float]:
        """Return the factors of a class's I - P, the matrix, and the largest row sum of its inverse."""
        if (c, transposed) not in self._sparse:
            states = self.classes[c].states
            block = sparse.csr_array(self.P[states][:, states])
            off = block - sparse.diags_array(block.diagonal())
            matrix = sparse.csc_array(sparse.diags_array(self.moving[states]) - off)
            matrix = sparse.csc_array(matrix.T) if transposed else matrix
            lu = linalg.splu(matrix)
            self._sparse[c, transposed] = lu, matrix, float(np.abs(lu.solve(np.ones(len(states)))).max())
        return self._sparse[c, transposed]

    def stationary(self, states: Index) -> Vector:
        """Return the stationary law of a closed class, entrywise accurate (GTH)."""
        if len(states) > 4 * DENSE:
            raise AnalysisError(f"a closed class of {len(states)} nodes is too large for its stationary law")
        A = self.block(states)
        n = len(states)
        for k in range(n - 1, 0, -1):
            A[:k, k] /= divisor(A[k, :k].sum())
            A[:k, :k] += np.multiply.outer(A[:k, k], A[k, :k])
        law = np.zeros(n)
        law[0] = 1.0
        with np.errstate(over="ignore", invalid="ignore"):
            for k in range(1, n):
                law[k] = law[:k] @ A[:k, k]
        if not np.isfinite(law.sum()):
            raise AnalysisError(f"the stationary law of a closed class of {n} nodes spans too many orders of magnitude")
        stationary: Vector = law / law.sum()
        return stationary

    def return_gaps(self) -> Vector:
        """Return for every state the chance never to come back to it: `1 / N_ii`; 0 in closed classes."""
        gaps = self.moving.copy()
        for c, part in enumerate(self.classes):
            states = part.states
            if part.closed:
                gaps[states] = 0.0
            elif len(states) > 1:
                width = DENSE if len(states) <= DENSE else SLICE
                for begin in range(0, len(states), width):
                    some = np.arange(begin, min(begin + width, len(states)))
                    unit = np.zeros((len(states), len(some)))
                    unit[some, some - begin] = 1.0
                    x = self._solve(c, unit, transposed=False)
                    gaps[states[some]] = 1.0 / x[some, some - begin]
        return gaps

    def cyclic(self) -> Iterator[Index]:
        """Yield the classes that have a cycle: several states, or one that leads to itself."""
        diagonal = self.P.diagonal()
        for part in self.classes:
            if len(part.states) > 1 or diagonal[part.states[0]] > 0:
                yield part.states
