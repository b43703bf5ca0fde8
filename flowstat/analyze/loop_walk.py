"""Goes through the nested loops of one chain; all numbers come from the visits of its start law."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.bounded import exact, plus, quotient, times
from flowstat.analyze.cycles import Cycle
from flowstat.analyze.cycles import cycles as find_cycles
from flowstat.analyze.loop_body import Body, by_elimination, by_solver
from flowstat.analyze.loop_forest import LoopForest, loop_forest
from flowstat.analyze.loop_gain import gain, mean_matrix
from flowstat.analyze.loop_traffic import Traffic
from flowstat.analyze.loops import Exit, Loop
from flowstat.analyze.periods import phases
from flowstat.analyze.solve import DENSE, Index, Solved, Vector, total
from flowstat.estimate.chain import END, Chain

__all__ = ["Walker"]

CLOSE = 1e-9
"""How near 1 a gain has to be known for it to be 1, as far as can be told."""

SMALL = 300
"""Up to how many nodes a loop's body is eliminated as it is."""

NESTED = 200
"""How many loops are described below the outermost ones of classes of more than `DENSE` nodes."""

LISTED = 200
"""Up to how many loops their cycles are listed without being asked for."""

CYCLES = 3
"""How many cycles are then listed."""


@dataclass(frozen=True)
class Place:
    """A loop of a forest: the forest, its nodes' numbers in the chain (None: the same), its header in the forest."""

    forest: LoopForest
    nodes: Index | None
    header: int
    alone: bool = False
    """Whether it is the self-loop of the header only."""

    def states(self) -> Index:
        """Return the loop's nodes, the header first."""
        inside = np.array([self.header]) if self.alone else self.forest.members(self.header)
        return inside if self.nodes is None else self.nodes[inside]

    def nested(self) -> list[Place]:
        """Return the loops right within: that of the header to itself, those of several nodes, those of one."""
        if self.alone or not self.forest.heads[self.header]:
            return []
        forest = self.forest
        own = [replace(self, alone=True)] if forest.selfish[self.header] else []
        inner = forest.members(self.header)[1:]
        inner = inner[(forest.header[inner] == self.header) & (forest.heads[inner] | forest.selfish[inner])]
        return own + [replace(self, header=h) for h in inner.tolist()]


