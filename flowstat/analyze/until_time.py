"""The chance that runs come to some states within so many seconds, on their way at others: between two bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from flowstat.analyze.aim import weighted
from flowstat.analyze.arrow_times import ArrowTimes, Latencies
from flowstat.analyze.brackets import Brackets
from flowstat.analyze.collected import closed_times
from flowstat.analyze.lattice import FOLDED, on_grid
from flowstat.analyze.search import Vector, cut, reachable
from flowstat.analyze.solve import Solved
from flowstat.analyze.spread import Spread
from flowstat.analyze.timed import Timed, Way
from flowstat.analyze.until import Until
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.estimate.latency import Latency

__all__ = ["TimedUntil"]

CELLS = 256
"""How many cells the time has for what the chance hangs on."""

HELD = 1e7
"""How many numbers of arrows and cells are held for that, at most."""

FEWEST = 16


@dataclass(frozen=True)
class TimedUntil:
    """Runs that come to `until.right` by way of `until.left` within some seconds, from where they start.

    Attributes
    ----------
    chain
        The chain before it was closed, for its latencies.
    until
        Its window of steps and its `failing` do not count.
    seconds
        From the start of the first event to the start of the one at `right`; to the end of a run with its last event,
        where it is known what that takes.
    latencies
        Latencies that are stated; they go before those of the counts.
    """

    chain: Chain
    until: Until
    seconds: float
    latencies: Latencies | None = None

    @cached_property
    def _whole(self) -> Until:
        return Until(self.until.chain, self.until.left, self.until.right)

    @cached_property
    def _times(self) -> ArrowTimes:
        never = self._whole.never
        return closed_times(self.chain, self.until.chain, self.latencies, self.until.right | never, never)

    @cached_property
    def range(self) -> tuple[float, float]:
        """Between what the chance lies, proven for the latencies as they are known.

        Raises
        ------
        AnalysisError
            If an arrow that runs can take has no latency, or the chain is too large for a grid: see `durations`.

        Notes
        -----
        See `flowstat.analyze.brackets` for how, and what it takes.
        """
        closed, right = self.until.chain, self.until.right
        out = right | self._whole.never
        chance, off = weighted(closed.start, self._whole.solved)
        if not closed.start[~self._whole.never].any():
            return 0.0, 0.0
        if not closed.start[~right].any():
            return 1.0, 1.0
        # Whoever is there, or can't get there any more, has ended.
        inside = replace(closed, P=cut(closed.P, out), stop=np.where(out, 1.0, 0.0))
        timed = Timed(inside, None, self._times.known, 0)
        way = Way("right", "stop", np.flatnonzero(right), Solved(np.array(chance), np.array(off)))
        (low,), (high,) = Brackets(timed, [way], None).within(0, self.seconds, 1)
        return low, high

    def variance(self, spread: Spread) -> float:
        """Return the variance of the chance that the data leave: of the shares, and of the laws of the latencies.

        Notes
        -----
        To first order, on a coarser grid of times. With a_t(i) the expected events at i in cell t and g_t(j) the chance
        to come there from j in cell t, an arrow's share counts `E c(T - latency)`, c the running sum of the convolution
        of both; and the law of its latency, of m messages, adds `p_ij^2 Var c(T - latency) / m`. An estimate.
        """
        closed = self.until.chain
        rows, columns, shares = closed.arrows()
        inner, right = self._whole.inner, self.until.right
        reached = reachable(cut(closed.P, ~inner), closed.start > 0)
        own = np.flatnonzero((inner & reached)[rows] & (inner | right)[columns])
        if not len(own):
            return spread.variance(np.zeros(len(rows)), closed.start[:-1], self._whole.solved.values[:-1])
        cells = CELLS
        while cells > FEWEST and cells * len(own) > HELD:
            cells //= 2
        if cells * len(own) > HELD:
            raise AnalysisError(
                f"{len(own):,} arrows are too many for an interval of a chance in time: ask for a window of steps, as "
                "F<=20"
            )
        i, j, p = rows[own], columns[own], shares[own]
        laws = self._laws(i, j, cells)
        radius = FOLDED ** (1 / (2 * cells))
        shrink = radius ** np.arange(cells + 1)
        turned = np.fft.rfft(laws * shrink, 2 * cells, axis=1)
        a, g = self._solved(i, j, p[:, None] * turned)

        def back(spectrum: npt.NDArray[np.complex128]) -> Vector:
            made: Vector = np.fft.irfft(spectrum, 2 * cells, axis=1)[:, : cells + 1] / shrink
            return np.cumsum(made, axis=1)

        after = back(a[i] * g[j])[:, ::-1]
        gradient = np.zeros(len(rows))
        gradient[own] = (laws * after).sum(axis=1)
        apart = (laws * (after - gradient[own][:, None]) ** 2).sum(axis=1)
        # What has not come within the time is worth nothing.
        apart += (1 - laws.sum(axis=1)) * gradient[own] ** 2
        number = np.array([self._messages(*pair) for pair in zip(i.tolist(), j.tolist(), strict=True)])
        noise = float((p**2 * apart / number).sum())
        return noise + spread.variance(gradient, closed.start[:-1], back(g)[:-1, -1])

    def _messages(self, i: int, j: int) -> float:
        known = self._times.known[self.until.chain.names[i], self.until.chain.names[j]]
        return float(known.number) if isinstance(known, Latency) else np.inf

    def _laws(self, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], cells: int) -> Vector:
        """Return the law of each latency on the grid, halfway between rounded up and rounded down."""
        step = self.seconds / cells
        names, known = self.until.chain.names, self._times.known
        laws = np.zeros((len(i), cells + 1))
        for k, pair in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
            value = known[names[pair[0]], names[pair[1]]]
            laws[k] = (on_grid(value, step, cells + 1, True) + on_grid(value, step, cells + 1, False)) / 2
        return laws

    def _solved(
        self, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], passing: npt.NDArray[np.complex128]
    ) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
        """Return the transforms of the events at each state, and of the time from it; both (n, points)."""
        n, points = len(self.until.right), passing.shape[1]
        right = self.until.right.astype(np.float64)
        states = np.unique(i)
        place = np.full(n, -1)
        place[states] = np.arange(len(states))
        inside = place[j] >= 0
        a, g = np.zeros((n, points), np.complex128), np.zeros((n, points), np.complex128)
        g[:] = right[:, None]
        start = self.until.chain.start[states].astype(np.complex128)
        eye = sparse.eye_array(len(states), format="csc")
        for k in range(points):
            onward = passing[:, k]
            block = (onward[inside], (place[i[inside]], place[j[inside]]))
            system = sparse.csc_array(eye - sparse.csc_array(block, shape=eye.shape))
            try:
                factor, across = splu(system), splu(sparse.csc_array(system.T))
            except RuntimeError:
                raise AnalysisError(
                    "runs go round too often without any time passing for an interval of a chance in time: ask for a "
                    "window of steps (F<=20)"
                ) from None
            arriving = np.zeros(len(states), np.complex128)
            np.add.at(arriving, place[i], np.where(self.until.right[j], onward, 0.0))
            a[states, k] = across.solve(start)
            g[states, k] = factor.solve(arriving)
        return a, g
