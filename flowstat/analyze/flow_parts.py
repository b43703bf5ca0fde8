"""A class of a chain without the nodes that a flow has passed: what a run does there before it goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.elimination import UNIT, divisor, eliminate, rounding
from flowstat.analyze.flow_large import Columns
from flowstat.analyze.solve import DENSE, Index, Solver, Vector

__all__ = ["Loops", "Part", "Step", "best_flow", "most_visits"]

SLICE = 64
"""How many columns are worked on at a time."""

TERMS = 40
"""After how many powers of a class's block the bound of its visits is taken as it is."""

LITTLE = 0.1
"""How much more than what is surely there a bound of visits may be."""

SWEEPS = 100
"""How long ways are that the bound of a single flow tells apart."""


@dataclass(frozen=True)
class Step:
    """What may follow a flow's prefix in its class.

    `never` is the chance, from its last node, to leave for good or come to an earlier node before it is come back to,
    and `wrong` how far it may be off, relatively. `ends` (k,) is the chance of each other node to leave the class
    before any node of the prefix is come to; 0 at the prefix itself.
    """

    never: float
    wrong: float
    ends: Vector


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
        self.inverse = Columns(Solver(self.block, self.exits, solver.tolerance)) if self.large else None

    def step(self, at: int, earlier: Index) -> Step:
        """Return what may follow at a state of the class, after some earlier ones."""
        quick = self.inverse.step(at, earlier) if self.inverse else None
        if quick is not None:
            return Step(quick[0], 1.01 * quick[1] / quick[0] + UNIT, quick[2])
        free = np.ones(len(self.states), bool)
        free[earlier] = False
        free[at] = False
        hit = self.columns(earlier)
        right = np.stack([self.exits, self.exits + hit], axis=1)
        if not len(earlier):
            right = right[:, :1]
        leaving = self.exits + hit + self.columns(np.array([at]))
        x, relative, absolute = self.solve(free, right, leaving)
        row = slice(self.block.indptr[at], self.block.indptr[at + 1])
        share, targets = self.block.data[row], self.block.indices[row]
        onward = free[targets]
        never = self.exits[at] + hit[at] + share[onward] @ x[targets[onward], -1]
        wrong = relative + self.unit + absolute / divisor(float(never))
        return Step(float(never), float(wrong), np.minimum(x[:, 0], 1.0))

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


def most_visits(block: sparse.csr_array, longest: Vector) -> Vector:
    """Return upper bounds of the expected visits to each state from itself, `N_ii`, for a class of k states.

    `N = 1 + P + ... + P^(T-1) + N P^T`, and no entry of the last term is larger than the largest of the column of P^T
    times the longest stay, `longest` (k,). T is taken so that this is little. Cost: T k nnz, some columns at a time.
    """
    k = block.shape[0]
    found = np.ones(k)
    stay = float(longest.max())
    for begin in range(0, k, SLICE):
        some = np.arange(begin, min(begin + SLICE, k))
        x = np.zeros((k, len(some)))
        x[some, some - begin] = 1.0
        total = np.zeros(len(some))
        bound = np.full(len(some), stay)
        for _ in range(TERMS):
            total += x[some, some - begin]
            x = block @ x
            bound = np.minimum(bound, total + stay * x.max(axis=0))
            if (bound - total <= LITTLE).all():
                break
        found[some] = np.minimum(bound, longest[some])
    return 1.001 * found


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
