"""The law of a run's time on a grid of times: bracketed, since every latency is rounded down, or up, to the grid.

The transform of the time, `a (I - B(z))^-1` with `B_ij(z) = p_ij E z^latency`, is computed at the points
`r exp(2 pi i k / M)` and turned back by one fast Fourier transform (Abate and Whitt, Operations Research Letters 12
(1992)). A time on a grid makes that well conditioned, unlike the inversion of a Laplace transform. Three things are
off, and all are in the bound: what lies M cells further on is folded in with weight r^M; the Fourier transforms
(Higham, Accuracy and Stability of Numerical Algorithms (2002), theorem 24.2); and the systems, each by its residual,
which counts with the chance h of the outcome from where it arises, since |B(z)| <= P. Not counted: the rounding of
scipy's gamma law, some 1e-14, and what of a law of deviation below 1e-8 of its mean is more than 40 deviations off.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log2, sqrt

import numpy as np
import numpy.typing as npt
from scipy import special

from flowstat.analyze.arrow_times import NANO, Stated
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, Vector
from flowstat.analyze.timed import Timed, Way
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END
from flowstat.estimate.latency import GROWTH, Latency

__all__ = ["FOLDED", "Lattice", "cells_for", "on_grid"]

Complex = npt.NDArray[np.complex128]

FOLDED = 1e-6
"""r^M: how much of what lies beyond the grid is folded into it."""

EDGE = 1e-12
"""By how much the edges of a sketch's buckets are moved outwards, relatively: they were rounded."""

NARROW, TAIL = 1e-8, 40.0
"""A stated latency of so small a deviation, relatively, is taken to lie within so many deviations of its mean.

Its gamma law has a shape of 1e16 or more, and so is all but normal: beyond lie some exp(-800), less than any float.
"""

WORK = 3e9
"""How many multiplications a law may take by default."""

HELD = 2e7
"""How many numbers it may hold."""

CHUNK = 2e6
"""How many entries the systems have that are solved at once."""

TINY = np.finfo(np.float64).tiny

FEWEST, MOST = 2**9, 2**15
"""How many cells a grid has."""


def cells_for(timed: Timed) -> int:
    """Return how many cells the grid of a chain can have, a power of two; 0 if it is too large for any."""
    passed = timed.passed.values > 0
    sizes = [float(passed[c.states].sum()) for c in timed.solver.classes if not c.closed]
    work = sum(size**3 + 300 * size for size in sizes) + 30.0 * passed[timed.rows].sum()
    held = float(passed[timed.rows].sum() + passed.sum() + 1)
    most = min(WORK / max(work, 1.0), HELD / held, MOST)
    return 2 ** int(log2(most)) if most >= FEWEST else 0


@dataclass(frozen=True)
class Lattice:
    """What the laws of the times of some outcomes are computed from.

    Attributes
    ----------
    timed
        The chain's passages and latencies.
    ways
        The outcomes.
    chances : (n, k)
        The chance of each outcome from each state.
    cells
        How many cells the transform has, a power of two; the law is known in the first half of them.
    """

    timed: Timed
    ways: list[Way]
    chances: Solved
    cells: int

    def law(self, step: float, *, up: bool) -> tuple[Vector, Vector]:
        """Return the chances to be at each outcome within each number of steps, (k, cells / 2), and a bound, (k,).

        Parameters
        ----------
        step
            The width of a cell, in seconds.
        up
            Whether latencies are rounded up, not down.
        """
        half = self.cells // 2
        radius = log(FOLDED) / self.cells
        shrink = np.exp(radius * np.arange(half))
        found, off = self._outcomes(step, shrink, up)
        back = np.fft.irfft(found, self.cells, axis=1)
        # In the norm of the whole spectrum, of which the half is held.
        turned = _fourier(self.cells) * np.sqrt((back**2).sum(axis=1))
        inherited = np.sqrt(2 * (off**2).sum(axis=1)) / sqrt(self.cells)
        law = np.cumsum(back[:, :half] / shrink, axis=1)
        spread = sqrt(float((shrink**-2).sum()))
        reach = np.array([float(way.probability.values) for way in self.ways])
        bound = 1.01 * (spread * (turned + inherited) + (half + 60) * UNIT * reach)
        return law, bound

    def _outcomes(self, step: float, shrink: Vector, up: bool) -> tuple[Complex, Vector]:
        """Return the transform of the time to each outcome, (k, cells / 2 + 1), and its bound."""
        timed = self.timed
        n, points = timed.solver.n, self.cells // 2 + 1
        widest = 0.0

        def transform(source: int, target: int | None) -> Complex:
            nonlocal widest
            pair = timed.chain.names[source], END if target is None else timed.chain.names[target]
            law = on_grid(timed.times.known[pair], step, len(shrink), up) * shrink
            widest = max(widest, float(np.sqrt((law**2).sum())))
            made: Complex = np.fft.rfft(law, self.cells)
            return made

        inflow, size = np.zeros((n, points), np.complex128), np.zeros((n, points))
        inflow[:] = timed.law[:, None]
        size[:] = timed.law[:, None]
        P, stop = timed.chain.P, timed.chain.stop
        worth = self.chances.values + self.chances.bound
        unit = 4 * timed.solver.inward
        off, passed = np.zeros((len(self.ways), points)), np.zeros((len(self.ways), points))
        found = np.zeros((len(self.ways), points), np.complex128)
        for part in timed.solver.classes:
            states = [int(i) for i in part.states if timed.passed.values[i] > 0]
            if part.closed or not states:
                continue
            place = {i: k for k, i in enumerate(states)}
            within, across = {}, []
            for i in states:
                for at in range(P.indptr[i], P.indptr[i + 1]):
                    j = int(P.indices[at])
                    taken = float(P.data[at]) * transform(i, j)
                    if j in place:
                        # 1 - p_ii z^latency, with 1 - p_ii as the sum of what leaves.
                        still = timed.solver.moving[i] + (float(P.data[at]) - taken)
                        within[place[i], place[j]] = still if i == j else taken
                    else:
                        across.append((i, j, taken))
                within.setdefault((place[i], place[i]), np.full(points, timed.solver.moving[i], np.complex128))
            a = _solved(within, inflow[states])
            residual, scale = inflow[states].copy(), size[states]
            for (k, m), entry in within.items():
                term = a[k] * entry
                residual[m] += -term if k == m else term
                scale[m] += np.abs(term)
            wrong = np.abs(residual) + unit * (scale + np.abs(a))
            off += worth[states].T @ wrong
            passed += worth[states].T @ np.abs(a)
            for i, j, taken in across:
                inflow[j] += a[place[i]] * taken
                size[j] += np.abs(a[place[i]] * taken)
            for k, way in enumerate(self.ways):
                for i in way.states.tolist() if way.kind != "trap" else ():
                    if i in place:
                        last = transform(i, None) if (timed.chain.names[i], END) in timed.times.known else 1.0
                        found[k] += a[place[i]] * float(stop[i]) * last
        for k, way in enumerate(self.ways):
            if way.kind == "trap":
                found[k] = inflow[way.states].sum(axis=0)
                off[k] += unit * size[way.states].sum(axis=0)
            else:
                off[k] += (len(way.states) + 8) * UNIT * passed[k]
        # Every transform of a latency is off, and so each passage.
        off += (_fourier(self.cells) * sqrt(self.cells) * widest + 60 * UNIT) * passed
        return found, 1.01 * off


