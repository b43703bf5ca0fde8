"""The search for the most probable flows: best first, on exact probabilities of prefixes."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import ldexp

import numpy as np
from scipy import sparse

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.compiled import kernels
from flowstat.analyze.elimination import UNIT, eliminate
from flowstat.analyze.flow_parts import Part, Step, best_flow
from flowstat.analyze.near_visits import near_visits
from flowstat.analyze.solve import DENSE, Index, Solver, Vector
from flowstat.analyze.walks import product, ranked
from flowstat.estimate.chain import Chain

__all__ = ["BUDGET", "Found", "Search"]

BUDGET = 20_000
"""Prefixes that are extended before the search stops and says so."""

BOUNDED = 10_000
"""Up to how many nodes a large class is searched with bounds of single flows where there is no compiled code."""

LITTLE = 0.1
"""What may be left to the bounds of visits of a large class."""

DIGITS = 36
"""Flows whose probabilities are the same to so many binary digits are equal."""

FAINT = 1e-300
"""What the chance of a flow may be where it is too small to be told."""

FINISHED = -(2**62)
"""Order of a finished flow among equally probable entries: first."""


@dataclass(frozen=True)
class Found:
    """A flow: its nodes by number, the trap that it ends in or -1, its probability, and that one's relative error.

    The probability is `size * 2**power`.
    """

    path: tuple[int, ...]
    trap: int
    size: float
    power: int
    wrong: float

    @property
    def probability(self) -> float:
        """The probability, which may be too small to be told."""
        return ldexp(self.size, self.power)

    @property
    def rank(self) -> int:
        """What flows are ordered by."""
        return ranked(self.size, self.power, DIGITS)


class Search:
    """Finds the flows of a chain from a start law."""

    def __init__(self, chain: Chain, law: Vector) -> None:
        self.chain = chain
        self.law = law
        self.whole = Solver(chain.P, chain.stop)
        self.trap = np.full(len(chain.names), -1)
        self.traps: list[str] = []
        for states in self.whole.closed:
            self.trap[states] = len(self.traps)
            self.traps.append(trap_name(tuple(chain.names[i] for i in states)))
        self.parts: dict[int, Part] = {}
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
            elif len(states) <= BOUNDED or kernels() is not None:
                block = sparse.csr_array(self.chain.P[states][:, states])
                block.sort_indices()
                left = Solver(block, self.whole.exits[states]).backward(np.ones(len(states)))
                best[states] = best_flow(block, out, near_visits(block, left.values + left.bound, LITTLE).most)
        # From every node a run may end.
        return np.clip(best, FAINT, 1.0)

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

    def run(self, top: int) -> tuple[list[Found], bool]:
        """Return the most probable flows, and whether the search could finish."""
        # Heap entries: (rank, order, names, path, weight with its power of 2, its relative error, finished flow).
        # Finished ones come first on ties; a path ends with the next node, or with -1 - the number of a trap, so that
        # no two entries are equal.
        heap: list[tuple[int, int, tuple[str, ...], tuple[int, ...], tuple[float, int], float, Found | None]] = []
        names = self.chain.names
        within = self.trap >= 0
        law = np.bincount(self.trap[within], self.law[within], len(self.traps)).tolist()
        for trap, p in enumerate(law):
            if p > 0:
                flow = Found((), trap, p, 0, len(self.law) * UNIT)
                heappush(heap, (flow.rank, FINISHED, (self.traps[trap],), (-1 - trap,), (0.0, 0), 0.0, flow))
        for i in np.flatnonzero((self.law > 0) & ~within).tolist():
            p = float(self.law[i])
            rank = ranked(*product(p, 0, self.best[i]), DIGITS)
            heappush(heap, (rank, 0, (names[i],), (i,), (p, 0), 0.0, None))
        done: list[Found] = []
        steps = 0
        while heap and len(done) < top:
            _, _, named, path, weight, wrong, ended = heappop(heap)
            if ended is not None:
                done.append(ended)
                continue
            steps += 1
            if steps > BUDGET:
                return done, False
            for rank, target, onward, off, finished in self.extend(path, weight, wrong):
                name = names[target] if target >= 0 else self.traps[-1 - target]
                # Finished flows first among equals, then the longest prefixes.
                order = FINISHED if finished else -len(path)
                heappush(heap, (rank, order, (*named, name), (*path, target), onward, off, finished))
        return done, True

    def passed(self, path: tuple[int, ...]) -> tuple[Part, int, Index]:
        """Return the class of a path's last node, that node in it, and those of the path before it that are there."""
        c = int(self.whole.label[path[-1]])
        if c not in self.parts:
            self.parts[c] = Part(self.whole, self.whole.classes[c].states)
        part = self.parts[c]
        earlier = np.array([i for i in path[:-1] if self.whole.label[i] == c], np.int64)
        return part, int(np.searchsorted(part.states, path[-1])), np.searchsorted(part.states, earlier)

    def step(self, path: tuple[int, ...]) -> Step:
        """Return what may follow a prefix within its class; once a run has left a class it never comes back."""
        at = path[-1]
        part = self.whole.classes[int(self.whole.label[at])].states
        if len(part) == 1:
            return Step(float(self.whole.moving[at]), self.whole.unit, {})
        inner, place, earlier = self.passed(path)
        return inner.step(place, earlier)

    def extend(
        self, path: tuple[int, ...], weight: tuple[float, int], wrong: float
    ) -> list[tuple[int, int, tuple[float, int], float, Found | None]]:
        """Return what may follow a prefix: finished flows with their rank, longer prefixes with that of a bound."""
        chain, at = self.chain, path[-1]
        step = self.step(path)
        visits = product(*weight, 1 / step.never)
        wrong = wrong + 1.01 * step.wrong + 8 * UNIT
        label = int(self.whole.label[at])
        onward, trapped = self.arrows_from(at)
        passed = set(path)
        found: list[tuple[int, int, tuple[float, int], float, Found | None]] = []
        ends = [(at, -1, float(chain.stop[at]), 0.0)] if chain.stop[at] > 0 else []
        ends += [(-1 - trap, trap, share, 4 * UNIT) for trap, share in trapped.items()]
        for target, trap, share, more in ends:
            flow = Found(path, trap, *product(*visits, share), wrong + more)
            found.append((flow.rank, target, (0.0, 0), 0.0, flow))
        for j, share in onward:
            if j not in passed:
                # Within the class the chance to end, beyond it or in it no more than the best flow onward.
                bound = float(self.best[j])
                if self.whole.label[j] == label:
                    bound = min(bound, step.ends[j])
                if bound > 0:
                    weight = product(*visits, share)
                    found.append((ranked(*product(*weight, bound), DIGITS), j, weight, wrong, None))
        return found
