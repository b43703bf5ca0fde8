"""Flows: the simple paths that runs leave when their loops are erased, most probable first."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.elimination import divisor, eliminate
from flowstat.analyze.solve import DENSE, Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Flow", "Flows", "flows"]

BUDGET = 20_000
"""Prefixes that are extended before the search stops and says so."""

LARGEST = 3000
"""Classes of more nodes are refused: their elimination is dense."""


FINISHED = -(2**62)
"""Order of a finished flow among equally probable entries: first."""


@dataclass(frozen=True)
class Flow:
    """One flow: the nodes that are left of a run when its loops are erased, and how the run ends.

    `outcome` is the last node if it stops there, or the closed class that traps it.
    """

    nodes: tuple[str, ...]
    outcome: str
    kind: Literal["stop", "trap"]
    probability: float

    @property
    def name(self) -> str:
        """The flow as one reads it."""
        tail = (self.outcome,) if self.kind == "trap" else ()
        return " -> ".join((*self.nodes, *tail))


@dataclass(frozen=True)
class Flows(Result):
    """The most probable flows, best first; `covered` is the share of all runs that follow one of them."""

    title: ClassVar[str] = "Flows, most probable first"
    columns: ClassVar[tuple[str, ...]] = ("flow", "outcome", "kind", "length", "probability", "covered")
    flows: tuple[Flow, ...]
    covered: float
    complete: bool
    fans_out: bool = False

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


def flows(chain: Chain, top: int = 10, start: Start = None) -> Flows:
    """List the most probable flows.

    Parameters
    ----------
    chain
        A chain.
    top
        How many at most; at least 1.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Flows
        Exact, best first. The probabilities of all flows sum to 1.

    Raises
    ------
    AnalysisError
        If `top` is less than 1, or a class of more than 3,000 nodes is on the way.
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    The loop-erasure of a run starts with v_0..v_k with probability `alpha(v_0) prod_(i<k) G_i P(v_i, v_i+1)`
    times the chance to end from v_k before coming back to an earlier node; G_i is the expected number of
    visits to v_i without the nodes before it. Prefixes are extended best first by that probability, or by the
    most that any one flow onward can have of it, so the first flows to be completed are the most probable
    ones. Source: Lawler and Limic, Random Walk (2010), section 9.2. Each extension solves two systems on the
    last node's class.

    Examples
    --------
    >>> chain = Chain.from_matrix(
    ...     [[0.5, 0.25, 0.25], [0, 0, 0], [0, 1, 0]], ["pay", "ship", "wait"], "pay", stop=[0, 1, 0])
    >>> [(f.name, round(f.probability, 12)) for f in flows(chain).flows]
    [('pay -> ship', 0.5), ('pay -> wait -> ship', 0.5)]
    """
    if top < 1:
        raise AnalysisError("ask for at least one flow")
    search = _Search(chain, start_law(chain, start))
    done, complete = search.run(top)
    return Flows(tuple(done), min(1.0, sum(f.probability for f in done)), complete, chain.fans_out)


def _rank(probability: float) -> float:
    """Return what flows are ordered by: equal products that differ in their last digits are equal."""
    return -float(f"{probability:.12e}")


class _Search:
    def __init__(self, chain: Chain, law: Vector) -> None:
        self.chain = chain
        self.law = law
        self.whole = Solver(chain.P, chain.stop)
        self.trap = np.full(len(chain.names), -1)
        self.traps: list[str] = []
        for states in self.whole.closed:
            self.trap[states] = len(self.traps)
            self.traps.append(trap_name(tuple(chain.names[i] for i in states)))
        self.best = self._best()

    def _best(self) -> Vector:
        """Return for each node an upper bound of any one flow's chance onward from it.

        From j, a run leaves its class by one way out with chance `N_ji p_ik`; no flow through that way is
        more probable. Exact where classes are single nodes, so that a search over them goes straight.
        """
        best = np.ones(len(self.chain.names))
        for part in reversed(self.whole.classes):
            states = part.states
            if part.closed:
                continue
            out = np.array([self._way_out(i, best) for i in states.tolist()])
            if len(states) == 1:
                best[states] = out / self.whole.moving[states]
            elif len(states) <= DENSE:
                gone = eliminate(self.whole.block(states), self.whole.exits[states])
                best[states] = (gone.backward(np.eye(len(states))) * out).max(axis=1)
        return np.minimum(best, 1.0)

    def _way_out(self, i: int, best: Vector) -> float:
        """Return the most that one way out of the class at node i can carry of a flow."""
        onward, trapped = self.arrows_from(i)
        ways = (share * float(best[j]) for j, share in onward if self.whole.label[j] != self.whole.label[i])
        return max(float(self.chain.stop[i]), *ways, *trapped.values(), 0.0)

    def arrows_from(self, i: int) -> tuple[list[tuple[int, float]], dict[int, float]]:
        """Return the shares of node i's arrows to nodes outside of traps, and in sum to each trap."""
        span = slice(self.chain.P.indptr[i], self.chain.P.indptr[i + 1])
        onward: list[tuple[int, float]] = []
        trapped: dict[int, float] = {}
        for j, share in zip(self.chain.P.indices[span].tolist(), self.chain.P.data[span].tolist(), strict=True):
            trap = int(self.trap[j])
            if trap < 0:
                onward.append((j, share))
            else:
                trapped[trap] = trapped.get(trap, 0.0) + share
        return onward, trapped

    def run(self, top: int) -> tuple[list[Flow], bool]:
        # Heap entries: (rank, order, names, path, weight, finished flow). Finished ones come first on ties; a path
        # ends with the next node, or with -1 - the number of a trap, so that no two entries are equal.
        heap: list[tuple[float, int, tuple[str, ...], tuple[int, ...], float, Flow | None]] = []
        within = self.trap >= 0
        for trap, p in enumerate(np.bincount(self.trap[within], self.law[within], len(self.traps)).tolist()):
            if p > 0:
                flow = Flow((), self.traps[trap], "trap", p)
                heappush(heap, (_rank(p), FINISHED, (flow.outcome,), (-1 - trap,), 0.0, flow))
        for i in np.flatnonzero((self.law > 0) & ~within).tolist():
            heappush(
                heap, (_rank(self.law[i] * self.best[i]), 0, (self.chain.names[i],), (i,), float(self.law[i]), None)
            )
        done: list[Flow] = []
        steps = 0
        while heap and len(done) < top:
            _, _, names, path, weight, ended = heappop(heap)
            if ended is not None:
                done.append(ended)
                continue
            steps += 1
            if steps > BUDGET:
                return done, False
            for probability, target, onward, finished in self.extend(path, weight):
                if probability > 0:
                    name = finished.outcome if finished else self.chain.names[target]
                    # Finished flows first among equals, then the longest prefixes.
                    order = FINISHED if finished else -len(path)
                    heappush(heap, (_rank(probability), order, (*names, name), (*path, target), onward, finished))
        return sorted(done, key=lambda f: (_rank(f.probability), f.nodes, f.outcome)), True

    def extend(self, path: tuple[int, ...], weight: float) -> list[tuple[float, int, float, Flow | None]]:
        """Return what may follow a prefix: finished flows with their probability, longer prefixes with a bound.

        Once a run has left a class it never comes back: only the class of the last node is solved.
        """
        chain, at = self.chain, path[-1]
        part = self.whole.classes[int(self.whole.label[at])].states
        passed = set(path)
        free = part[[i not in passed for i in part.tolist()]]
        earlier = np.intersect1d(part, np.array(path[:-1], np.int64))
        exits = self.whole.exits
        ends: dict[int, float] = {}
        back = float(chain.P[[at]][:, earlier].sum()) if len(earlier) else 0.0
        never = float(exits[at]) + back
        onward, trapped = self.arrows_from(at)
        if len(free):
            if len(free) > LARGEST:
                raise AnalysisError(f"a class of {len(part)} nodes is too large for its flows: at most {LARGEST}")
            rows = chain.P[free]
            hit = rows[:, earlier].sum(axis=1) if len(earlier) else np.zeros(len(free))
            returning = rows[:, [at]].sum(axis=1)
            gone = eliminate(self.whole.block(free), exits[free] + hit + returning)
            both = gone.backward(np.stack([exits[free], exits[free] + hit], axis=1))
            ends = dict(zip(free.tolist(), both[:, 0].tolist(), strict=True))
            escapes = dict(zip(free.tolist(), both[:, 1].tolist(), strict=True))
            never += sum(share * escapes[j] for j, share in onward if j in escapes)
        visits = weight / divisor(never)
        names = tuple(chain.names[i] for i in path)
        found: list[tuple[float, int, float, Flow | None]] = []
        if chain.stop[at] > 0:
            p = visits * float(chain.stop[at])
            found.append((p, at, 0.0, Flow(names, names[-1], "stop", p)))
        for j, share in onward:
            if j not in passed:
                # Within the class the chance to end; beyond it, no more than the best flow onward.
                bound = ends[j] if j in ends else float(self.best[j])
                found.append((visits * share * bound, j, visits * share, None))
        for trap, share in trapped.items():
            p = visits * share
            found.append((p, -1 - trap, 0.0, Flow(names, self.traps[trap], "trap", p)))
        return found
