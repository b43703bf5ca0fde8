"""What runs collect until they come to some states, in events or in seconds; and what that depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from flowstat.analyze.aim import Aim
from flowstat.analyze.arrow_times import OFF, ArrowTimes, Latencies, arrow_times
from flowstat.analyze.closing import end_name
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Mask, Vector, backwards, cut, reachable
from flowstat.analyze.solve import Solved
from flowstat.estimate.chain import END, Chain
from flowstat.estimate.latency import Latency

__all__ = ["Collected", "closed_times"]


@dataclass(frozen=True)
class Collected:
    """The expected number of events, or seconds, until runs come to `goal`; infinite from where they may not.

    An event at a goal is not counted, nor is being over.

    Attributes
    ----------
    chain
        A chain that no run ends in: see `flowstat.analyze.closing.closed_chain`.
    goal : (n,)
        States.
    times
        How long each arrow takes; without, each event counts 1.
    """

    chain: Chain
    goal: Mask
    times: ArrowTimes | None = None

    @cached_property
    def _aim(self) -> Aim:
        return Aim(self.chain, ("goal",), self.goal, backwards(self.chain.P, self.goal))

    @property
    def infinite(self) -> Mask:
        """The states from which a run may never come to a goal, (n,)."""
        return self._aim.doubtful

    @cached_property
    def open(self) -> Mask:
        """The states at which something is collected and the sum is finite, (n,)."""
        return ~self.infinite & ~self.goal

    @cached_property
    def solved(self) -> Solved:
        """The expectation from every state, with its bound; (n,)."""
        gain = self.open.astype(np.float64)
        if self.times is None:
            gain[-1] = 0.0
            found = self._aim.solver.backward(gain)
        else:
            rows, _, shares = self.chain.arrows()
            lasting = np.bincount(rows, shares * self.times.mean, len(gain))
            gain = np.where(self.open, lasting, 0.0)
            unit = (OFF + 2) * UNIT + self._aim.solver.unit
            found = self._aim.solver.backward(gain, gain_bound=1.01 * unit * gain)
        for each, value in ((found.values, np.inf), (found.bound, 0.0)):
            each[self.infinite] = value
            each[self.goal] = 0.0
        return found

    def _weights(self, law: Vector) -> Vector:
        return np.where(self.open, self._aim.solver.visits(np.where(self.open, law, 0.0))[0].values, 0.0)

    def gradient(self, law: Vector) -> Vector:
        """Return the derivative of the expectation from a start law with respect to each arrow's share, (m,).

        As `flowstat.analyze.until.Until.gradient`: `w_i (g_ij + x_j)`, an estimate. The law has only states from which
        the expectation is finite.
        """
        rows, columns, _ = self.chain.arrows()
        onward = np.where(self.infinite, 0.0, self.solved.values)[columns]
        if self.times is not None:
            onward = onward + self.times.mean
        made: Vector = self._weights(law)[rows] * onward
        return made

    def noise(self, law: Vector) -> float:
        """Return the variance of the expectation because the mean latencies are those of finitely many messages."""
        if self.times is None:
            return 0.0
        rows, columns, shares = self.chain.arrows()
        passed = self._weights(law)[rows] * shares
        names = self.chain.names
        found = 0.0
        for k in np.flatnonzero((passed > 0) & (self.times.deviation > 0)).tolist():
            known = self.times.known[names[rows[k]], names[columns[k]]]
            if isinstance(known, Latency):
                found += float(passed[k] * self.times.deviation[k]) ** 2 / known.number
        return found


def closed_times(
    chain: Chain, closed: Chain, latencies: Latencies | None, goal: Mask, idle: Mask | None = None
) -> ArrowTimes:
    """Return the latencies of a closed chain: the last event of a run takes its time on the way to the end.

    Parameters
    ----------
    chain
        The chain before it was closed.
    goal : (n + 1,)
        Until where latencies are needed; where none is known of an end, it takes no time.
    idle : (n + 1,)
        States to which it does not matter how long it takes: 0, where it is not known.

    Raises
    ------
    AnalysisError
        If an arrow that runs can take until then has no latency, or one that is stated is no latency.
    """
    recorded = chain.counts.latencies if chain.counts is not None else {}
    stated = {
        **{pair: value for pair, value in recorded.items() if value.number and pair[1] == END},
        **(latencies or {}),
    }
    end = end_name(chain)
    known: dict[tuple[str, str], object] = {(name, end): (0.0, 0.0) for name in chain.names}
    for pair, value in stated.items():
        is_end = isinstance(pair, tuple) and len(pair) == 2 and pair[1] == END
        known[(pair[0], end) if is_end else pair] = value
    known[end, end] = (0.0, 0.0)
    rows, columns, _ = closed.arrows()
    # What comes after a goal is not asked.
    passed = (reachable(cut(closed.P, goal), closed.start > 0) & ~goal)[rows]
    named = replace(closed, counts=chain.counts, prior=chain.prior)
    if idle is not None:
        passed &= ~idle[columns]
        names = closed.names
        for k in np.flatnonzero(idle[columns]).tolist():
            pair = names[rows[k]], names[columns[k]]
            if pair not in known and pair not in recorded:
                known[pair] = (0.0, 0.0)
    return arrow_times(named, known, passed)  # type: ignore[arg-type]
