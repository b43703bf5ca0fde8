"""Steps of a law forth, one by one or many at once; with how rounding adds up."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import sparse

from flowstat.analyze.aim import Aim
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Index, Vector, reachable
from flowstat.analyze.solve import Solved

__all__ = ["BLOCK", "FEW", "TINY", "Forward"]

TINY = 1e-290
"""More than all that is lost because numbers below 1e-308 are not held to full precision."""

FEW = 256
"""Up to how many states many steps are taken at once, by a power of the matrix."""

BLOCK = 64
"""How many steps are taken at once."""

STRETCH = 16
"""For how many steps it is kept which states runs may be at."""

WHOLE = 4096
"""Up to how many states all of them are stepped."""

EMPTY = 1e-18
"""What share of the runs on their way may be left out each time."""

PAIRWISE = 40
"""A pairwise sum of up to 10^9 terms rounds each term no more often than this."""


class Forward:
    """The law of where a run is that has not got there yet, as time goes on.

    Two bounds of its error are known, and the smaller one holds. Each step changes each entry relatively by no more
    than it has roundings: so much for each step that was taken, of what arrives in the end. And each step puts only
    as much in a wrong place as there still is: what has arrived is not rounded any more.

    Parameters
    ----------
    trim
        Whether classes that next to all runs have left may be left out. It is counted in `dropped`, which then bounds
        the error of every chance, beside the others.

    Attributes
    ----------
    states
        The states on the way, in topological order: runs come there, and can still get there.
    x
        The chance to be at each of them after `time` steps, not having got there.
    at_once
        The chance to be there from the first.
    followed
        How many arrows have been followed.
    """

    def __init__(self, aim: Aim, law: Vector, trim: bool = False) -> None:
        live = np.flatnonzero(reachable(aim.arrows, law > 0) & aim.able & ~aim.inside)
        self.aim, self.trim = aim, trim
        self.states: Index = live[np.argsort(aim.solver.label[live], kind="stable")]
        self.at_once = float(law[aim.inside].sum())
        self.x: Vector = law[self.states]
        self.there = float(self.x.sum())
        self.time = self.followed = 0
        self.Q = sparse.csr_array(aim.arrows[self.states][:, self.states])
        self._last = aim.last[self.states]
        self._leaving = np.flatnonzero(self._last)
        # The sum into a state and its products; the chance to arrive as a sum of products with sums.
        self._each = (int(np.bincount(self.Q.indices, minlength=1).max()) + 2) * UNIT
        longest = int(np.diff(aim.arrows.indptr).max(initial=0))
        self._once = (longest + PAIRWISE + int(aim.inside.sum()) + 4) * UNIT
        self._slack = _row_slack(aim, self.states)
        self._relative = self._astray = self._stayed = self.dropped = 0.0
        self._ahead: Vector | None = None
        self._levels: list[tuple[Vector, Vector]] = []
        self._stretch: tuple[int, slice, sparse.csr_array, Index] | None = None

    @property
    def few(self) -> bool:
        """Whether powers of the matrix are at hand: many steps at once."""
        return len(self.states) <= FEW

    def advance(self, most: int) -> tuple[Vector, Vector, Vector]:
        """Take up to so many steps, at least one.

        Returns
        -------
        arriving, relative, astray : (k,)
            The chance to arrive with each of the steps, and how far it, or any sum of it and of earlier ones, may be
            off: by no more than `relative` times itself, and by no more than `astray`.
        """
        if not self.there:
            self.time += most
            return np.zeros(most), np.full(most, self._relative + self._once), np.full(most, self._astray + self._once)
        if most >= BLOCK and self.time >= BLOCK and self.few:
            return self._many()
        part, block, leaving = self._active()
        arriving = np.array([(self.x[leaving] * self._last[leaving]).sum()])
        relative, astray = np.array([self._relative + self._once]), np.array([self._astray + self._once])
        self._wrong(self.there, 1)
        self.x[part] = block.T @ self.x[part]
        self.there = float(self.x[part].sum())
        self.time += 1
        self.followed += block.nnz + block.shape[0]
        return arriving, relative, astray

    def _active(self) -> tuple[slice, sparse.csr_array, Index]:
        """Return where runs may be in the next few steps, the arrows there, and the states from where they arrive."""
        n = len(self.states)
        if self._stretch is not None and (n <= WHOLE or self.time < self._stretch[0]):
            return self._stretch[1:]
        first, last = 0, n
        if n > WHOLE:
            some = np.flatnonzero(self.x)
            # A run comes back to all of its class.
            first, last = int(self._begins[some[0]]), int(some[-1]) + 1
            if self.trim:
                emptied = first + int(np.searchsorted(np.cumsum(self.x[first:last]), EMPTY * self.there))
                emptied = int(self._begins[emptied])
                self.dropped += 1.01 * float(self.x[first:emptied].sum())
                self.x[first:emptied] = 0.0
                first = emptied
            for _ in range(STRETCH):
                last = max(last, int(self._reach[last - 1]) + 1)
        part = slice(first, last)
        if self._stretch is None or self._stretch[1] != part:
            block = sparse.csr_array(self.Q[part, part])
            leaving = self._leaving[np.searchsorted(self._leaving, first) : np.searchsorted(self._leaving, last)]
        else:
            _, _, block, leaving = self._stretch
        self._stretch = self.time + STRETCH, part, block, leaving
        return part, block, leaving

    @cached_property
    def _begins(self) -> Index:
        """The first state of the class of each state."""
        label = self.aim.solver.label[self.states]
        begins: Index = np.searchsorted(label, label)
        return begins

    @cached_property
    def _reach(self) -> Index:
        """The last state that each state, or one before it, leads to."""
        farthest = np.arange(len(self.states))
        rows = np.repeat(farthest, np.diff(self.Q.indptr))
        np.maximum.at(farthest, rows, self.Q.indices)
        reach: Index = np.maximum.accumulate(farthest)
        return reach

    def _many(self) -> tuple[Vector, Vector, Vector]:
        """Take `BLOCK` steps at once."""
        power, collected = self._level(0)
        assert self._ahead is not None
        arriving: Vector = self.x @ self._ahead
        within: Vector = self._each * np.arange(BLOCK, dtype=np.float64)
        relative: Vector = self._relative + within + self._once
        astray: Vector = self._astray + within * float(self.x.sum()) + self._once
        self._wrong(float(self.x @ collected[:, 1]), BLOCK)
        self.x = self.x @ power
        self.there = float(self.x.sum())
        self.time += BLOCK
        return arriving, relative, astray

    def leap(self, level: int) -> tuple[float, float, float]:
        """Return what `advance` does for `BLOCK * 2**level` steps as one, without taking them: see `land`."""
        _, collected = self._level(level)
        arriving, spent = (self.x @ collected).tolist()
        taken = BLOCK << level
        relative = self._relative + 1.01 * taken * self._each + self._once
        return arriving, relative, self._astray + 1.02 * self._each * spent + self._once

    def land(self, level: int) -> None:
        """Take `BLOCK * 2**level` steps."""
        power, collected = self._level(level)
        self._wrong(float(self.x @ collected[:, 1]), BLOCK << level)
        self.x = self.x @ power
        self.there = float(self.x.sum())
        self.time += BLOCK << level

    def _level(self, level: int) -> tuple[Vector, Vector]:
        """Return the power of `BLOCK * 2**level` steps, and with it the chance to arrive and the expected steps."""
        if self._ahead is None:
            ahead, spent = [self._last], [np.ones(len(self.states))]
            for _ in range(BLOCK - 1):
                ahead.append(self.Q @ ahead[-1])
                spent.append(self.Q @ spent[-1])
            power = self.Q.toarray()
            for _ in range(BLOCK.bit_length() - 1):
                power = power @ power
            self._ahead = np.stack(ahead, axis=1)
            self._levels.append((power, np.stack([np.sum(each, axis=0) for each in (ahead, spent)], axis=1)))
            # Products with a dense block sum over all states, in any order.
            self._each = (len(self.states) + 3) * UNIT
            self._once += (len(self.states) + BLOCK) * UNIT
        while len(self._levels) <= level:
            power, collected = self._levels[-1]
            self._levels.append((power @ power, collected + power @ collected))
        return self._levels[level]

    def _wrong(self, spent: float, taken: int) -> None:
        """Count what some steps get wrong, in which a run is expected to be on its way for so many."""
        self._stayed += spent
        self._relative += 1.01 * taken * self._each
        self._astray += 1.02 * self._each * spent

    def beyond(self, hit: Solved) -> tuple[float, float]:
        """Return the chance to get there after now, and its bound; `hit` is that from every state."""
        terms = self.x * hit.values[self.states]
        total = float(terms.sum())
        off = float(self.x @ hit.bound[self.states]) + PAIRWISE * UNIT * total
        off += min(self._relative * total, self._astray) + self.drift + self.dropped
        return total, 1.01 * off + TINY * bool(len(self.states) and self.time)

    def drift_after(self, level: int) -> float:
        """Return what `drift` is after a leap."""
        return self.drift + 1.02 * self._slack * float(self.x @ self._level(level)[1][:, 1])

    @property
    def drift(self) -> float:
        """How far apart may have come what was stepped, and the chain that `Solver` solves.

        Here a state is stayed at with its stored share, there with what the other shares of its row leave of 1.
        """
        return 1.02 * self._stayed * self._slack


def _row_slack(aim: Aim, states: Index) -> float:
    """Return how far the rows of some states may be from summing to 1."""
    P = aim.chain.P
    sums = (np.asarray(P.sum(axis=1)).ravel() + aim.chain.stop)[states]
    longest = int(np.diff(P.indptr).max(initial=0))
    return float(np.abs(sums - 1).max(initial=0.0)) + (longest + 3) * UNIT
