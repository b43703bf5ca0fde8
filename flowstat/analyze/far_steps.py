"""Whether runs get there within more steps than can be taken: what is still to come goes down next to geometrically.

After k steps, f is the chance to arrive with the next one, from each state, and `g = N f` that to arrive later: on the
way with chances Q, `g = f + Q g`. Where `a f <= g <= b f` everywhere, `(1 - 1/a) g <= Q g <= (1 - 1/b) g`, so that

    g (1 - (1 - 1/b)^t)  <=  f + Q f + ... + Q^(t-1) f  <=  g (1 - (1 - 1/a)^t),

the chance to arrive with one of the next t steps: a and b are as close as the shape of f has settled (this is the power
method with the bounds of Collatz and Wielandt; Berman and Plemmons, Nonnegative Matrices in the Mathematical Sciences
(1994), chapter 2). Nothing is subtracted, so that slow chains lose no digits. Periodic classes are averaged over their
turns. A state is stayed at with what the others of its row leave of 1, as everywhere in `flowstat.analyze.solve`; where
they sum to more than 1 they are scaled to it.
"""

from __future__ import annotations

from math import lcm
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.aim import Aim
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.periods import phases
from flowstat.analyze.search import Index, Vector, backwards
from flowstat.analyze.solve import Solved, strong_classes
from flowstat.analyze.stepping import BLOCK, TINY

__all__ = ["far_within"]

CLOSE = 1e-15
"""How close to one another what is proven to stop stepping."""

FAIR = 1e-10
"""From here on it is also stopped where more steps prove little more."""

FEWER = 50
"""How many times fewer steps are taken than are asked for, at least."""

LONGEST = 2**16
"""How many steps are taken for the shape to settle, at most."""

WORK = 1e10
"""How many arrows are followed for it, at most."""

TURNS = 4096
"""Longest window over which the turns of periodic classes are averaged."""

FAINT = 1e-300
"""More than is lost of a number because those below 1e-308 are not held to full precision."""

LEFT_OUT = 1e-14
"""Classes from which fewer runs than this are still to get there have no shape any more: they are left out of it."""


class _Stepped(NamedTuple):
    """What some steps brought, as means over a window of starts; all (n,), each value with its bound beside."""

    arriving: Vector
    arriving_off: Vector
    arrived: Vector
    arrived_off: Vector


def far_within(aim: Aim, steps: int) -> Solved | None:
    """Return the chances to get there within so many steps, (n,); None for too few steps to leap.

    Some of the steps are taken, until the bound is next to that of rounding, or gets no better, or they are many: then
    it is as good as it got, and may be of no use. O(arrows) a step, and two solutions every four times as many steps.

    Raises
    ------
    AnalysisError
        If a class is too large and too close to closed to be solved.
    """
    way = np.flatnonzero(aim.able & ~aim.inside)
    walk = _Walk(aim, way)
    low, high = np.zeros(len(way)), np.ones(len(way))
    k, before = max(BLOCK, 4 * walk.window), np.inf
    while k * FEWER <= steps and k <= LONGEST and k * walk.Q.nnz <= WORK:
        least, most = _bracket(aim, walk, walk.to(k), steps - k)
        low, high = np.maximum(low, least), np.minimum(high, most)
        apart = float((high - low).max(initial=0.0))
        if apart <= CLOSE or FAIR > apart > before / 2:
            break
        k, before = 4 * k, apart
    if not walk.time:
        return None
    middle = low + np.maximum(0.0, high - low) / 2
    values, bound = aim.inside.astype(np.float64), np.zeros(len(aim.inside))
    values[way], bound[way] = middle, 1.01 * np.abs(high - low) / 2 + 2 * UNIT * middle + TINY
    return Solved(values, bound)


