"""Loops: strongly connected parts with a cycle, nested, and what each does to a run."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from flowstat.analyze.elimination import eliminate
from flowstat.analyze.solve import Index, Solver, Vector, strong_classes
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row

__all__ = ["Exit", "Loop", "Loops", "loops"]

TIE = 1e-9
"""Entries whose flows differ by less, relatively, are equally used."""

LARGEST = 3000
"""Loops of more nodes are refused: their elimination is dense."""


@dataclass(frozen=True)
class Exit:
    """One way out of a loop: from `source` to `target` (`(end)`: the run stops), and its chance."""

    source: str
    target: str
    probability: float


@dataclass(frozen=True)
class Loop:
    """One loop of the program.

    Attributes
    ----------
    nodes
        Its nodes, header first.
    kind
        `self`: the node sends to itself; `chain`: it leads back through other nodes.
    header
        The node whose returns are counted as rounds: the entry that most runs come in by, the
        alphabetically first of equals.
    entries
        Nodes where runs come in, most used first.
    keys
        Topic keys on the arrow of a self-loop.
    depth, parent
        How deep it is nested (0: outermost), and the position of the loop around it, or None.
    reached
        Chance that a run comes to any of its nodes.
    entered
        Chance that a run goes round at least once.
    again
        Chance of another round, at its header.
    rounds
        Mean number of rounds in a run that goes round at all; `inf` if it never leaves.
    rounds_per_arrival
        Mean number of rounds each time the header is arrived at from outside: `again / (1 - again)`.
    exits
        Ways out with their chances, most probable first; they sum to 1, or there are none.
    events
        Expected events per run at its nodes, and `events_per_entry` each time it is entered.
    share
        Share of all events that happen at its nodes, in [0, 1].
    several
        Whether events on the way to it send several messages: chances are then those of one lineage of a
        run, else those of the run.
    """

    nodes: tuple[str, ...]
    kind: Literal["self", "chain"]
    header: str
    entries: tuple[str, ...]
    keys: tuple[str, ...]
    depth: int
    parent: int | None
    reached: float
    entered: float
    again: float
    rounds: float
    rounds_per_arrival: float
    exits: tuple[Exit, ...]
    events: float
    events_per_entry: float
    share: float
    several: bool = False

    @property
    def name(self) -> str:
        """The loop as one reads it: `pay -> pay`, or its header with the other nodes."""
        if self.kind == "self":
            return f"{self.header} -> {self.header}"
        return f"{self.header} -> ... -> {self.header}"


@dataclass(frozen=True)
class Loops(Result):
    """The loop forest: every loop before those nested in it, outermost ones in topological order."""

    title: ClassVar[str] = "Loops"
    columns: ClassVar[tuple[str, ...]] = (
        "loop",
        "kind",
        "nodes",
        "entries",
        "reached",
        "entered",
        "again",
        "rounds",
        "exits",
        "share",
    )
    loops: tuple[Loop, ...]
    fans_out: bool = False

    def rows(self) -> list[Row]:
        """Return one row a loop."""
        return [
            {
                "loop": "  " * loop.depth + loop.name,
                "kind": loop.kind,
                "nodes": list(loop.nodes),
                "entries": list(loop.entries),
                "reached": loop.reached,
                "entered": loop.entered,
                "again": loop.again,
                "rounds": loop.rounds,
                "exits": [f"{e.target} {e.probability:.1%}" for e in loop.exits],
                "share": loop.share,
            }
            for loop in self.loops
        ]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns mean, or that there is no loop."""
        if not self.loops:
            return ("There is no loop: every run passes each node at most once.",)
        return (
            "reached: chance that a run comes to the loop; entered: that it goes round at least once; again: chance of "
            "another round; rounds: mean rounds of a run that goes round; share: of all events.",
            *([LINEAGES] if self.fans_out else []),
        )


