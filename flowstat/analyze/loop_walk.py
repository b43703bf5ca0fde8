"""Describes the loops of a chain, many at once; all numbers come from the visits of its start law."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.bounded import exact, quotient, row_sums, times
from flowstat.analyze.cycles import Cycle
from flowstat.analyze.cycles import cycles as find_cycles
from flowstat.analyze.loop import Exits, Loop
from flowstat.analyze.loop_gain import Effect, enclosed, told
from flowstat.analyze.loop_nest import nest
from flowstat.analyze.loop_parts import Some, some_loops
from flowstat.analyze.loop_rounds import Rounds
from flowstat.analyze.loop_traffic import Traffic
from flowstat.analyze.offspring import Offspring, offspring
from flowstat.analyze.periods import phases
from flowstat.analyze.solve import DENSE, Index, Solved, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain

__all__ = ["Walker"]

LISTED = 200
"""Up to how many loops their cycles are listed without being asked for."""

CYCLES = 3
"""How many cycles are then listed, of loops of up to `DENSE` nodes."""

TOGETHER = 100_000
"""How many nodes loops have together that are described at once, if they are several."""


class Walker:
    """Describes the loops of a chain, every one before those nested in it."""

    def __init__(self, chain: Chain, law: Vector, cycles: int | None, latencies: Latencies | None) -> None:
        self.chain = chain
        self.traffic = Traffic(chain, law, latencies)
        self.nest = nest(self.traffic)
        self.rounds = Rounds(self.traffic, self.nest)
        n = len(chain.names)
        self.names = np.array((*chain.names, END), object)
        self.by_name = np.empty(n + 1, np.int64)
        self.by_name[sorted(range(n + 1), key=self.names.__getitem__)] = np.arange(n + 1)
        self.unasked = cycles is None
        few = len(self.nest.header) <= LISTED
        self.listed = (CYCLES if few else 0) if cycles is None else cycles
        self.unlisted = self.unproven = 0
        self.law: Offspring | None = None
        self.mean: Vector = chain.P.data  # messages along every arrow, per event at its source
        self.growthless = ""
        try:
            self.law = offspring(chain)
            if self.law.fans_out:
                rows, columns, _ = chain.arrows()
                self.mean = np.asarray(self.law.mean[rows, columns], np.float64).ravel()
        except AnalysisError as error:
            self.growthless = str(error)

    def grow(self) -> list[Loop]:
        """Return the loops, outermost ones in topological order."""
        parts = list(self._parts())
        for part in parts:
            some = some_loops(self.traffic, self.nest, part)
            self.rounds.look(some)
            self.rounds.alone(some)
        self.rounds.solve()
        listed = self.nest.listed()
        position = np.full(len(listed) + 1, -1)
        position[listed] = np.arange(len(listed))
        found: list[Loop | None] = [None] * len(listed)
        for part in parts:
            some = some_loops(self.traffic, self.nest, part)
            for k, loop in zip(part.tolist(), self.described(some, position), strict=True):
                found[position[k]] = loop
        return [loop for loop in found if loop is not None]

    def _parts(self) -> Iterator[Index]:
        """Yield the loops, in parts that are not too large."""
        size = self.nest.size
        begin, room = 0, 0
        for k, nodes in enumerate(size.tolist()):
            if room + nodes > TOGETHER and k > begin:
                yield np.arange(begin, k)
                begin, room = k, 0
            room += nodes
        if begin < len(size):
            yield np.arange(begin, len(size))

    def described(self, some: Some, position: Index) -> Iterator[Loop]:
        """Yield the description of each of some loops; `position` is where each is going to be."""
        traffic, nest, rounds = self.traffic, self.nest, self.rounds
        k, m = some.loops, len(some.loops)
        first = np.zeros(len(some.states), bool)
        first[some.begins] = True
        # As one reads them: the header, then the others as they are in the chain.
        order = np.lexsort((some.states, ~first, some.whose))
        names = self.names[some.states[order]]
        place = np.argsort(order)
        coming = np.flatnonzero(some.flow.values > 0)
        coming = coming[np.lexsort((place[coming], -some.flow.values[coming], some.whose[coming]))]
        ways = np.searchsorted(some.whose[coming], np.arange(m + 1))
        entries = self.names[some.states[coming]]
        inner = rounds.inner(some)
        exits = self.exits(some, inner)
        each = row_sums(some.whose, inner, m)
        events = row_sums(some.whose, traffic.visited.at(some.states), m)
        share = self.share(some)
        time = self.time(some)
        taken = rounds.taken(k)
        gains = self.gains(some)
        inside = some.block(self.chain.P.data)
        periods, _ = phases(inside, np.split(np.arange(len(some.states)), some.begins[1:]))
        several = np.logical_or.reduceat(traffic.spread[some.states], some.begins)
        others = np.logical_or.reduceat(~first & (some.into > 0), some.begins)
        parents = np.where(nest.parent[k] >= 0, position[nest.parent[k]], -1)
        endless = rounds.endless[k]
        columns = {
            name: (np.minimum(of.values, most).tolist(), np.where(np.isinf(of.values), 0.0, of.bound).tolist())
            for name, of, most in (
                ("reached", rounds.reached.at(k), 1.0),
                ("entered", taken[0], 1.0),
                ("again", rounds.again.at(k), 1.0),
                ("rounds", taken[1], np.inf),
                ("rounds_per_arrival", taken[2], np.inf),
                ("events", events, np.inf),
                ("events_per_entry", Solved(np.where(endless, np.inf, each.values), each.bound), np.inf),
                ("share", share, 1.0),
            )
        }
        for i in range(m):
            part = some.part(i)
            header = names[part.start]
            single = part.stop - part.start == 1
            gain, gain_bound, effect = gains[i]
            numbers = {name: values[i] for name, (values, _) in columns.items()}
            numbers |= {f"{name}_bound": bounds[i] for name, (_, bounds) in columns.items()}
            yield Loop(
                nodes=tuple(names[part]),
                kind="self" if single else "chain",
                header=header,
                entries=tuple(entries[ways[i] : ways[i + 1]]),
                keys=self.chain.keys(header, header) if single else (),
                depth=int(nest.depth[k[i]]),
                parent=None if parents[i] < 0 else int(parents[i]),
                exits=exits[i],
                several=bool(several[i]),
                gain=gain,
                gain_bound=gain_bound,
                effect=effect,
                period=int(periods[i]),
                irreducible=bool(others[i]) or ways[i + 1] - ways[i] > 1,
                time=None if time is None else float(time.values[i]),
                time_bound=0.0 if time is None else float(time.bound[i]),
                cycles=self.inside(some, inside, i, order) if self.listed else (),
                **numbers,
            )

    def exits(self, some: Some, inner: Solved) -> list[Exits]:
        """Return the ways out of some loops, most probable first."""
        chain, m = self.chain, len(some.loops)
        crossing = some.columns < 0
        stop = chain.stop[some.states]
        stopping = np.flatnonzero(stop > 0)
        sources = np.concatenate([some.rows[crossing], stopping])
        at = some.at[crossing]
        chance = np.concatenate([chain.P.data[at], stop[stopping]])
        targets = np.concatenate([chain.P.indices[at], np.full(len(stopping), len(chain.names))])
        p = times(inner.at(sources), exact(chance))
        whose = some.whose[sources]
        order = np.lexsort((self.by_name[targets], some.states[sources], -p.values, whose))
        begins = np.searchsorted(whose[order], np.arange(m + 1))
        sources, targets = some.states[sources[order]].astype(np.int32), targets[order].astype(np.int32)
        only = (np.diff(begins) == 1)[whose[order]]
        values = np.where(only, 1.0, np.minimum(p.values[order], 1.0))
        bound = np.where(only, 0.0, p.bound[order])
        parts = [slice(a, b) for a, b in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True)]
        return [Exits(self.names, sources[s], targets[s], values[s], bound[s]) for s in parts]

    def share(self, some: Some) -> Solved:
        """Return the share of all events that each of some loops has, (m,)."""
        traffic, m = self.traffic, len(some.loops)
        found = quotient(row_sums(some.whose, traffic.weight.at(some.states), m), traffic.total)
        if not traffic.endless:
            return found
        # What a run does before it is trapped is nothing beside what follows.
        stays = traffic.closed[some.states[some.begins]]
        return Solved(np.where(stays, found.values, 0.0), np.where(stays, found.bound, 0.0))

    def time(self, some: Some) -> Solved | None:
        """Return the expected time per run, (m,), from events at the nodes to what follows them."""
        if self.traffic.spent is None:
            return None
        v, spent = self.traffic.visited.at(some.states), self.traffic.spent.at(some.states)
        never = np.isinf(v.values)
        found = row_sums(some.whose, times(Solved(np.where(never, 0.0, v.values), v.bound), spent), len(some.loops))
        ever = np.logical_or.reduceat(never, some.begins)
        return Solved(np.where(ever, np.inf, found.values), found.bound)

    def gains(self, some: Some) -> list[tuple[float | None, float, Effect]]:
        """Return gain, bound and effect of each of some loops."""
        law = self.law
        if law is None:
            return [(None, 0.0, "can't tell")] * len(some.loops)
        M = some.block(self.mean)
        fanning = np.logical_or.reduceat(law.fanning[some.states], some.begins)
        # What is nested in a large loop is much like it: there a wide bound will do.
        leaving = np.where(fanning[some.whose], np.nan, some.leaving)
        low, high = enclosed(M, some.begins, law.unit, leaving, self.nest.depth[some.loops] > 0)
        endless = self.rounds.endless[some.loops]
        found: list[tuple[float | None, float, Effect]] = []
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            alone: Literal["keeps", "dampens"] | None = "keeps" if endless[i] else "dampens"
            found.append(told(law, some.states[some.part(i)], a, b, None if fanning[i] else alone))
        return found

    def inside(self, some: Some, within: sparse.csr_array, i: int, order: Index) -> tuple[Cycle, ...]:
        """Return the most probable cycles of a loop, as of a chain of its own."""
        part = some.part(i)
        if self.unasked and part.stop - part.start > DENSE:
            self.unlisted += 1
            return ()
        states = some.states[part]
        ordered = order[part] - part.start
        P = sparse.csr_array(within[part][:, part])
        P = sparse.csr_array(P[ordered][:, ordered])
        P.sort_indices()
        flow = some.flow.values[part][ordered]
        if not flow.sum() > 0:
            flow = np.eye(1, len(flow))[0]
        names = tuple(self.names[states[ordered]])
        alone = Chain(names, P, some.leaving[part][ordered], flow / flow.sum(), graph=self.chain.graph)
        found = find_cycles(alone, self.listed)
        self.unproven += not found.complete
        return tuple(found.cycles)
