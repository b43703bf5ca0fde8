"""A large class that mixes fast, solved by compiled code: rough sweeps, and fine residuals that prove a bound.

What an answer x leaves of its system, `r = b - M x`, is found in pairs of floats (`flowstat.analyze.doubles`); a few
sweeps, each new value used at once (Gauss and Seidel), in floats of 32 bits, solve for what r lacks, and that is added
to x, a pair itself (iterative refinement: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 12).
Sweeps forget where they began as fast as the class mixes, except how large x is as a whole: that comes from the balance
of the whole class (aggregation to one state: Stewart, Introduction to the Numerical Solution of Markov Chains (1994),
section 6.3).

Cost: some ten sweeps over the arrows for five digits where the class mixes well; columns on as many cores as there
are. Memory: 16 bytes an arrow, and some 50 a state and column.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.sweep_code import sweeping

__all__ = ["LARGE", "Proof", "Sweeps", "System", "system"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Small = npt.NDArray[np.float32]
Places = npt.NDArray[np.int32]

LARGE = 20_000
"""From how many states on a class is swept by compiled code: below, compiling would take longer."""

GOAL = 1e-13
"""How small the bound of an answer should be, relative to its largest entry."""

ROUGH = 1e-3
"""The same, of an answer that is only there to prove others."""

SET = 3
"""Sweeps between two looks at the balance."""

MOST = 48
"""Sweeps between two residuals, at most."""

ENOUGH = 1e-6
"""What a sweep may still change, relative to what is solved for, when a new residual is worth more than sweeps."""

FINEST = 1e-7
"""The same, relative to what was found: no more comes of 32 bits."""

FIRST = 0.01
"""The same, as long as it is not known what the error looks like that sweeps leave."""

ACCEPTED = 1e-9
"""The bound of an answer that is good enough if it does not get better."""

PATIENCE = 4
"""Residuals that may pass before each has to be at most half of the last."""

UNEVEN = 5.0
"""How wrong, relative to what is wrong in the states, the balance may be before it needs the visits as its weights."""


@dataclass(frozen=True)
class System:
    """`M x = b`, M = diag(moving) - off, as compiled code has it; k states.

    Attributes
    ----------
    indptr, indices, shares
        off, as CSR without its diagonal.
    moving : (k, 2)
        Chance to go elsewhere: pairs of floats.
    order : (k,)
        Which of the class's states each row is of.
    """

    order: Places
    indptr: Index | Places
    indices: Places
    shares: Vector
    moving: Vector

    def transposed(self) -> System:
        """Return the system of the visits."""
        indptr, indices, shares = sweeping().turned(self.indptr, self.indices, self.shares)
        return System(self.order, indptr, indices, shares, self.moving)


@dataclass(frozen=True)
class Proof:
    """What bounds all answers of a system: `M values >= least`, both (k,), with all of `least` positive.

    `along` is nearly `M values`.
    """

    values: Vector
    least: Vector
    along: Vector


def system(P: sparse.csr_array, stop: Vector, states: Index) -> System:
    """Return the system of the gains of one class of a chain.

    A state comes soon after the one that it most often leads to: with new values used at once, less is left to do by
    later sweeps, and what is needed is near in memory.
    """
    place = np.full(P.shape[0], -1, np.int32)
    place[states] = -2
    order = sweeping().follow(P.indptr, P.indices, P.data, states.astype(np.int32), place)
    n = len(states)
    begins = np.zeros(n + 1, P.indptr.dtype)
    np.cumsum(np.diff(P.indptr)[order], out=begins[1:])
    to, shares, moving = np.empty(begins[-1], np.int32), np.empty(begins[-1]), np.empty((n, 2))
    chain = P.indptr, P.indices, P.data, stop
    _each(lambda *half: sweeping().cut(chain, order, place, begins, to, shares, moving, *half), _halves(n))
    if n < P.shape[0]:
        order[place[states]] = np.arange(n, dtype=np.int32)
    return System(order, begins, to, shares, moving)


class Sweeps:
    """A system made ready to be swept.

    Parameters
    ----------
    of
        The system, or its transpose.
    unit
        What rounding may do to a sum over a row, in floats.
    """

    def __init__(self, of: System, unit: float) -> None:
        self.of = of
        self.unit = unit
        self.ones = self.weights = np.ones(len(of.moving))
        matrix = of.indptr, of.indices, of.shares, of.moving
        ready = _each(lambda work, *some: work(*matrix, *some), [(sweeping().scaled,), (sweeping().balance, self.ones)])
        (self.scaled, self.inverse, self.upward), (self.shape, self.inward) = ready
        self.proof: Proof | None = None
        if float(np.sqrt(self.shape @ self.shape)) > UNEVEN * abs(float(self.inward.sum())):
            self._weigh()

    def _weigh(self) -> None:
        """Weigh the states by how often the class is there, roughly."""
        turned = self.of.transposed()
        scaled = turned.shares / np.repeat(turned.moving[:, 0], np.diff(turned.indptr))
        w, none = np.ones(len(turned.moving)), np.zeros(len(turned.moving))
        for _ in range(MOST // SET):
            changed = sweeping().sweep(turned.indptr, turned.indices, scaled, none, w, SET, not self.upward)
            largest = w.max()
            if not largest > 1e-200:
                return
            w /= largest
            if changed <= 1e-10 * largest:
                break
        self.weights = w
        self.shape, _ = sweeping().balance(self.of.indptr, self.of.indices, self.of.shares, self.of.moving, w)

    def solve(self, right: Vector, wrong: Vector) -> tuple[Vector, Vector] | None:
        """Return answers, (k, q), and their bounds for right sides off by up to `wrong`; None if it gets nowhere.

        The right sides are in the order of the class. What proves bounds is kept: at first it comes from a right side
        that is positive everywhere, or from one that is added.
        """
        q = right.shape[1]
        columns = [np.ascontiguousarray(right[:, c][self.of.order]) for c in range(q)]
        steady, rough = -1, False
        if self.proof is None:
            even = [float(b.min() / max(float(b.max()), 1e-300)) for b in columns]
            steady = int(np.argmax(even))
            if even[steady] < 1e-3:
                columns.append(self.ones)
                steady, rough = q, True
        solved = self._refine(columns, steady, rough)
        if solved is None or self.proof is None:
            return None
        x, bound = np.empty_like(right), np.empty_like(right)
        order, none = self.of.order, self.ones[:0]
        for c in range(q):
            found, off = solved[c]
            parts = (sweeping().worst(*each, self.proof.least, order) for each in ((off, none), (none, wrong[:, c])))
            ratios = tuple(1.01 * ratio for ratio in parts)
            share = sweeping().share(right[:, c], wrong[:, c])
            sweeping().handed(found, self.proof.values, ratios, share, order, x[:, c], bound[:, c])
        return x, bound

    def _refine(self, columns: list[Vector], steady: int, rough: bool) -> list[tuple[Vector, Vector]] | None:
        n, q = len(self.ones), len(columns)
        x = [np.zeros((n, 2)) for _ in range(q)]
        rest, off, t, y = ([np.empty(n, kind) for _ in range(q)] for kind in (float, float, np.float32, np.float32))
        level, before = np.full(q, np.inf), np.full(q, np.inf)
        goals = np.array([ROUGH if rough and c == steady else GOAL for c in range(q)])
        active = list(range(q))
        phase = 0
        # At first no direction is known that is worth many sweeps.
        direction, along, finest = self.ones, self.inward, FIRST
        while active:
            if self.proof is not None and phase == 0:
                direction, along, finest = self.proof.values, self.proof.along, FINEST
            # Until something is proven, others than what will prove it wait.
            turn = active if phase == 0 or self.proof is not None else [steady]
            enough = np.clip(0.01 * goals / np.maximum(level, 1e-300), ENOUGH, 1e-2)
            towards = direction, along
            how = [
                (
                    columns[c] if phase == 0 else rest[c],
                    x[c],
                    t[c],
                    y[c],
                    towards,
                    (SET, MOST, float(enough[c]), finest),
                )
                for c in turn
            ]
            if not all(_each(self._improve, how)):
                return None
            parts = [(columns[c], x[c], rest[c], off[c], *h) for c in turn for h in _halves(n)]
            if not all(_each(self._rest, parts)):
                return None
            phase += 1
            before[:] = level
            if steady in turn:
                positive, proven, *made = sweeping().proven(columns[steady], x[steady], rest[steady], off[steady])
                self.proof = Proof(*made) if proven else self.proof
                if positive:
                    direction, along, finest = made[0], made[2], FINEST
            for c in active if self.proof is not None else ():
                level[c] = self._level(x[c], off[c])
            if self.proof is None:
                level[steady] = sweeping().worst(off[steady], self.ones[:0], columns[steady], self.of.order)
            slow = [c for c in turn if level[c] > goals[c] and phase > PATIENCE and level[c] > 0.5 * before[c]]
            if any(level[c] > ACCEPTED for c in slow):
                return None
            active = [c for c in active if level[c] > goals[c] and c not in slow]
        return list(zip(x, off, strict=True))

    def _level(self, x: Vector, off: Vector) -> float:
        """Return the bound of an answer, relative to its largest entry."""
        assert self.proof is not None
        size = max(float(x[:, 0].max()), -float(x[:, 0].min()), 1e-300)
        ratio = float(sweeping().worst(off, self.ones[:0], self.proof.least, self.of.order))
        return ratio * float(self.proof.values.max()) / size

    def _improve(
        self,
        rest: Vector,
        x: Vector,
        t: Small,
        y: Small,
        towards: tuple[Vector, Vector],
        how: tuple[int, int, float, float],
    ) -> bool:
        of = self.of
        matrix, whole = (of.indptr, of.indices, self.scaled, self.inverse), (self.weights, self.shape, *towards)
        return bool(sweeping().improve(matrix, whole, rest, x, t, y, self.upward, how))

    def _rest(self, b: Vector, x: Vector, rest: Vector, off: Vector, first: int, last: int) -> bool:
        of = self.of
        matrix = (of.indptr, of.indices, of.shares, of.moving)
        return bool(sweeping().rest(matrix, b, x, rest, off, self.unit * 2.0**-47, first, last))


def _halves(n: int) -> list[tuple[int, int]]:
    return [(0, n // 2), (n // 2, n)]


def _each(work: Callable[..., Any], parts: list[tuple[Any, ...]]) -> list[Any]:
    """Work on each part, on as many cores as there are: no answer depends on how many."""
    workers = min(len(parts), _cores())
    if workers == 1:
        return [work(*part) for part in parts]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda part: work(*part), parts))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