def loops(chain: Chain, start: Start = None) -> Loops:
    """Find the loops of a chain, nested, with what each does to a run.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a loop has more than 3,000 nodes.

    Notes
    -----
    A loop is a strongly connected set with a cycle; without its header, what is still strongly connected
    are the loops nested in it (loop-nesting forest: Steensgaard 1993; irreducible loops: Wei et al., SAS 2007). A
    header that also sends to itself has that self-loop nested too. With body B, the chance of another round is
    `r = p_hh + P_hB (I - P_BB)^-1 P_Bh`; rounds are geometric with mean r / (1 - r) per arrival. With g the
    chance never to come back to h from h at all (1 / N_hh), a run goes round at all with probability
    `P(reach h) r / (g + r)`, and then `1 + r / g` times: the returns to h are told apart into those that
    stay inside and those that leave first. Every quantity is computed without subtraction (see `solve`).

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.25, 0.75], [0, 0]], ["pay", "ship"], "pay", stop=[0, 1])
    >>> loop = loops(retry).loops[0]
    >>> loop.kind, loop.entered, loop.rounds, loop.exits
    ('self', 0.25, 1.3333333333333333, (Exit(source='pay', target='ship', probability=1.0),))
    """
    law = start_law(chain, start)
    return Loops(tuple(_Forest(chain, law).grow()), chain.fans_out)


