"""The chance that runs stay at some states until they come to others, in a window of steps; and what it depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt

import numpy as np
from scipy import sparse

from flowstat.analyze.aim import Aim
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Mask, Vector, backwards, cut
from flowstat.analyze.solve import Solved
from flowstat.analyze.steps import arrived
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain

__all__ = ["Until"]

WORK = 1e10
"""How many arrows are followed at most, step by step."""

STEP = 2000
"""As many arrows could be followed in the time that a step takes beside its own."""

SLOW = 1e8
"""From how many arrows on it is worth while to look whether the last steps still count."""

SETTLED = 1e-9
"""A chance that is this near to the one without a window hangs on the same."""

TINY = 1e-320
"""More than is lost of a sum because numbers below 1e-308 are not held to full precision, an arrow."""


@dataclass(frozen=True)
class Until:
    """Runs that are at `left` until they come to `right`, between `low` and `high` steps from now.

    For the first `low` steps they have to be at `left`, even where they are at `right`: it is asked whether a run is
    there in the window, as in PCTL.

    Attributes
    ----------
    chain
        A chain that no run ends in: see `flowstat.analyze.closing.closed_chain`.
    left, right : (n,)
        States.
    low, high
        Steps; without `high` however many.
    failing
        Whether it is asked for the runs that do not.
    """

    chain: Chain
    left: Mask
    right: Mask
    low: int = 0
    high: int | None = None
    failing: bool = False

    @cached_property
    def _aim(self) -> Aim:
        """How runs come to `right` by way of `left`, after the first steps."""
        out = ~self.left & ~self.right
        P = cut(self.chain.P, out)
        # Whoever leaves `left` has failed, as if the run had ended.
        inside = replace(self.chain, P=P, stop=np.where(out, 1.0, self.chain.stop), counts=None, graph=None)
        return Aim(inside, ("right",), self.right, backwards(P, self.right))

    @cached_property
    def inner(self) -> Mask:
        """The states at which it is still open whether a run comes to `right`, after the first steps; (n,)."""
        return self._aim.able & ~self.right

    @cached_property
    def _span(self) -> int | None:
        return None if self.high is None else self.high - self.low

    @cached_property
    def _base(self) -> tuple[Solved, Mask, Mask]:
        """The chances after the first steps, where they are 0, and where 1: both by the graph."""
        aim = self._aim
        if self._span is None:
            hit, miss = aim.chances
            return (miss if self.failing else hit), ~aim.able, ~aim.doubtful
        never = aim.tree.depth > self._span
        sure = _sure(aim, self._span)
        if not self.failing:
            return arrived(aim, self._span), never, sure
        return self._missed(never, sure), never, sure

    def _missed(self, never: Mask, sure: Mask) -> Solved:
        """Return the chance not to come there in time: by steps, that nothing cancels, or as what is left of 1."""
        assert self._span is not None
        if _work(self.chain, self._span) > WORK / 10:
            hit = arrived(self._aim, self._span)
            return Solved(np.maximum(0.0, 1.0 - hit.values), 1.01 * (hit.bound + UNIT))
        outside = (~self.left & ~self.right).astype(np.float64)
        start = Solved(np.where(self.right, 0.0, 1.0), np.zeros(len(outside)))
        return self._stepped(start, self.left & ~self.right, outside, self._span)

    def _stepped(self, after: Solved, inside: Mask, fixed: Vector, steps: int) -> Solved:
        """Take steps back inside some states; the others have the value `fixed`."""
        P = self.chain.P
        if _work(self.chain, steps) > WORK:
            raise AnalysisError(f"{steps:,} steps are too many to be taken one by one here: ask for fewer, or for all")
        unit = 1.01 * (int(np.diff(P.indptr).max(initial=0)) + 4) * UNIT
        values, bound = after.values, after.bound
        for k in range(steps):
            onward = np.where(inside, P @ values, fixed)
            bound = np.where(inside, (1 + 4 * unit) * (P @ bound) + unit * onward + TINY * len(values), 0.0)
            # Once nothing changes any more, only the bound would: to no more than the largest, and its growth by steps.
            if k % 16 == 15 and np.array_equal(onward, values):
                most = np.exp(4 * unit * steps) * (bound.max() + (steps - k) * unit * float(onward.max()))
                return Solved(onward, np.where(inside, most, 0.0))
            values = onward
        return Solved(values, bound)

    @cached_property
    def solved(self) -> Solved:
        """The chance from every state, with its bound; (n,)."""
        base, _, _ = self._base
        if not self.low:
            return base
        fixed = np.where(self.left, 0.0, 1.0 if self.failing else 0.0)
        return self._stepped(base, self.left, fixed, self.low)

    @cached_property
    def other(self) -> Solved | None:
        """What is left of the chances to 1, where it is known without subtraction; (n,)."""
        if self.low or self.high is not None:
            return None
        hit, miss = self._aim.chances
        return hit if self.failing else miss

    @cached_property
    def _came(self) -> Solved:
        """The chance to come there after the first steps, whatever is asked for."""
        return self._base[0] if not self.failing else Until(self.chain, self.left, self.right, 0, self._span).solved

    @cached_property
    def _certain(self) -> tuple[Mask, Mask]:
        """From where no run comes there, and from where every one does, by the graph."""
        _, never, sure = self._base
        _ = self.solved  # refuses too many steps
        P = self.chain.P
        P = sparse.csr_array((np.ones(P.nnz), P.indices, P.indptr), P.shape)
        for _ in range(self.low):
            onward = (
                ~(self.left & (P @ (~never).astype(np.float64) > 0)),
                self.left & ~(P @ (~sure).astype(np.float64) > 0),
            )
            if all(np.array_equal(a, b) for a, b in zip(onward, (never, sure), strict=True)):
                break
            never, sure = onward
        return never, sure

    @property
    def never(self) -> Mask:
        """The states from which the chance is 0; (n,)."""
        return self._certain[1 if self.failing else 0]

    @property
    def always(self) -> Mask:
        """The states from which the chance is 1; (n,)."""
        return self._certain[0 if self.failing else 1]

    def gradient(self, law: Vector) -> Vector:
        """Return the derivative of the chance from a start law with respect to each arrow's share, (m,).

        Shares are changed alone: differences between the arrows of a node are what counts. The order is that of the
        chain's arrows. An estimate, without a bound.

        Notes
        -----
        With w the expected visits before `right` and h the chance from each state, `w_i h_j`; of T steps, with a_t the
        law after t of them and y_t the chance within t, `sum over t of a_t(i) y_{T-1-t}(j)`: a pass forward, two back.

        Raises
        ------
        AnalysisError
            If there are too many steps.
        """
        rows, columns, _ = self.chain.arrows()
        made = np.zeros(len(columns))
        right = self.right.astype(np.float64)
        base = self._came.values
        if self.low:
            made, law = self._swept(law, self.left, base, np.zeros(len(law)), self.low)
        whole = self._span is None or self._settled
        if whole:
            weights = self._aim.solver.visits(np.where(self.inner, law, 0.0))[0].values
            made = made + np.where(self.inner, weights, 0.0)[rows] * base[columns]
        elif self._span:
            added, _ = self._swept(law, self.left & ~self.right, right, right, self._span)
            made = made + added
        return -made if self.failing else made

    @property
    def _settled(self) -> bool:
        """Whether the steps are so many that it is all the same whether there is a last one."""
        if self._span is None or 3 * _work(self.chain, self._span) <= SLOW:
            return False
        ever = Until(self.chain, self.left, self.right).solved.values
        return bool(np.abs(ever - self._came.values).max(initial=0.0) <= SETTLED)

    def _swept(self, law: Vector, inside: Mask, y: Vector, fixed: Vector, steps: int) -> tuple[Vector, Vector]:
        """Return the gradient of some steps inside of some states, and the law after them.

        y is what states are worth after all steps, and `fixed` what those that are not inside are worth before.
        """
        P = self.chain.P
        if 3 * _work(self.chain, steps) > WORK:
            raise AnalysisError(
                f"{steps:,} steps are too many for what this answer hangs on to be known: ask for fewer, or for all"
            )
        rows, columns, _ = self.chain.arrows()
        backward = sparse.csr_array(P.T)
        every = max(1, isqrt(steps))

        def before(y: Vector) -> Vector:
            return np.where(inside, P @ y, fixed)

        # Only every so many of the values back are kept; those between are found once more when they are needed.
        kept, now = [], y
        for k in range(steps):
            if k % every == 0:
                kept.append(now)
            now = before(now)
        made = np.zeros(len(columns))
        a = np.where(inside, law, 0.0)
        after = a
        for first in range((len(kept) - 1) * every, -1, -every):
            some = [kept[first // every]]
            for _ in range(min(every, steps - first) - 1):
                some.append(before(some[-1]))
            for y in reversed(some):
                a = np.where(inside, after, 0.0)
                made += a[rows] * y[columns]
                after = backward @ a
        return made, after


def _work(chain: Chain, steps: int) -> float:
    """Return as how many arrows so many steps count."""
    return float(steps) * (chain.P.nnz + STEP)


def _sure(aim: Aim, steps: int) -> Mask:
    """Return from which states every run gets there within so many steps: by the longest way, (n,)."""
    sure = aim.inside.copy()
    if not steps:
        return sure
    P = aim.chain.P
    # How many ways lead on from each state that is not yet known to lead there surely.
    open_ways = np.diff(P.indptr).astype(np.int64)
    failing = aim.chain.stop > 0
    into = sparse.csc_array(P)
    layer = np.flatnonzero(sure)
    for _ in range(min(steps, len(sure))):
        lengths = np.diff(into.indptr)[layer]
        if not lengths.sum():
            break
        at = np.repeat(into.indptr[layer] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        touched, times = np.unique(into.indices[at + np.arange(lengths.sum())], return_counts=True)
        open_ways[touched] -= times
        layer = touched[(open_ways[touched] == 0) & ~failing[touched] & ~sure[touched]]
        sure[layer] = True
    return sure
