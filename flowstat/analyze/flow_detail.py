"""One flow, and what runs with it do on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.arrow_times import ArrowTimes, Latencies, arrow_times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.flow_parts import Loops
from flowstat.analyze.flow_search import Found, Search
from flowstat.analyze.law import TINY
from flowstat.analyze.solve import Index, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain

__all__ = ["Detail", "Flow", "latencies_of"]


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


def latencies_of(chain: Chain, search: Search, stated: Latencies | None) -> tuple[ArrowTimes | None, str]:
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


class Detail:
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