class _Forest:
    """Walks the nested loops of one chain; all numbers come from the visits of its start law."""

    def __init__(self, chain: Chain, law: Vector) -> None:
        self.chain = chain
        self.law = law
        self.arrows = chain.arrows()
        self.solver = Solver(chain.P, chain.stop)
        visited, entered = self.solver.visits(law)
        self.v, self.inflow = visited.values, entered.values
        largest = max(map(len, self.solver.cyclic()), default=0)
        if largest > LARGEST:
            raise AnalysisError(f"a loop of {largest} nodes is too large: at most {LARGEST} are analysed")
        self.gaps = self.solver.return_gaps().values
        self.weight = self.v.copy()
        trapped = 0.0
        for states in self.solver.closed:
            chance = float(self.inflow[states].sum())
            if chance > 0:
                # Long-run law: what a trapped run's events look like.
                trapped += chance
                self.weight[states] = chance * self.solver.stationary(states).values
        self.spread = self.after_fan_out()
        self.endless = trapped > 0
        self.total = trapped if self.endless else float(self.v.sum())
        self.found: list[Loop] = []

    def grow(self) -> list[Loop]:
        work: list[tuple[Index, int, int | None]] = [(states, 0, None) for states in self.solver.cyclic()]
        work.reverse()
        diagonal = self.chain.P.diagonal()
        while work:
            states, depth, parent = work.pop()
            position = len(self.found)
            ordered = self.add(states, depth, parent)
            if len(states) == 1:
                continue
            body = np.sort(ordered[1:])
            inner = self.chain.P[body][:, body]
            nested = [body[part] for part in strong_classes(inner)]
            if diagonal[ordered[0]] > 0:
                nested.insert(0, ordered[:1])
            for part in reversed(nested):
                if len(part) > 1 or diagonal[part[0]] > 0:
                    work.append((part, depth + 1, position))
        return self.found

    def after_fan_out(self) -> npt.NDArray[np.bool_]:
        """Return which nodes several lineages of one run can come to."""
        chain = self.chain
        spread = np.zeros(self.solver.n, bool)
        waiting = [chain.index[node] for node in chain.counts.fanning] if chain.counts is not None else []
        while waiting:
            i = waiting.pop()
            targets = chain.P.indices[chain.P.indptr[i] : chain.P.indptr[i + 1]]
            fresh = targets[~spread[targets]]
            spread[fresh] = True
            waiting += fresh.tolist()
        return spread

    def add(self, states: Index, depth: int, parent: int | None) -> Index:
        """Describe one loop; return its states with the header first."""
        chain = self.chain
        inside = np.zeros(self.solver.n, bool)
        inside[states] = True
        incoming = self.incoming(states, inside, depth)
        # Equal flows differ in their last digits; by name, the choice does not depend on the chain's order.
        most = states[incoming >= incoming.max() * (1 - TIE)]
        header = min(most.tolist(), key=chain.names.__getitem__)
        ordered = np.concatenate([[header], states[states != header]])
        entry_flow = np.concatenate([incoming[states == header], incoming[states != header]])
        block = self.solver.block(ordered)
        rows, columns, values = self.arrows
        crossing = inside[rows] & ~inside[columns]
        leaving = np.bincount(rows[crossing], values[crossing], minlength=self.solver.n) + chain.stop
        gone = eliminate(block, leaving[ordered])
        again = gone.rounds
        endless = not leaving[ordered].any()
        gap = float(self.gaps[header])
        reach_header = self.reach_header(header, gap)
        entry_law = entry_flow / entry_flow.sum() if entry_flow.any() else np.eye(len(ordered))[0]
        exits: tuple[Exit, ...] = ()
        inner_events = inf
        if not endless:
            inner = gone.visits(entry_law)
            inner_events = float(inner.sum())
            exits = self.exits(ordered, inner, inside)
        names = tuple(chain.names[i] for i in ordered)
        entries = [i for i in np.argsort(-entry_flow, kind="stable") if entry_flow[i] > 0]
        visits = float(self.v[ordered].sum())
        self.found.append(
            Loop(
                nodes=names,
                kind="self" if len(ordered) == 1 else "chain",
                header=names[0],
                entries=tuple(names[i] for i in entries),
                keys=chain.keys(names[0], names[0]) if len(ordered) == 1 else (),
                depth=depth,
                parent=parent,
                reached=self.reached(ordered, entry_flow, depth, reach_header, inside),
                entered=reach_header * again / (gap + again) if again else 0.0,
                again=again,
                rounds=1 + again / gap if gap > 0 else inf,
                rounds_per_arrival=inf if endless else again / gone.pivots[0],
                exits=exits,
                events=visits,
                events_per_entry=inner_events,
                share=self.share(ordered),
                several=bool(self.spread[ordered].any()),
            )
        )
        return ordered

    def incoming(self, states: Index, inside: np.ndarray, depth: int) -> Vector:
        """Return how much comes in at each state from outside the loop."""
        if depth == 0:
            return self.inflow[states]
        rows, columns, values = self.arrows
        into = ~inside[rows] & inside[columns]
        flow: Vector = np.bincount(
            columns[into], self.weight[rows[into]] * values[into], minlength=self.solver.n
        ).astype(np.float64)
        closed = np.isinf(self.v[states]).any()
        # In a closed class the long run forgets where runs came in.
        flow = flow if closed else flow + self.law
        incoming: Vector = flow[states]
        return incoming

    def reach_header(self, header: int, gap: float) -> float:
        part = self.solver.classes[int(self.solver.label[header])]
        if part.closed:
            return min(1.0, float(self.inflow[part.states].sum()))
        return min(1.0, float(self.v[header]) * gap)

    def reached(self, ordered: Index, entry_flow: Vector, depth: int, reach_header: float, inside: np.ndarray) -> float:
        if depth == 0:
            return min(1.0, float(self.inflow[ordered].sum()))
        if (entry_flow > 0).sum() <= 1:
            return reach_header
        part = self.solver.classes[int(self.solver.label[ordered[0]])]
        if part.closed:
            return reach_header
        # Several entries: a run enters the class once, and the first it sees of the loop counts.
        around = np.concatenate([ordered, part.states[~inside[part.states]]])
        gone = eliminate(self.solver.block(around), self.solver.exits[around])
        return min(1.0, float(gone.censored(self.inflow[around], len(ordered)).sum()))

    def exits(self, ordered: Index, inner: Vector, inside: np.ndarray) -> tuple[Exit, ...]:
        chain, P = self.chain, self.chain.P
        found = []
        for i, visits in zip(ordered.tolist(), inner.tolist(), strict=True):
            for at in range(P.indptr[i], P.indptr[i + 1]):
                j = int(P.indices[at])
                if not inside[j]:
                    found.append(Exit(chain.names[i], chain.names[j], visits * float(P.data[at])))
            if chain.stop[i] > 0:
                found.append(Exit(chain.names[i], END, visits * float(chain.stop[i])))
        found.sort(key=lambda e: (-e.probability, chain.index[e.source], e.target))
        return tuple(found)

    def share(self, ordered: Index) -> float:
        if self.endless and not self.solver.classes[int(self.solver.label[ordered[0]])].closed:
            # What a run does before it is trapped is nothing beside what follows.
            return 0.0
        return float(self.weight[ordered].sum()) / self.total
