"""A class of a chain without the nodes that a flow has passed: what a run does there before it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.elimination import UNIT, divisor, eliminate, rounding
from flowstat.analyze.flow_large import Columns
from flowstat.analyze.search import backwards, cut
from flowstat.analyze.solve import DENSE, Index, Solver, Vector

__all__ = ["Loops", "Part", "Step", "best_flow"]

FAINT = 1e-300
"""Chances below this may be ones that are not told right, or are 0 and should not be."""

SWEEPS = 100
"""How long ways are that the bound of a single flow tells apart."""


@dataclass(frozen=True)
class Step:
    """What may follow a flow's prefix in its class.

    `never` is the chance, from its last node, to leave for good or come to an earlier node before it is come back to,
    and `wrong` how far it may be off, relatively. `ends` is the chance, at most, from each node of the class that it
    leads to, to leave the class before any node of the prefix is come to; 0 at the prefix itself.
    """

    never: float
    wrong: float
    ends: dict[int, float]


@dataclass(frozen=True)
class Loops:
    """What runs do in loops at a flow's node, given the flow: events beside the first, and the time that they take."""

    events: float
    events_bound: float
    time: float
    time_bound: float


class Part:
    """A transient class of k states, solved again and again without some of them.

    Parameters
    ----------
    solver
        Of the whole chain.
    states : (k,)
        The class, sorted.
    """

    def __init__(self, solver: Solver, states: Index) -> None:
        self.states = states
        self.exits = solver.exits[states]
        self.unit = solver.unit + solver.inward
        self.tolerance = solver.tolerance
        self.block = sparse.csr_array(solver.P[states][:, states])
        self.large = len(states) > DENSE
        self.dense = np.zeros((0, 0)) if self.large else self.block.toarray()
        # What all ways through the class may come to: below this, a chance of 0 may be one that is too small.
        smallest = min(float(self.block.data.min()), float(self.exits[self.exits > 0].min()))
        self.faint = len(states) * log(smallest) < log(FAINT)
        self.inverse = Columns(Solver(self.block, self.exits, solver.tolerance)) if self.large else None

    def step(self, at: int, earlier: Index) -> Step:
        """Return what may follow at a state of the class, after some earlier ones."""
        row = slice(self.block.indptr[at], self.block.indptr[at + 1])
        share, targets = self.block.data[row], self.block.indices[row].astype(np.int64)
        names = self.states[targets].tolist()
        quick = self.inverse.step(at, earlier, targets) if self.inverse else None
        if quick is not None:
            ends = dict(zip(names, quick[2].tolist(), strict=True))
            return Step(quick[0], 1.01 * quick[1] / quick[0] + UNIT, ends)
        free = np.ones(len(self.states), bool)
        free[earlier] = False
        free[at] = False
        hit = self.columns(earlier)
        right = np.stack([self.exits, self.exits + hit], axis=1)
        if not len(earlier):
            right = right[:, :1]
        leaving = self.exits + hit + self.columns(np.array([at]))
        x, relative, absolute = self.solve(free, right, leaving)
        onward = free[targets]
        never = self.exits[at] + hit[at] + share[onward] @ x[targets[onward], -1]
        wrong = relative + self.unit + absolute / divisor(float(never))
        far = np.minimum(x[:, 0], 1.0)
        if self.faint:
            far = np.where(free & self.open(free), np.maximum(far, FAINT), 0.0)
        return Step(float(never), float(wrong), dict(zip(names, far[targets].tolist(), strict=True)))

    def open(self, free: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return from which of the free states the class can be left over free ones."""
        closed = ~free
        return backwards(cut(self.block, closed), free & (self.exits > 0)).inside

    def loops(self, at: int, earlier: Index, step: Step, latency: Vector | None) -> Loops:
        """Return what is done in loops at a state, given that they are left for good: `latency` by arrow of the block.

        A run crosses i -> j in them `G_i p_ij F_j` times: visits from the state, and the chance to come back to it.
        """
        quick = self.inverse.around(at, earlier) if self.inverse else None
        v, f, lost, absolute, relative = (*quick, 0.0) if quick is not None else self._around(at, earlier)
        v[at] = f[at] = 1.0
        rows = np.repeat(np.arange(len(v)), np.diff(self.block.indptr))
        crossed = v[rows] * self.block.data * f[self.block.indices] / step.never
        wrong = relative + step.wrong + 8 * UNIT
        doubt = (absolute * float(v.sum()) + lost * (1 + absolute)) / step.never
        events = float(crossed.sum())
        terms = (len(crossed) + 4) * UNIT
        time = 0.0 if latency is None else float(crossed @ latency)
        longest = 0.0 if latency is None else float(latency.max(initial=0.0))
        off = (wrong + terms) * events + doubt, (wrong + terms) * time + doubt * longest
        return Loops(events, float(1.01 * off[0]), time, float(1.01 * off[1]))

    def _around(self, at: int, earlier: Index) -> tuple[Vector, Vector, float, float, float]:
        """Return visits of each state between returns, chances to come back, and how far they may be off.

        That is: all visits together, each chance, and what both are off by relatively.
        """
        free = np.ones(len(self.states), bool)
        free[earlier] = False
        free[at] = False
        back = self.columns(np.array([at]))
        leaving = self.exits + self.columns(earlier) + back
        returns, relative, absolute = self.solve(free, back[:, None], leaving)
        onward = np.zeros(len(self.states))
        row = slice(self.block.indptr[at], self.block.indptr[at + 1])
        onward[self.block.indices[row]] = self.block.data[row]
        visits, other, lost = self.solve(free, onward[:, None], leaving, transposed=True)
        return visits[:, 0], returns[:, 0], lost, absolute, relative + other

    def columns(self, states: Index) -> Vector:
        """Return the chance to go from each state to some of them."""
        if not len(states):
            return np.zeros(len(self.states))
        if not self.large:
            return np.asarray(self.dense[:, states].sum(axis=1))
        into = np.zeros(len(self.states))
        into[states] = 1.0
        return np.asarray(self.block @ into)

    def solve(
        self, free: npt.NDArray[np.bool_], right: Vector, leaving: Vector, transposed: bool = False
    ) -> tuple[Vector, float, float]:
        """Solve `x = right + A x` among the free states, or `x = right + x A`; 0 at the others.

        Returns the answer, by how much its entries may be off relatively, and by how much absolutely: each entry, or
        of transposed systems all entries together.
        """
        x = np.zeros(right.shape)
        kept = np.flatnonzero(free)
        if not len(kept):
            return x, 0.0, 0.0
        if not self.large:
            gone = eliminate(self.dense[np.ix_(kept, kept)], leaving[kept])
            x[kept] = gone.visits(right[kept]) if transposed else gone.backward(right[kept])
            return x, rounding(len(kept)) + self.unit, 0.0
        inner = sparse.csr_array(self.block[kept][:, kept])
        solver = Solver(inner, leaving[kept], self.tolerance)
        solved = solver.visits(right[kept])[0] if transposed else solver.backward(right[kept])
        x[kept] = solved.values
        return x, 0.0, float(solved.bound.sum(axis=0).max() if transposed else solved.bound.max())


def best_flow(block: sparse.csr_array, out: Vector, visits: Vector) -> Vector:
    """Return upper bounds of the chance of any one flow onward from each state of a class, whatever was before it.

    A flow ends at i with `G_i out_i`, or goes on to j with `G_i p_ij` times its chance onward from there; G_i is no
    more than `visits` (k,), and no chance is more than 1. Each sweep leaves upper bounds, of longer ways.
    """
    best = np.ones(len(out))
    rows = np.repeat(np.arange(len(out)), np.diff(block.indptr))
    for _ in range(SWEEPS):
        way = out.copy()
        np.maximum.at(way, rows, block.data * best[block.indices])
        better = np.minimum(best, visits * way)
        if (better >= 0.999 * best).all():
            return better
        best = better
    return best
