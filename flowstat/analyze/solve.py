"""Linear systems of a chain, class by class, every answer with a bound of its error that is proven.

For transient states with transition block Q, `visits` computes `alpha (I - Q)^-1` and `backward`
`(I - Q)^-1 b`. Strongly connected classes are taken in topological order, and each is its own small
system. `1 - p_ii` is always the sum of what leaves, so that an exit chance of 1e-17 is not lost: what is solved is the
chain of the stored arrows and stops, whatever rounding made of the diagonal.

A class of up to `DENSE` states is eliminated without subtraction (`flowstat.analyze.elimination`), a larger one goes
to sparse LU. Two bounds of an answer are known, and the smaller one holds: that of the elimination, relative to each
entry; and that of the residual r: `I - Q` is an M-matrix, so `(I - Q) e >= |r|` proves `|error| <= e` (Berman and
Plemmons, Nonnegative Matrices in the Mathematical Sciences (1994), chapter 6). Rounding is counted in both (Higham,
Accuracy and Stability of Numerical Algorithms (2002), section 3.1), and what is wrong in the classes that a class
leads to is passed on to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph, linalg

from flowstat.analyze.elimination import UNIT, Eliminated, divisor, eliminate, rounding
from flowstat.errors import AnalysisError

__all__ = ["Solved", "Solver", "strong_classes", "total"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

DENSE = 1500
"""Up to how many states a class is eliminated densely; larger ones go to sparse LU."""

SLICE = 64
"""How many columns of an inverse sparse LU solves for at once."""

TOLERANCE = 1e-6
"""What the bound of an answer may be, relative to its largest entry in the class; else there is an error."""


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
class Solved:
    """An answer and its bound: no entry of `values` is off by more than that of `bound`. Both (n,) or (n, m)."""

    values: Vector
    bound: Vector


def total(of: Solved) -> Solved:
    """Return the sum over the states, and its bound; (1,) numbers or one a column."""
    values = of.values.sum(axis=0)
    rounded = (len(of.values) + 2) * UNIT * np.abs(of.values).sum(axis=0)
    return Solved(values, 1.01 * (of.bound.sum(axis=0) + rounded))


@dataclass(frozen=True)
class Class:
    """A strongly connected class of a solver."""

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
    tolerance
        How large the bound of an answer may be, relative to its largest entry in a class.
    """

    def __init__(self, P: sparse.csr_array, leaving: Vector, tolerance: float = TOLERANCE) -> None:
        self.P = P
        self.leaving = leaving
        self.tolerance = tolerance
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
        self.classes = [Class(states, not self.exits[states].any()) for states in order]
        # A sum of k terms, and a few more operations, is off by at most k + 4 units of the sum of their sizes.
        degree = max(np.diff(P.indptr).max(initial=0), np.bincount(P.indices, minlength=1).max(initial=0))
        self.unit = 1.01 * (degree + 6) * UNIT
        self._factors: dict[int, tuple[Eliminated, sparse.csr_array]] = {}
        self._sparse: dict[tuple[int, bool], tuple[linalg.SuperLU, sparse.csr_array]] = {}

    @property
    def closed(self) -> list[Index]:
        """The classes that nothing leaves."""
        return [c.states for c in self.classes if c.closed]

    def block(self, states: Index) -> Vector:
        """Return the dense transition block among some states."""
        return np.asarray(self.P[states][:, states].toarray())

    def visits(self, start: Vector, start_bound: Vector | float = 0.0) -> tuple[Solved, Solved]:
        """Return expected visits (infinite in a closed class that is reached) and first inflow, both (n,) or (n, m).

        `inflow[i]` is the chance that the chain enters i's class at i.

        Parameters
        ----------
        start : (n,) or (n, m)
            Where the chain starts, at least 0; any number of starts are solved together.
        start_bound
            How far the entries of the start may be off.

        Raises
        ------
        AnalysisError
            If a class is too large and too close to closed to be solved within the tolerance.
        """
        inflow = start.astype(np.float64)
        into = np.broadcast_to(np.asarray(start_bound, np.float64), inflow.shape).copy()
        v, bound = np.zeros(inflow.shape), np.zeros(inflow.shape)
        for c, part in enumerate(self.classes):
            states = part.states
            if not inflow[states].any():
                continue
            # As many additions made the inflow as arrows lead here.
            into[states] += self.unit * inflow[states]
            if part.closed:
                v[states] = np.where(inflow[states].sum(axis=0) > 0, np.inf, 0.0)
                continue
            v[states], bound[states] = self._solve(c, inflow[states], into[states], transposed=True)
            leading = self.across[states]
            if leading.nnz:
                targets = np.unique(leading.indices)
                onward = sparse.csr_array(leading[:, targets].T)
                inflow[targets] += onward @ v[states]
                into[targets] += onward @ (bound[states] + 2 * UNIT * v[states])
        return Solved(v, bound), Solved(inflow, into)

    def backward(self, gain: Vector, closed: float = 0.0, gain_bound: Vector | float = 0.0) -> Solved:
        """Return the expected gain collected from each state until the end; `closed` in closed classes.

        Parameters
        ----------
        gain : (n,) or (n, m)
            What an event at each state brings; several gains are solved together.
        closed
            What a closed class is worth.
        gain_bound
            How far the entries of the gain may be off.

        Raises
        ------
        AnalysisError
            If a class is too large and too close to closed to be solved within the tolerance.
        """
        x, bound = np.zeros(gain.shape), np.zeros(gain.shape)
        off = np.broadcast_to(np.asarray(gain_bound, np.float64), gain.shape)
        for c in range(len(self.classes) - 1, -1, -1):
            part = self.classes[c]
            states = part.states
            if part.closed:
                x[states] = closed
                continue
            across = self.across[states]
            right = gain[states] + across @ x
            wrong = off[states] + across @ bound + self.unit * (np.abs(gain[states]) + across @ np.abs(x))
            x[states], bound[states] = self._solve(c, right, wrong, transposed=False)
        return Solved(x, bound)

    def _solve(self, c: int, right: Vector, wrong: Vector, transposed: bool) -> tuple[Vector, Vector]:
        """Solve a class for a right side that is off by up to `wrong`; return the answer and its bound."""
        states = self.classes[c].states
        columns, doubt = right.reshape(len(states), -1), wrong.reshape(len(states), -1)
        if len(states) == 1:
            x = columns / self.moving[states[0]]
            bound = 1.01 * (doubt / self.moving[states[0]] + self.unit * np.abs(x))
        elif len(states) <= DENSE:
            x, bound = self._eliminate(c, columns, doubt, transposed)
        else:
            x, bound = self._decompose(c, columns, doubt, transposed)
        return x.reshape(right.shape), bound.reshape(right.shape)

    def _eliminate(self, c: int, right: Vector, wrong: Vector, transposed: bool) -> tuple[Vector, Vector]:
        states = self.classes[c].states
        factor, off = self._factor(c)
        solve = factor.visits if transposed else factor.backward
        unit = rounding(len(states)) + self.unit  # the chances of leaving are sums, too
        with np.errstate(over="ignore", invalid="ignore"):
            x = solve(right)
            size = x if (right >= 0).all() else solve(np.abs(right))
            residual = self._residual(sparse.csr_array(off.T) if transposed else off, states, x, right)
            inherited, proven = np.hsplit(solve(np.hstack([wrong, wrong + residual])), 2)
            bound = (1 + 2 * unit) * np.minimum(inherited + unit * size, proven)
        if not np.isfinite(x).all():
            raise AnalysisError(f"a class of {len(states)} nodes is too close to closed: its visits overflow")
        return x, np.where(np.isfinite(bound), bound, np.inf)

    def _decompose(self, c: int, right: Vector, wrong: Vector, transposed: bool) -> tuple[Vector, Vector]:
        states = self.classes[c].states
        lu, off = self._lu(c, transposed)
        moving = self.moving[states][:, None]
        x = lu.solve(right)
        x += lu.solve(right - (moving * x - off @ x))
        if (right >= 0).all():
            x = np.maximum(x, 0.0)
        wanted = wrong + self._residual(off, states, x, right)
        # A little more than is wanted, so that it is still enough when it is rounded.
        bound = lu.solve(1.1 * wanted)
        rounded = self.unit * (moving * np.abs(bound) + off @ np.abs(bound))
        proven = (bound >= 0).all() and (moving * bound - off @ bound - rounded >= wanted).all()
        if not proven or not (bound.max(axis=0) <= self.tolerance * np.abs(x).max(axis=0)).all():
            raise AnalysisError(
                f"a class of {len(states)} nodes is too close to closed to be solved to {self.tolerance:g} by sparse LU"
            )
        return x, bound

    def _residual(self, off: sparse.csr_array, states: Index, x: Vector, right: Vector) -> Vector:
        """Return how far an answer is from solving a class's system, at most."""
        moving = self.moving[states][:, None]
        rounded = self.unit * (np.abs(right) + moving * np.abs(x) + off @ np.abs(x))
        result: Vector = np.abs(right - (moving * x - off @ x)) + rounded
        return result

    def _factor(self, c: int) -> tuple[Eliminated, sparse.csr_array]:
        """Return a class's block eliminated, and the block without its diagonal."""
        if c not in self._factors:
            states = self.classes[c].states
            self._factors[c] = eliminate(self.block(states), self.exits[states]), self._off(states)
        return self._factors[c]

    def _off(self, states: Index) -> sparse.csr_array:
        """Return a class's block without its diagonal."""
        block = sparse.csr_array(self.P[states][:, states])
        return sparse.csr_array(block - sparse.diags_array(block.diagonal()))

    def _lu(self, c: int, transposed: bool) -> tuple[linalg.SuperLU, sparse.csr_array]:
        """Return the factors of a class's I - P, and its block without its diagonal."""
        if (c, transposed) not in self._sparse:
            states = self.classes[c].states
            off = self._off(states)
            off = sparse.csr_array(off.T) if transposed else off
            matrix = sparse.csc_array(sparse.diags_array(self.moving[states]) - off)
            self._sparse[c, transposed] = linalg.splu(matrix), off
        return self._sparse[c, transposed]

    def stationary(self, states: Index) -> Solved:
        """Return the stationary law of a closed class with its bound, (k,).

        Up to `DENSE` states it is right to each entry (GTH). A larger class is taken apart at one of its states: the
        law is that of the visits between two of its returns.

        Raises
        ------
        AnalysisError
            If the law spans too many orders of magnitude, or the class is too large and too close to falling apart.
        """
        n = len(states)
        if n <= DENSE:
            law = _eliminated_law(self.block(states))
            return Solved(law, (rounding(n) + self.unit) * law)
        # Around a state that is often come to the rest is left soonest.
        home = int(np.argmax(np.bincount(self.P[states].indices, minlength=self.n)[states]))
        others = np.delete(np.arange(n), home)
        block = sparse.csr_array(self.P[states][:, states])
        back = np.asarray(block[others][:, [home]].todense()).ravel()
        out = np.asarray(block[[home]][:, others].todense()).ravel()
        between = Solver(sparse.csr_array(block[others][:, others]), back, self.tolerance)
        found, _ = between.visits(out)
        law, bound = (np.insert(values, home, value) for values, value in ((found.values, 1.0), (found.bound, 0.0)))
        total = law.sum()
        law = law / total
        return Solved(law, 1.01 * ((bound + law * bound.sum()) / total + 30 * UNIT * law))

    def return_gaps(self) -> Solved:
        """Return for every state the chance never to come back to it: `1 / N_ii`; 0 in closed classes."""
        gaps = self.moving.copy()
        bound = self.unit * gaps
        for c, part in enumerate(self.classes):
            states = part.states
            if part.closed:
                gaps[states] = bound[states] = 0.0
            elif len(states) > 1:
                width = DENSE if len(states) <= DENSE else SLICE
                for begin in range(0, len(states), width):
                    some = np.arange(begin, min(begin + width, len(states)))
                    unit = np.zeros((len(states), len(some)))
                    unit[some, some - begin] = 1.0
                    x, off = self._solve(c, unit, np.zeros_like(unit), transposed=False)
                    visits, doubt = x[some, some - begin], off[some, some - begin]
                    gaps[states[some]] = 1.0 / visits
                    bound[states[some]] = 1.01 * (doubt / visits / np.maximum(visits - doubt, 0.5) + UNIT / visits)
        return Solved(gaps, bound)

    def cyclic(self) -> Iterator[Index]:
        """Yield the classes that have a cycle: several states, or one that leads to itself."""
        diagonal = self.P.diagonal()
        for part in self.classes:
            if len(part.states) > 1 or diagonal[part.states[0]] > 0:
                yield part.states


def _eliminated_law(A: Vector) -> Vector:
    n = len(A)
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
