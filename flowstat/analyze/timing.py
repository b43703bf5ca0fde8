"""How long runs take until they end or get stuck: mean and deviation, exactly, by outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.interval import Sampling
from flowstat.analyze.intervals import Intervals, WithIntervals, intervals_of
from flowstat.analyze.solve import Solved
from flowstat.analyze.timed import Timed
from flowstat.analyze.timed_intervals import asked_times, drawn
from flowstat.estimate.chain import Chain, Start
from flowstat.results import LINEAGES, Row, number

__all__ = ["OutcomeTime", "Timing", "timing"]

BLOCK = 2_000_000
"""How many numbers of a table of states and outcomes are held at once."""


@dataclass(frozen=True)
class OutcomeTime:
    """How long runs with one outcome take, in seconds.

    `kind` is `stop` (the run ends at that node), `trap` (it comes to a closed class: the time until then) or `end` (it
    ends at all).
    """

    outcome: str
    kind: Literal["end", "stop", "trap"]
    probability: float
    mean: float
    sd: float
    nodes: tuple[str, ...]
    error_bound: float = 0.0
    """How far the mean may be off."""
    sd_bound: float = 0.0
    probability_bound: float = 0.0


@dataclass(frozen=True)
class Timing(WithIntervals):
    """How long runs take: those that end, and then by outcome, most probable first.

    `mean` and `sd` are those of all runs, in seconds; infinite if some never end. `sure` has `mean:OUTCOME` and
    `probability:OUTCOME`; that of a mean counts in how many latencies were recorded.
    """

    title: ClassVar[str] = "Timing: how long a run takes, in seconds"
    columns: ClassVar[tuple[str, ...]] = (
        "outcome",
        "kind",
        "probability",
        "mean",
        "low",
        "high",
        "sd",
        "error_bound",
        "sd_bound",
        "probability_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("error_bound", "sd_bound", "probability_bound")
    outcomes: tuple[OutcomeTime, ...]
    mean: float
    sd: float
    left_out: int = 0
    last_event: bool = False
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the means may be off, proven: see `flowstat.analyze.solve`."""
        return max((o.error_bound for o in self.outcomes), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row an outcome."""
        rows = []
        for o in self.outcomes:
            row = {column: getattr(o, column, None) for column in self.columns}
            row["low"], row["high"] = self.between("mean", o.outcome)
            rows.append(row)
        return rows

    def notes(self) -> tuple[str, ...]:
        """Say from when to when, and what is left out."""
        until = "its end" if self.last_event else "the start of its last event"
        said = [f"From the start of the first event of a run to {until}, or until it is trapped."]
        if self.mean == inf:
            trapped = sum(o.probability for o in self.outcomes if o.kind == "trap")
            often = f"with probability {number(trapped)}" if trapped else "sometimes"
            said.append(f"A run never ends {often}: the mean over all runs is infinite.")
        if self.left_out:
            said.append(f"{self.left_out:,} less probable outcomes are left out.")
        if self.sure:
            said.append("low, high: of the mean.")
        said += self.said()
        return (*said, LINEAGES) if self.fans_out else tuple(said)


def timing(
    chain: Chain,
    start: Start = None,
    *,
    latencies: Latencies | None = None,
    top: int = 10,
    intervals: Intervals = "delta",
    level: float = 0.95,
) -> Timing:
    """Find how long runs take, by outcome.

    Parameters
    ----------
    chain
        A chain; one that was estimated from counts with latencies brings them along.
    start
        A node or a law over nodes; the chain's start law if not given.
    latencies
        (source, target) -> (mean, standard deviation) in seconds, or a `Latency`; they go before those of the counts.
        The target `(end)` is what the last event of a run takes. Means are 0 or from 1e-250 to 1e250.
    top
        How many outcomes are listed, at least 0.
    intervals
        How intervals are found, where traces stand behind the chain: `delta`, `sample`, a `Sampling`, or None.
    level
        Probability that each holds its number, in (0, 1).

    Returns
    -------
    Timing
        Seconds.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If an arrow that runs can take has no latency, an outcome is too rare for its time to be computed, or a class is
        too large and too close to closed to be solved.

    Notes
    -----
    A semi-Markov process: given its arrows, the latencies of a run are independent of each other (Howard, Dynamic
    Probabilistic Systems II (1971), chapter 10). With h the chance of an outcome from each node, the runs that have it
    are a chain with shares `p_ij h_j / h_i` (Doob). With m_ij and s_ij^2 the mean and variance of a latency, their mean
    time is `t = N g / h` with `g_i = sum_j p_ij m_ij h_j`, and the variance adds up, over the expected passages of each
    arrow, `s_ij^2 + (m_ij + t_j - t_i)^2`: no difference of two moments. Two solves by one factorisation for each
    outcome, and passes over the arrows; see `solve`.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0.5], [0, 0]], ["try", "done"], "try", stop=[0, 1])
    >>> found = timing(retry, latencies={("try", "try"): (2.0, 0.0), ("try", "done"): (1.0, 0.5)})
    >>> found.mean, round(found.sd ** 2, 12)
    (3.0, 8.25)
    """
    timed = Timed(chain, start, latencies, top)
    found = _found(chain, timed)
    shaken = np.random.default_rng(intervals.seed if isinstance(intervals, Sampling) else 0)

    def again(other: Chain) -> dict[str, float]:
        law = None if start is None else start
        of = _found(other, Timed(other, law, drawn(timed.times.known, shaken), top))
        return {f"mean:{o.outcome}": o.mean for o in of.outcomes} | {
            f"probability:{o.outcome}": o.probability for o in of.outcomes
        }

    sure = intervals_of(chain, intervals, level, lambda: asked_times(timed, start), again)
    return replace(found, sure=sure, level=level)


def _found(chain: Chain, timed: Timed) -> Timing:
    """Return the times without intervals."""
    found = []
    width = max(1, BLOCK // timed.solver.n)
    for first in range(0, len(timed.ways), width):
        ways = timed.ways[first : first + width]
        chances, products = timed.chances(ways)
        for k, way in enumerate(ways):
            h, g = (Solved(each.values[:, k], each.bound[:, k]) for each in (chances, products))
            mean, sd = timed.moments(way, h, g)
            nodes = () if way.kind == "end" else tuple(chain.names[i] for i in way.states)
            found.append(
                OutcomeTime(
                    way.outcome,
                    way.kind,
                    min(1.0, float(way.probability.values)),
                    float(mean.values),
                    float(sd.values),
                    nodes,
                    float(mean.bound),
                    float(sd.bound),
                    float(way.probability.bound),
                )
            )
    ends = found[0] if found and found[0].kind == "end" else None
    whole = (inf, inf) if timed.trapped or ends is None else (ends.mean, ends.sd)
    return Timing(tuple(found), *whole, timed.left_out, timed.times.any_end, chain.fans_out)