def _solved(within: dict[tuple[int, int], Complex], inflow: Complex) -> Complex:
    """Solve `a (I - B) = inflow` at all points, (m, points); B has its diagonal as that of I - B."""
    m, points = inflow.shape
    if m == 1:
        alone: Complex = inflow / within[0, 0]
        return alone
    a = np.zeros_like(inflow)
    width = max(1, int(CHUNK / m**2))
    for first in range(0, points, width):
        some = slice(first, min(first + width, points))
        matrix = np.zeros((some.stop - first, m, m), np.complex128)
        for (i, j), entry in within.items():
            matrix[:, j, i] = entry[some] if i == j else -entry[some]
        try:
            a[:, some] = np.linalg.solve(matrix, inflow[:, some].T[:, :, None])[:, :, 0].T
        except np.linalg.LinAlgError:
            raise AnalysisError(
                "runs go round too often without any time passing for the law of their times to be known: the mean is"
            ) from None
    return a


def _fourier(cells: int) -> float:
    """Return how far a fast Fourier transform may be off, relatively, in the Euclidean norm."""
    return 1.01 * 7 * UNIT * log2(cells) / (1 - 7 * UNIT * log2(cells))


def on_grid(value: Stated, step: float, half: int, up: bool) -> Vector:
    """Return the law of a latency on the grid; what lies beyond is left out."""
    law = np.zeros(half)
    if isinstance(value, Latency) and value.squares * value.number != value.total**2:
        buckets = np.array(list(value.buckets))
        shares = np.array(list(value.buckets.values())) / value.number
        if up:
            cells = np.ceil(GROWTH**buckets * (NANO * (1 + EDGE)) / step)
        else:
            cells = np.floor(np.where(buckets > 0, GROWTH ** (buckets - 1.0), 0.0) * (NANO * (1 - EDGE)) / step)
        inside = cells < half
        np.add.at(law, cells[inside].astype(np.int64), shares[inside])
        return law
    mean, deviation = (value.mean * NANO, 0.0) if isinstance(value, Latency) else value
    if deviation <= NARROW * mean:
        edge = EDGE + (TAIL * (deviation / mean) if deviation else 0.0)
        cell = np.ceil(mean * (1 + edge) / step) if up else np.floor(mean * (1 - edge) / step)
        if cell < half:
            law[int(cell)] = 1.0
        return law
    # A shape so small that it is no float is that of a law all but at 0, and so is this one.
    shape = max((mean / deviation) ** 2, TINY)
    with np.errstate(over="ignore", under="ignore"):
        ends = np.arange(half + 1) * step * (1 - EDGE if up else 1 + EDGE) / mean * shape
    if not up:
        ends[1:] = np.maximum(ends[1:], TINY)
    below = special.gammainc(shape, ends)
    if up:
        law[1:] = np.diff(below)[: half - 1]
    else:
        law[:] = np.diff(below)
    return law
