"""Flows: the simple paths that runs leave when their loops are erased, most probable first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.arrow_times import ArrowTimes, Latencies, arrow_times
from flowstat.analyze.derived import whole
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.flow_parts import Loops
from flowstat.analyze.flow_search import Found, Search
from flowstat.analyze.law import TINY
from flowstat.analyze.solve import Index, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Flow", "Flows", "flows"]


@dataclass(frozen=True)
class Flow:
    """One flow: the nodes that are left of a run when its loops are erased, and how the run ends.

    Attributes
    ----------
    nodes
        The nodes, each once.
    outcome, kind
        The last node, if the run stops there, or the closed class that traps it.
    probability
        Of a run to have this flow.
    rounds
        How often such a run comes back, on average, to nodes of the flow: to each one after its last event at those
        before it.
    events
        How many events it has on average, those in loops included (until it is trapped).
    time
        How long it takes on average, in seconds, to its last event (with what that takes, where it is known); None if
        latencies are unknown.
    """

    nodes: tuple[str, ...]
    outcome: str
    kind: Literal["stop", "trap"]
    probability: float
    rounds: float = 0.0
    events: float = 0.0
    time: float | None = None
    error_bound: float = 0.0
    rounds_bound: float = 0.0
    events_bound: float = 0.0
    time_bound: float = 0.0

    @property
    def name(self) -> str:
        """The flow as one reads it."""
        tail = (self.outcome,) if self.kind == "trap" else ()
        return " -> ".join((*self.nodes, *tail))


@dataclass(frozen=True)
class Flows(Result):
    """The most probable flows, best first; `covered` is the share of all runs that follow one of them."""

    title: ClassVar[str] = "Flows, most probable first"
    columns: ClassVar[tuple[str, ...]] = (
        "flow",
        "outcome",
        "kind",
        "length",
        "probability",
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
            rows.append(
                {
                    "flow": f.name,
                    "outcome": f.outcome,
                    "kind": f.kind,
                    "length": len(f.nodes),
                    "probability": f.probability,
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
        if self.fans_out:
            notes.append(LINEAGES)
        return tuple(notes)


def flows(chain: Chain, top: int = 10, start: Start = None, latencies: Latencies | None = None) -> Flows:
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
    times, timeless = _latencies(chain, search, latencies)
    detail = _Detail(search, times)
    made = [(found.rank, detail.of(found)) for found in done]
    listed = [f for _, f in sorted(made, key=lambda each: (each[0], each[1].nodes, each[1].outcome))]
    covered = min(1.0, sum(f.probability for f in listed))
    return Flows(tuple(listed), covered, complete, chain.fans_out, timeless)


def _latencies(chain: Chain, search: Search, stated: Latencies | None) -> tuple[ArrowTimes | None, str]:
    """Return the latencies of all arrows that runs take but those within traps, or why they are not known."""
    recorded = chain.counts is not None and chain.counts.latencies
    if not stated and not recorded:
        return None, "no latencies are known"
    rows, columns, _ = chain.arrows()
    visited, _ = search.whole.visits(search.law)
    needed = (visited.values[rows] > 0) & ~((search.trap[rows] >= 0) & (search.trap[columns] >= 0))
    try:
        return arrow_times(chain, stated, needed), ""
    except AnalysisError as error:
        if stated:
            raise
        return None, str(error)


class _Detail:
    """Tells of each flow what runs with it do on the way; prefixes that flows share are solved once."""

    def __init__(self, search: Search, times: ArrowTimes | None) -> None:
        self.search = search
        self.chain = search.chain
        self.times = times
        self.known: dict[tuple[int, ...], tuple[float, float, Loops]] = {}

    def of(self, found: Found) -> Flow:
        """Return a flow with its rounds, events and time."""
        names = tuple(self.chain.names[i] for i in found.path)
        rounds = events = time = 0.0
        off = [0.0, 0.0, 0.0]
        for k in range(len(found.path)):
            again, wrong, loops = self.at(found.path[: k + 1])
            rounds += again
            events += 1 + loops.events
            time += loops.time + self.onward(found, k)
            for c, more in enumerate((wrong, loops.events_bound, loops.time_bound)):
                off[c] += more
        steps = (len(found.path) + 4) * UNIT
        return Flow(
            nodes=names,
            outcome=self.search.traps[found.trap] if found.trap >= 0 else names[-1],
            kind="trap" if found.trap >= 0 else "stop",
            probability=min(found.probability, 1.0),
            rounds=rounds,
            events=events,
            time=None if self.times is None else time,
            error_bound=float(1.01 * found.wrong * found.probability + TINY),
            rounds_bound=1.01 * (off[0] + steps * rounds),
            events_bound=1.01 * (off[1] + steps * events),
            time_bound=1.01 * (off[2] + (steps + 20 * UNIT) * time),
        )

    def at(self, path: tuple[int, ...]) -> tuple[float, float, Loops]:
        """Return the mean number of loops at a path's last node, how far it may be off, and what is done in them."""
        if path not in self.known:
            search, last = self.search, path[-1]
            step = search.step(path)
            if len(search.whole.classes[int(search.whole.label[last])].states) == 1:
                share = float(self.chain.P[last, last])
                loops = share / step.never
                wrong = 1.01 * (step.wrong + 4 * UNIT) * loops
                each = 0.0 if self.times is None else float(self.latency(np.array([last])).sum())
                self.known[path] = loops, wrong, Loops(loops, wrong, loops * each, wrong * each)
            else:
                part, place, earlier = search.passed(path)
                latency = None if self.times is None else self.latency(part.states)
                visits = 1 / step.never
                wrong = 1.01 * (step.wrong + 4 * UNIT) * visits
                done = part.loops(place, earlier, step, latency)
                self.known[path] = max(0.0, visits - 1), wrong, done
        return self.known[path]

    def latency(self, states: Index) -> Vector:
        """Return the mean latency of every arrow within a class, in the order of its block."""
        assert self.times is not None
        P = self.chain.P
        marked = sparse.csr_array((np.arange(1.0, P.nnz + 1), P.indices, P.indptr), shape=P.shape)
        at = marked[states][:, states].data.astype(np.int64) - 1
        mean: Vector = self.times.mean[at]
        return mean

    def onward(self, found: Found, k: int) -> float:
        """Return the mean latency of a flow's arrow from its k-th node on."""
        if self.times is None:
            return 0.0
        P, i = self.chain.P, found.path[k]
        span = slice(int(P.indptr[i]), int(P.indptr[i + 1]))
        targets, mean, share = P.indices[span], self.times.mean[span], P.data[span]
        if k + 1 < len(found.path):
            return float(mean[targets == found.path[k + 1]][0])
        if found.trap < 0:
            return float(self.times.end_mean[i])
        into = self.search.trap[targets] == found.trap
        return float(share[into] @ mean[into] / share[into].sum())