class Walker(Traffic):
    """Describes the loops of a chain, every one before those nested in it."""

    def __init__(self, chain: Chain, law: Vector, cycles: int | None, latencies: Latencies | None) -> None:
        super().__init__(chain, law, latencies)
        self.cycles = cycles
        self.mean = mean_matrix(chain)
        self.left_out = 0

    def grow(self) -> list[Loop]:
        """Return the loops, outermost ones in topological order."""
        solver = self.solver
        roots = np.flatnonzero(self.law > 0)
        forest = loop_forest(self.chain.P, roots[np.lexsort((roots, -self.law[roots]))])
        outer = np.flatnonzero((forest.header < 0) & (forest.heads | forest.selfish))
        outer = outer[np.argsort(solver.label[outer], kind="stable")]
        few = np.count_nonzero(forest.heads) + np.count_nonzero(forest.selfish) <= LISTED
        self.listed = (CYCLES if few else 0) if self.cycles is None else self.cycles
        chosen = self.chosen(forest)
        work: list[tuple[Place, int, int | None]] = [(Place(forest, None, h), 0, None) for h in outer.tolist()[::-1]]
        found: list[Loop] = []
        while work:
            place, depth, parent = work.pop()
            states = place.states()
            self.local[states] = np.arange(len(states))
            flow = self.incoming(states, depth)
            header = self.header(states, flow)
            if header:
                # Most runs come in elsewhere than where the search did: it starts again there.
                ordered = np.sort(states)
                first = int(np.searchsorted(ordered, states[header]))
                block = sparse.csr_array(self.chain.P[ordered][:, ordered])
                place = Place(loop_forest(block, np.array([first])), ordered, first)
            self.local[states] = -1
            states = np.concatenate([states[[header]], np.sort(np.delete(states, header))])
            self.local[states] = np.arange(len(states))
            flow = self.incoming(states, depth)
            position = len(found)
            found.append(self.describe(states, flow, depth, parent))
            self.local[states] = -1
            inner = place.nested()
            if chosen is not None and len(solver.classes[int(solver.label[states[0]])].states) > DENSE:
                kept = [p for p in inner if self.visited.values[p.states()[:1]][0] >= chosen]
                self.left_out += len(inner) - len(kept)
                inner = kept
            inner.sort(key=lambda p: p.states()[0] if p.alone else p.states().min())
            own = [p for p in inner if p.alone]
            for nested in reversed(own + [p for p in inner if not p.alone]):
                work.append((nested, depth + 1, position))
        return found

    def chosen(self, forest: LoopForest) -> float | None:
        """Return how many events the header of a nested loop in a large class has to have, if not all are described."""
        solver = self.solver
        sizes = np.diff(solver.order.offsets)[solver.label]
        nested = (forest.header >= 0) & (forest.heads | forest.selfish) & (sizes > DENSE)
        if np.count_nonzero(nested) <= NESTED:
            return None
        return float(np.partition(self.visited.values[nested], -NESTED)[-NESTED])

    def describe(self, states: Index, flow: Solved, depth: int, parent: int | None) -> Loop:
        """Describe the loop of these nodes, the header first."""
        chain, names = self.chain, tuple(self.chain.names[i] for i in states)
        out = chain.P[states]
        rows = np.repeat(np.arange(len(states)), np.diff(out.indptr))
        place = self.local[out.indices]
        crossing = place < 0
        leaving = np.bincount(rows[crossing], out.data[crossing], len(states)) + chain.stop[states]
        block = sparse.csr_array(
            (out.data[~crossing], (rows[~crossing], place[~crossing])), shape=(len(states), len(states))
        )
        entry = _entry(flow)
        body = (by_elimination if len(states) <= SMALL else by_solver)(block, leaving, entry)
        gap = self.gap(int(states[0]), body, depth)
        arrived = self.reach(int(states[0]), gap)
        reached = self.reached(states, flow, depth, arrived)
        entered, rounds, per_arrival = _rounds(body, gap, arrived)
        events = total(Solved(self.visited.values[states], self.visited.bound[states]))
        endless = not leaving.any()
        share = self.share(states)
        exits = () if endless else self.exits(states, body.visits, rows[crossing], out, crossing)
        grown = gain(sparse.csr_array(self.mean[states][:, states]))
        periods, _ = phases(block, [np.arange(len(states))])
        entries = [i for i in np.argsort(-flow.values, kind="stable") if flow.values[i] > 0]
        time = self.time(states, rows, out)
        inner = np.array(np.inf) if endless else body.visits.values.sum()
        return Loop(
            nodes=names,
            kind="self" if len(states) == 1 else "chain",
            header=names[0],
            entries=tuple(names[i] for i in entries),
            keys=chain.keys(names[0], names[0]) if len(states) == 1 else (),
            depth=depth,
            parent=parent,
            reached=min(1.0, float(reached.values)),
            entered=min(1.0, float(entered.values)),
            again=float(body.again.values),
            rounds=float(rounds.values),
            rounds_per_arrival=float(per_arrival.values),
            exits=exits,
            events=float(events.values),
            events_per_entry=float(inner),
            share=min(1.0, float(share.values)),
            several=bool(self.spread[states].any()),
            gain=float(grown.values),
            effect=_effect(grown),
            period=int(periods[0]),
            irreducible=len(entries) > 1 or bool(self.others_in(states)),
            time=None if time is None else float(time.values),
            cycles=self.inside(states, block, leaving, entry.values) if len(states) <= DENSE else (),
            reached_bound=float(reached.bound),
            entered_bound=float(entered.bound),
            again_bound=float(body.again.bound),
            rounds_bound=float(rounds.bound),
            rounds_per_arrival_bound=float(per_arrival.bound),
            events_bound=float(events.bound),
            events_per_entry_bound=0.0 if endless else float(total(body.visits).bound),
            share_bound=float(share.bound),
            gain_bound=float(grown.bound),
            time_bound=0.0 if time is None else float(time.bound),
        )

    def others_in(self, states: Index) -> bool:
        """Return whether some arrow from outside leads to another node than the header."""
        into = self.back[states[1:]]
        return bool((self.local[into.indices] < 0).any())

    def exits(
        self, states: Index, inner: Solved, rows: Index, out: sparse.csr_array, crossing: npt.NDArray[np.bool_]
    ) -> tuple[Exit, ...]:
        """Return the ways out, most probable first."""
        chain = self.chain
        stopping = np.flatnonzero(chain.stop[states] > 0)
        sources = np.concatenate([rows, stopping])
        chance = np.concatenate([out.data[crossing], chain.stop[states[stopping]]])
        targets = [chain.names[j] for j in out.indices[crossing]] + [END] * len(stopping)
        p = times(Solved(inner.values[sources], inner.bound[sources]), exact(chance))
        found = [
            Exit(chain.names[states[k]], target, value, bound)
            for k, target, value, bound in zip(
                sources.tolist(), targets, p.values.tolist(), p.bound.tolist(), strict=True
            )
        ]
        found.sort(key=lambda e: (-e.probability, chain.index[e.source], e.target))
        return tuple(found)

    def inside(self, states: Index, block: sparse.csr_array, leaving: Vector, entry: Vector) -> tuple[Cycle, ...]:
        """Return the most probable cycles of the loop, as of a chain of its own."""
        if not self.listed:
            return ()
        names = tuple(self.chain.names[i] for i in states)
        block.sort_indices()
        alone = Chain(names, block, leaving, entry / entry.sum(), graph=self.chain.graph)
        return tuple(find_cycles(alone, self.listed).cycles)


def _entry(flow: Solved) -> Solved:
    """Return by which nodes a loop is come into: by its header, if no run comes to it or too few for any number."""
    if (flow.values > 0).sum() > 1:
        law = quotient(flow, total(flow))
        if np.isfinite(law.bound).all():
            return law
    unit = np.zeros(len(flow.values))
    unit[0] = 1.0
    return exact(unit)


def _rounds(body: Body, gap: Solved, arrived: Solved) -> tuple[Solved, Solved, Solved]:
    """Return the chance to go round at all, the mean rounds of those who do, and those per arrival."""
    again = body.again
    never = exact(np.inf)
    per_arrival = quotient(again, body.leave) if body.leave.values > 0 else never
    if not again.values > 0:
        return exact(0.0), (exact(1.0) if gap.values > 0 else never), per_arrival
    rounds = plus(exact(1.0), quotient(again, gap)) if gap.values > 0 else never
    return times(arrived, quotient(again, plus(gap, again))), rounds, per_arrival


def _effect(grown: Solved) -> Literal["dampens", "keeps", "grows", "can't tell"]:
    if abs(grown.values - 1) <= grown.bound:
        return "keeps" if grown.bound <= CLOSE else "can't tell"
    return "grows" if grown.values > 1 else "dampens"
