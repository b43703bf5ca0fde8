"""Flows: the simple paths that runs leave when their loops are erased, most probable first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.derived import whole
from flowstat.analyze.flow_detail import Detail, Flow, latencies_of
from flowstat.analyze.flow_intervals import LEAST, Followed
from flowstat.analyze.flow_search import Search
from flowstat.analyze.interval import Asked
from flowstat.analyze.intervals import Intervals, WithIntervals, how_many, intervals_of
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Row, number

__all__ = ["Flow", "Flows", "flows"]


@dataclass(frozen=True)
class Flows(WithIntervals):
    """The most probable flows, best first; `covered` is the share of all runs that follow one of them.

    `sure` has `probability:FLOW` of the first ones.
    """

    title: ClassVar[str] = "Flows, most probable first"
    columns: ClassVar[tuple[str, ...]] = (
        "flow",
        "outcome",
        "kind",
        "length",
        "probability",
        "low",
        "high",
        "covered",
        "rounds",
        "events",
        "time",
        "error_bound",
        "rounds_bound",
        "events_bound",
        "time_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("error_bound", "rounds_bound", "events_bound", "time_bound")
    flows: tuple[Flow, ...]
    covered: float
    complete: bool
    fans_out: bool = False
    timeless: str = ""
    """Why no times are told."""

    @property
    def error_bound(self) -> float:
        """How far any of the probabilities may be off, proven."""
        return max((f.error_bound for f in self.flows), default=0.0)

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has: no time where none is known."""
        return tuple(c for c in super().printed() if c != "time" or not self.timeless)

    def rows(self) -> list[Row]:
        """Return one row a flow; `covered` adds up the probabilities so far."""
        rows: list[Row] = []
        covered = 0.0
        for f in self.flows:
            covered += f.probability
            low, high = self.between("probability", f.name)
            rows.append(
                {
                    "flow": f.name,
                    "outcome": f.outcome,
                    "kind": f.kind,
                    "length": len(f.nodes),
                    "probability": f.probability,
                    "low": low,
                    "high": high,
                    "covered": min(covered, 1.0),
                    "rounds": f.rounds,
                    "events": f.events,
                    "time": f.time,
                    "error_bound": f.error_bound,
                    "rounds_bound": f.rounds_bound,
                    "events_bound": f.events_bound,
                    "time_bound": f.time_bound,
                }
            )
        return rows

    def notes(self) -> tuple[str, ...]:
        """Say how many runs are covered."""
        runs = "lineages" if self.fans_out else "runs"
        notes = [f"Loops are erased as they close; {number(100 * self.covered)}% of all {runs} follow one of these."]
        if not self.complete:
            notes.append("The search stopped at its bound: less probable flows are missing.")
        if self.sure:
            notes.append("low, high: of the probability.")
        notes += self.said()
        if self.fans_out:
            notes.append(LINEAGES)
        return tuple(notes)


def flows(
    chain: Chain,
    top: int = 10,
    start: Start = None,
    latencies: Latencies | None = None,
    *,
    intervals: Intervals = "delta",
    level: float = 0.95,
) -> Flows:
    """List the most probable flows.

    Parameters
    ----------
    chain
        A chain.
    top
        How many at most; at least 1.
    start
        A node or a law over nodes; the chain's start law if not given.
    latencies
        (source, target) -> mean and standard deviation in seconds, where they are not those of the counts.
    intervals
        How intervals are found, where traces stand behind the chain: `delta`, `sample`, a `Sampling`, or None.
    level
        Probability that each holds its number, in (0, 1).

    Returns
    -------
    Flows
        Exact, best first; flows whose probabilities agree to ten digits count as equal and come by their names. The
        probabilities of all flows sum to 1. A flow that is less probable than the least floating-point number is in
        its place, too: its probability is given as 0, and is off by no more than its bound.

    Raises
    ------
    AnalysisError
        If `top` is no whole number of at least 1, a class is too large and too close to closed to be solved, or
        latencies are given but not of every arrow that runs take.
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    The loop-erasure of a run starts with v_0..v_k with probability `alpha(v_0) prod_(i<k) G_i P(v_i, v_i+1)`
    times the chance to end from v_k before coming back to an earlier node; G_i is the expected number of
    visits to v_i without the nodes before it. Prefixes are extended best first by that probability, or by the
    most that any one flow onward can have of it, so the first flows to be completed are the most probable
    ones. Given its flow, a run closes `G_i - 1` loops at v_i on average. Source: Lawler and Limic, Random Walk (2010),
    section 9.2. Each extension solves two systems on the last node's class: by elimination up to 1,500 nodes, else as
    `solve` does, and what is known of a large class beforehand costs some hundred arrows a node
    (`flowstat.analyze.near_visits`). The first hundred flows of 10,000 nodes in classes of sixty take a second or two;
    those of one class of 10,000 nodes a few.

    Examples
    --------
    >>> chain = Chain.from_matrix(
    ...     [[0.5, 0.25, 0.25], [0, 0, 0], [0, 1, 0]], ["pay", "ship", "wait"], "pay", stop=[0, 1, 0])
    >>> [(f.name, round(f.probability, 12)) for f in flows(chain).flows]
    [('pay -> ship', 0.5), ('pay -> wait -> ship', 0.5)]
    """
    top = whole("top", top, 1)
    law = start_law(chain, start)
    search = Search(chain, law)
    done, complete = search.run(top)
    times, timeless = latencies_of(chain, search, latencies)
    detail = Detail(search, times)
    made = [(found.rank, detail.of(found)) for found in done]
    listed = [f for _, f in sorted(made, key=lambda each: (each[0], each[1].nodes, each[1].outcome))]
    covered = min(1.0, sum(f.probability for f in listed))
    traps = {name: np.flatnonzero(search.trap == k) for k, name in enumerate(search.traps)}
    followed = {
        f.name: Followed(chain, start, search.whole.label, f.nodes, traps[f.outcome] if f.kind == "trap" else None)
        for f in (listed[: how_many(chain)] if intervals and chain.posterior else ())
        if f.nodes and f.probability > LEAST
    }

    def asked() -> dict[str, Asked]:
        return {
            f"probability:{f.name}": Asked(f.probability, followed[f.name].gradient, followed[f.name].chance, most=1.0)
            for f in listed
            if f.name in followed
        }

    def again(other: Chain) -> dict[str, float]:
        return {f"probability:{name}": each.chance(other) for name, each in followed.items()}

    sure = intervals_of(chain, intervals, level, asked, again)
    return Flows(tuple(listed), covered, complete, chain.fans_out, timeless, sure=sure, level=level)
