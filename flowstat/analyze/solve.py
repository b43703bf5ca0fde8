"""Linear systems of a chain, class by class, every answer with a bound of its error that is proven.

For transient states with transition block Q, `visits` computes `alpha (I - Q)^-1` and `backward` `(I - Q)^-1 b`.
Strongly connected classes are taken in topological order, and each is its own small system. `1 - p_ii` is always the
sum of what leaves, so that an exit chance of 1e-17 is not lost: what is solved is the chain of the stored arrows and
stops, whatever rounding made of the diagonal.

A class of up to `DENSE` states is eliminated without subtraction (`flowstat.analyze.elimination`), many small ones by
compiled code (`flowstat.analyze.compiled`); for a larger one see `flowstat.analyze.large`. Two bounds of an answer
are known, and the smaller one holds: that of the elimination, relative to each entry; and that of the residual r: `I
- Q` is an M-matrix, so `(I - Q) e >= |r|` proves `|error| <= e` (Berman and Plemmons, Nonnegative Matrices in the
Mathematical Sciences (1994), chapter 6). Rounding is counted in both (Higham, Accuracy and Stability of Numerical
Algorithms (2002), section 3.1), and what is wrong in the classes that a class leads to is passed on to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.compiled import kernels
from flowstat.analyze.elimination import UNIT, Eliminated, divisor, eliminate, rounding
from flowstat.analyze.large import LargeClass, residual
from flowstat.analyze.law import TINY, eliminated_law
from flowstat.analyze.search import reachable
from flowstat.analyze.solved import Solved, total
from flowstat.analyze.strong import Classes, strong_classes
from flowstat.errors import AnalysisError

__all__ = ["Solved", "Solver", "strong_classes", "total"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

DENSE = 1500
"""Up to how many states a class is eliminated densely."""

COMPILED = 20_000
"""From how many states on small classes are solved by compiled code: below, compiling would take longer."""

SMALL = 1500
"""Up to how many states a class is solved by compiled code."""

RETURNS = 200
"""Up to how many states compiled code looks at the returns of a class: its bounds are wide in larger ones."""

KEPT = 20_000_000
"""How many numbers the eliminated blocks may have that are kept for further questions."""

SLICE = 64
"""How many columns of an inverse are solved for at once in a large class."""

FAINT = 1e-290
"""Below this, numbers may be made of ones that are not held to full precision."""

LEAST = 1e-312
"""More than what is lost of those, at each state: half of 5e-324 an operation."""

TOLERANCE = 1e-6
"""What the bound of an answer may be, relative to its largest entry in the class; else there is an error."""


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
        self.order = _listed(P) if self._fast_at_hand else Classes(P)
        self.label = self.order.label
        shares = (P.indptr, P.indices, P.data, leaving, self.label)
        measure = kernels().leaving if self._fast_at_hand else _leaving
        self.moving: Vector
        self.exits: Vector
        self.moving, self.exits, most, inward = measure(*shares)
        if self.moving.any():
            divisor(self.moving[self.moving > 0].min())
        self.shut = np.ones(len(self.order.offsets) - 1, bool)
        self.shut[self.label[self.exits > 0]] = False
        # A sum of k terms, and a few more operations, is off by at most k + 4 units of the sum of their sizes.
        self.unit = 1.01 * (most + 6) * UNIT
        self.inward = 1.01 * (max(most, inward) + 6) * UNIT
        self._compiled: tuple[Any, ...] = ()
        self._factors: dict[int, tuple[Eliminated, sparse.csr_array]] = {}
        self._kept = 0
        self._classes_apart: dict[int, LargeClass] = {}

    @cached_property
    def _open(self) -> npt.NDArray[np.bool_]:
        """The states that are not in a class that nothing leaves."""
        inside = np.ones(self.n, bool)
        for states in self.closed:
            inside[states] = False
        return inside

    @cached_property
    def rows(self) -> Index:
        """The source of each arrow."""
        return np.repeat(np.arange(self.n), np.diff(self.P.indptr))

    @cached_property
    def across(self) -> sparse.csr_array:
        """The arrows between classes; those within one are zeros."""
        crossing = self.label[self.rows] != self.label[self.P.indices]
        data = np.where(crossing, self.P.data, 0.0)
        return sparse.csr_array((data, self.P.indices, self.P.indptr), shape=(self.n, self.n))

    @cached_property
    def classes(self) -> list[Class]:
        """The classes, each before those that it leads to."""
        return [Class(m, shut) for m, shut in zip(self.order.members(), self.shut.tolist(), strict=True)]

    @cached_property
    def closed(self) -> list[Index]:
        """The classes that nothing leaves."""
        states, offsets = self.order.states, self.order.offsets
        return [states[offsets[c] : offsets[c + 1]] for c in np.flatnonzero(self.shut)]

    @cached_property
    def _fast_at_hand(self) -> bool:
        """Whether compiled code is worth its while, and there."""
        return self.n >= COMPILED and kernels() is not None

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
        begin = np.asarray(start, np.float64).reshape(self.n, -1)
        doubt = np.broadcast_to(start_bound, start.shape).reshape(begin.shape)
        v, bound, inflow, into = self._visited(begin, doubt)
        for k in np.flatnonzero(self._faint(v, self.P.T, np.ones(self.n, bool))):
            # What fell below the least number on its way may yet be visited long.
            reached = reachable(self.P, begin[:, k] > 0)
            finite = reached & np.isfinite(v[:, k])
            lost = LEAST * max(1.0, float(v[finite, k].max(initial=0.0)))
            more = self._visited(np.where(reached, lost, 0.0)[:, None], np.zeros((self.n, 1)))
            for off, (values, wrong) in ((bound, more[:2]), (into, more[2:])):
                off[:, k] += np.where(np.isfinite(values), values + wrong, 0.0)[:, 0]
            v[:, k] = np.where(np.isinf(more[0][:, 0]), np.inf, v[:, k])
        shape = start.shape
        return (
            Solved(v.reshape(shape), bound.reshape(shape)),
            Solved(inflow.reshape(shape), into.reshape(shape)),
        )

    def _visited(self, start: Vector, start_bound: Vector) -> tuple[Vector, Vector, Vector, Vector]:
        """Return visits and inflow with their bounds, but for numbers below 1e-308; all are (n, m)."""
        inflow, into = start.copy(), np.array(start_bound, np.float64)
        v, low, bound, inlow = (np.zeros(inflow.shape) for _ in range(4))
        for first, last, fast in self._stretches():
            while fast:
                first = self._fast("visits", first, last, inflow, inlow, into, v, low, bound)
                if first < 0:
                    break
                # A class with numbers that are too large for pairs of floats.
                self._visit(first, inflow, inlow, into, v, low, bound)
                first += 1
            for c in range(first, last) if not fast else ():
                self._visit(c, inflow, inlow, into, v, low, bound)
        for off, rounded in ((bound, low), (into, inlow)):
            off += np.abs(rounded, out=rounded)
        return v, bound, inflow, into

    def _faint(self, x: Vector, leading: Any, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return in which columns numbers are below 1e-308, or nearly: (m,).

        There, 0 is next to something else along an arrow: `leading` has what the number of a state, one of `among`, is
        made of in its row.
        """
        found = np.zeros(x.shape[1], bool)
        for k in range(x.shape[1]):
            size = np.abs(x[:, k])
            empty = size == 0
            found[k] = size.min(where=~empty, initial=1.0) < FAINT
            if not found[k] and empty.any() and not empty.all():
                found[k] = bool((leading @ (~empty).astype(np.float64))[empty & among].any())
        return found

    def _visit(
        self, c: int, inflow: Vector, inlow: Vector, into: Vector, v: Vector, low: Vector, bound: Vector
    ) -> None:
        states = self.classes[c].states
        into[states] += np.abs(inlow[states])
        inlow[states] = low[states] = 0.0
        if not inflow[states].any():
            return
        # As many additions made the inflow as arrows lead here.
        into[states] += self.inward * inflow[states]
        if self.classes[c].closed:
            v[states] = np.where(inflow[states].sum(axis=0) > 0, np.inf, 0.0)
            return
        v[states], bound[states] = self._solve(c, inflow[states], into[states], transposed=True)
        leading = self.across[states]
        if leading.nnz:
            targets = np.unique(leading.indices)
            onward = sparse.csr_array(leading[:, targets].T)
            added = onward @ v[states]
            inflow[targets] += added
            into[targets] += onward @ (bound[states] + 2 * UNIT * v[states])
            into[targets] += UNIT * inflow[targets] + self.inward * added

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
        gains = np.asarray(gain, np.float64).reshape(self.n, -1)
        doubt = np.ascontiguousarray(np.broadcast_to(gain_bound, gain.shape), np.float64).reshape(gains.shape)
        x, bound = self._collected(gains, doubt, closed)
        faint = self._faint(x, self.P, self._open)
        if faint.any():
            # What fell below the least number, at each state and each time that it is visited.
            events, more = self._collected(np.ones((self.n, 1)), np.zeros((self.n, 1)), 0.0)
            bound += np.where(faint, LEAST * np.maximum(1.0, np.abs(x).max(axis=0)), 0.0) * (events + more)
        return Solved(x.reshape(gain.shape), bound.reshape(gain.shape))

    def _collected(self, gains: Vector, doubt: Vector, closed: float) -> tuple[Vector, Vector]:
        """Return the expected gains and their bounds, but for numbers below 1e-308; all are (n, m)."""
        x, low, bound = (np.zeros(gains.shape) for _ in range(3))
        for first, last, fast in reversed(self._stretches()):
            while fast:
                last = self._fast("backward", first, last, gains, doubt, closed, x, low, bound)
                if last < 0:
                    break
                low[self.classes[last].states] = 0.0
                self._collect(last, gains, doubt, closed, x, bound, np.abs(low))
            rounded = np.abs(low)
            for c in range(last - 1, first - 1, -1) if not fast else ():
                self._collect(c, gains, doubt, closed, x, bound, rounded)
        return x, bound + np.abs(low)

    def _collect(
        self, c: int, gain: Vector, doubt: Vector, closed: float, x: Vector, bound: Vector, rounded: Vector
    ) -> None:
        states = self.classes[c].states
        if self.classes[c].closed:
            x[states] = closed
            return
        across = self.across[states]
        right = gain[states] + across @ x
        wrong = (
            doubt[states] + across @ bound + across @ rounded + self.unit * (np.abs(gain[states]) + across @ np.abs(x))
        )
        x[states], bound[states] = self._solve(c, right, wrong, transposed=False)

    def _stretches(self, most: int = SMALL) -> list[tuple[int, int, bool]]:
        """Return the classes in stretches (first, last + 1, whether compiled code is for them)."""
        number = len(self.shut)
        if not self._fast_at_hand:
            return [(0, number, False)]
        fast = np.diff(self.order.offsets) <= most
        ends = np.concatenate([[0], np.flatnonzero(fast[1:] != fast[:-1]) + 1, [number]])
        return [(int(a), int(b), bool(fast[a])) for a, b in pairwise(ends)]

    def _fast(self, what: str, first: int, last: int, *arrays: Vector | float) -> int:
        """Let compiled code solve the classes first ... last - 1; return at which it stops, or -1."""
        if not self._compiled:
            local = np.empty(self.n, np.int64)
            sizes = np.diff(self.order.offsets)
            local[self.order.states] = np.arange(self.n) - np.repeat(self.order.offsets[:-1], sizes)
            widest = int(sizes[sizes <= SMALL].max())
            classes = (self.order.states, self.order.offsets, self.shut, self.label, local, widest)
            self._compiled = (self.P.indptr, self.P.indices, self.P.data, self.leaving), classes
        chain, classes = self._compiled
        unit = self.inward if what == "visits" else self.unit
        return int(getattr(kernels(), what)((*chain, unit), classes, first, last, *arrays))

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
            x, bound = self._large(c, columns, doubt, transposed)
        return x.reshape(right.shape), bound.reshape(right.shape)

    def _eliminate(self, c: int, right: Vector, wrong: Vector, transposed: bool) -> tuple[Vector, Vector]:
        states = self.classes[c].states
        factor, off = self._factor(c)
        solve = factor.visits if transposed else factor.backward
        unit = rounding(len(states)) + self.unit  # the chances of leaving are sums, too
        with np.errstate(over="ignore", invalid="ignore"):
            x = solve(right)
            size = x if (right >= 0).all() else solve(np.abs(right))
            within = sparse.csr_array(off.T) if transposed else off
            unit_of_sums = self.inward if transposed else self.unit
            left = residual(within, self.moving[states][:, None], x, right, unit_of_sums)
            inherited, proven = np.hsplit(solve(np.hstack([wrong, wrong + left])), 2)
            bound = (1 + 2 * unit) * np.fmin(inherited + unit * size, proven)  # where one overflows, the other
        if not np.isfinite(x).all():
            raise AnalysisError(f"a class of {len(states)} nodes is too close to closed: its visits overflow")
        return x, np.where(np.isfinite(bound), bound, np.inf)

    def _large(self, c: int, right: Vector, wrong: Vector, transposed: bool) -> tuple[Vector, Vector]:
        """Solve a large class by the first way that gets there: as a band, by relaxation, by sparse LU."""
        states = self.classes[c].states
        large = self._classes_apart.get(c)
        if large is None:
            block = sparse.csr_array(self.P[states][:, states])
            large = self._classes_apart[c] = LargeClass(block, self.exits[states], self.unit, self.inward)
        solved = large.solve(right, wrong, transposed, self.tolerance)
        if solved is None:
            raise AnalysisError(
                f"a class of {len(states)} nodes is too close to closed to be solved to {self.tolerance:g}: no way of "
                "solving it gets there"
            )
        return solved

    def _factor(self, c: int) -> tuple[Eliminated, sparse.csr_array]:
        """Return a class's block eliminated, and the block without its diagonal."""
        if c not in self._factors:
            states = self.classes[c].states
            made = eliminate(self.block(states), self.exits[states]), self._off(states)
            self._kept += len(states) ** 2
            if self._kept > KEPT:
                return made
            self._factors[c] = made
        return self._factors[c]

    def _off(self, states: Index) -> sparse.csr_array:
        """Return a class's block without its diagonal."""
        block = sparse.csr_array(self.P[states][:, states])
        return sparse.csr_array(block - sparse.diags_array(block.diagonal()))

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
            law = eliminated_law(self.block(states))
            return Solved(law, (rounding(n) + self.unit) * law + TINY)
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

    def return_gaps(self, asked: npt.NDArray[np.bool_] | None = None) -> Solved:
        """Return for every state the chance never to come back to it: `1 / N_ii`; 0 in closed classes.

        Of classes of more than `RETURNS` states only for those that are asked for, if any are, each by a solution; of
        the others it is what leaves the state with a step.
        """
        gaps = self.moving.copy()
        bound = self.unit * gaps
        for states in self.closed:
            gaps[states] = bound[states] = 0.0
        slow: list[int] = []
        for first, last, fast in self._stretches(RETURNS):
            while fast and first < last:
                stopped = self._fast("gaps", first, last, gaps, bound)
                slow.extend([stopped] if stopped >= 0 else [])
                first = stopped + 1 if stopped >= 0 else last
            slow.extend(range(first, last))
        for c in slow:
            states = self.classes[c].states
            if not self.classes[c].closed and len(states) > 1:
                width = DENSE if len(states) <= DENSE else SLICE
                wanted = np.arange(len(states)) if asked is None else np.flatnonzero(asked[states])
                for begin in range(0, len(wanted), width):
                    some = wanted[begin : begin + width]
                    unit = np.zeros((len(states), len(some)))
                    unit[some, np.arange(len(some))] = 1.0
                    x, off = self._solve(c, unit, np.zeros_like(unit), transposed=False)
                    visits, doubt = x[some, np.arange(len(some))], off[some, np.arange(len(some))]
                    gaps[states[some]] = 1.0 / visits
                    bound[states[some]] = 1.01 * (doubt / visits / np.maximum(visits - doubt, 0.5) + UNIT / visits)
        return Solved(gaps, bound)

    def cyclic(self) -> Iterator[Index]:
        """Yield the classes that have a cycle: several states, or one that leads to itself."""
        diagonal = self.P.diagonal()
        for part in self.classes:
            if len(part.states) > 1 or diagonal[part.states[0]] > 0:
                yield part.states


def _listed(P: sparse.csr_array) -> Classes:
    """Return the classes by compiled code, which needs no numbers for each arrow beside it."""
    number, label = csgraph.connected_components(P, directed=True, connection="strong")
    found = Classes.__new__(Classes)
    found.label, found.states, found.offsets, forward = kernels().listed(P.indptr, P.indices, label, number)
    return found if forward else Classes(P)


def _leaving(indptr: Any, indices: Any, data: Vector, leaving: Vector, label: Index) -> tuple[Vector, Vector, int, int]:
    """Return the chances to leave each state and its class, (n,), and the most arrows out of and into a state."""
    n = len(leaving)
    rows = np.repeat(np.arange(n), np.diff(indptr))
    moving, exits = (
        np.bincount(rows[some], weights=data[some], minlength=n) + leaving
        for some in (rows != indices, label[rows] != label[indices])
    )
    most, inward = np.diff(indptr).max(initial=0), np.bincount(indices, minlength=1).max(initial=0)
    return moving, exits, int(most), int(inward)