class _Walk:
    """Steps back, each number with how far it may be off, as it is taken."""

    def __init__(self, aim: Aim, way: Index) -> None:
        solver = aim.solver
        self.way = way
        moving = solver.moving[way]
        block = sparse.csr_array(aim.arrows[way][:, way])
        longest = int(np.diff(aim.arrows.indptr).max(initial=0))
        self.unit = 1.01 * (longest + 8) * UNIT
        """What rounding does to a sum over a row, and to what it leaves of 1."""
        over = np.maximum(moving, 1.0)
        self.over = 1.01 * (float(over.max(initial=1.0)) - 1) + self.unit
        """By how much rows may sum to more than 1."""
        off = block - sparse.diags_array(block.diagonal())
        stay = sparse.diags_array(np.maximum(0.0, 1.0 - moving))
        self.Q = sparse.csr_array(sparse.diags_array(1 / over) @ off + stay)
        self.window = int(min(_window(block), max(1, WORK // max(1, block.nnz))))
        f = aim.last[way] / over
        # The arrivals with the next step, and so far; each with its bound.
        self.next = np.stack([f, self.unit * f], axis=1)
        self.sums = np.zeros_like(self.next)
        self.time = 0

    def to(self, k: int) -> _Stepped:
        """Go on to k steps, and return the means over the window of starts from there."""
        while self.time < k:
            self._step()
        # The window is only looked through: it is gone on from its first step.
        kept = self.next, self.sums, self.time
        means = np.zeros((len(self.way), 4))
        for _ in range(self.window):
            means[:, :2] += self.next
            means[:, 2:] += self.sums
            self._step()
        self.next, self.sums, self.time = kept
        means /= self.window
        rounded = (self.window + 3) * UNIT
        means[:, 1::2] = (1 + rounded) * means[:, 1::2] + rounded * means[:, ::2] + FAINT
        return _Stepped(*np.ascontiguousarray(means.T))

    def _step(self) -> None:
        before = self.next
        sums = self.sums + before
        sums[:, 1] = (1 + 2 * UNIT) * sums[:, 1] + 2 * UNIT * sums[:, 0]
        after = self.Q @ before
        after[:, 1] = (1 + 4 * self.unit) * after[:, 1] + self.unit * (1.01 * after[:, 0] + before[:, 0] + before[:, 1])
        self.next, self.sums = after, sums
        self.time += 1


def _window(block: sparse.csr_array) -> int:
    """Return over how many steps the turns of all periodic classes come round."""
    if not block.shape[0]:
        return 1
    periods, _ = phases(block, strong_classes(block))
    return min(TURNS, lcm(*(set(periods.tolist()) - {0})))


def _bracket(aim: Aim, walk: _Walk, stepped: _Stepped, left: int) -> tuple[Vector, Vector]:
    """Return between what the chances are to get there within `left` steps more than have been taken."""
    way, wrong = walk.way, stepped.arriving_off
    later, _ = _to_come(aim, way, stepped.arriving)
    kept = backwards(walk.Q, later > LEFT_OUT).inside
    f = np.where(kept, stepped.arriving, 0.0)
    rest = np.where(kept, 0.0, stepped.arriving + wrong)
    values, bound = _to_come(aim, way, np.stack([f, rest, np.where(kept, wrong, 0.0)], axis=1))
    g, dropped, error = values.T
    off = bound[:, 0]
    dropped, error = 1.01 * (dropped + bound[:, 1]), error + bound[:, 2]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        ratio, doubt = np.stack([(g - off), (g + off)]) / f, np.where(kept & (wrong > 0), wrong / f, 0.0)
    part = csgraph.connected_components(walk.Q, directed=True, connection="weak")[1].astype(np.int64)
    shortest = np.clip(-_largest(part, np.where(f > 0, -(1 - 4 * UNIT) * ratio[0], -np.inf)), 1.0, 1e300)
    longest = _largest(part, np.where(g + off > 0, (1 + 4 * UNIT) * (1 + walk.over) * ratio[1], 1.0))
    relative = _largest(part, doubt)
    (least, still), (most, _) = _gone(longest, left - walk.window + 1), _gone(shortest, left)
    least, most = (1 - 8 * UNIT) * (g - off) * least, (1 + 8 * UNIT) * (1 + walk.over) * (g + off) * most
    with np.errstate(invalid="ignore"):
        astray = stepped.arrived_off + 1.01 * np.fmin(error, relative * most)
        later = (1 + relative) * (g + off) * still
    hit, _ = aim.chances
    ever, doubt = hit.values[way], hit.bound[way] + 4 * UNIT
    low = np.fmax(stepped.arrived + least - astray, ever - doubt - 1.01 * later - dropped)
    high = np.minimum(stepped.arrived + most + astray + dropped, ever + doubt)
    return np.maximum(low - 4 * UNIT * np.abs(low), 0.0), high + 4 * UNIT * high


def _largest(part: Index, values: Vector) -> Vector:
    """Return for each state the largest of the values of the states that it is connected with."""
    found = np.full(int(part.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(found, part, values)
    result: Vector = found[part]
    return result


def _to_come(aim: Aim, way: Index, arriving: Vector) -> tuple[Vector, Vector]:
    """Return the chance to arrive later, and its bound, from that to arrive with the next step; (n,) or (n, m)."""
    gain = np.zeros((len(aim.inside), *arriving.shape[1:]))
    gain[way] = arriving
    solved = aim.solver.backward(gain)
    return solved.values[way], solved.bound[way]


def _gone(mean: Vector, steps: int) -> tuple[Vector, Vector]:
    """Return what share is gone after so many steps with each of which as many as 1 in `mean` go, and what is left."""
    times = float(steps) if steps < 10**300 else np.inf
    with np.errstate(divide="ignore", over="ignore"):
        power = np.where(np.isfinite(mean), times, 0.0) * np.log1p(-1 / mean)
        return -np.expm1(power), np.exp(power) * (1 + 4 * UNIT * (1 + np.minimum(1e4, -power)))
