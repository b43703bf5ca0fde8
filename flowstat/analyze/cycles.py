"""Elementary cycles: the most probable ones, exactly, without listing all."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, isinf, log, prod
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.elimination import eliminate
from flowstat.analyze.solve import DENSE, Index, Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Cycle", "Cycles", "cycles"]

BUDGET = 1_000_000
"""Arrows that the search follows before it stops and says so."""

TIES = 20_000
"""Steps to settle which of many equally probable cycles come last in the list."""

TIE = 1e-9
"""Cycles whose -log probability differs by less are put in order by length and names."""


@dataclass(frozen=True)
class Cycle:
    """An elementary cycle.

    `nodes` starts at its first node in the chain's order and does not repeat it; `probability` is the
    product of its shares; `traversals` the expected number of times a run closes it, loops erased as they
    close (`inf` in a closed class that is reached).
    """

    nodes: tuple[str, ...]
    keys: tuple[str, ...]
    probability: float
    traversals: float

    @property
    def kind(self) -> Literal["self", "chain"]:
        """`self` for one node, else `chain`."""
        return "self" if len(self.nodes) == 1 else "chain"

    @property
    def name(self) -> str:
        """The cycle as one reads it, closed: `a -> b -> a`."""
        return " -> ".join((*self.nodes, self.nodes[0]))


@dataclass(frozen=True)
class Cycles(Result):
    """The most probable elementary cycles, best first.

    `covered` is the share of all events on the listed cycles (None if runs may never end); `more` tells
    whether there are others; `complete` whether the search could finish.
    """

    title: ClassVar[str] = "Cycles, most probable first"
    columns: ClassVar[tuple[str, ...]] = ("cycle", "length", "kind", "keys", "probability", "traversals")
    cycles: tuple[Cycle, ...]
    covered: float | None
    more: bool
    complete: bool
    fans_out: bool = False

    def rows(self) -> list[Row]:
        """Return one row a cycle."""
        return [
            {
                "cycle": c.name,
                "length": len(c.nodes),
                "kind": c.kind,
                "keys": list(c.keys),
                "probability": c.probability,
                "traversals": c.traversals,
            }
            for c in self.cycles
        ]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns mean and what is not listed."""
        if not self.cycles:
            return ("There is no cycle.",) if self.complete else ("No cycle was found within the search's bound.",)
        notes = ["probability: product of the shares; traversals: how often a run goes round it, on average."]
        if self.covered is not None:
            notes.append(f"The listed cycles carry {number(100 * self.covered)}% of all events.")
        if self.more:
            notes.append("There are more cycles, none more probable: raise top to see them.")
        if not self.complete:
            notes.append("The search stopped at its bound: a cycle as probable as the last ones may be missing.")
        if self.fans_out:
            notes.append(LINEAGES)
        return tuple(notes)


def cycles(chain: Chain, top: int = 20, start: Start = None, max_length: int | None = None) -> Cycles:
    """List the most probable elementary cycles.

    Parameters
    ----------
    chain
        A chain.
    top
        How many at most; at least 1.
    start
        Start of runs for `traversals`; the chain's start law if not given.
    max_length
        Longest cycle that is listed, in nodes.

    Raises
    ------
    AnalysisError
        If `top` or `max_length` is less than 1.

    Notes
    -----
    Best-first search from each root over nodes after it in its class, bounded by the shortest way back in -log p:
    exact, and without enumerating all cycles (Johnson, SIAM J. Comput. 4 (1975), for the rooting; Hart, Nilsson,
    Raphael 1968 for the bound). Traversals are `P(hit c) * product of shares * det N[c, c]`, the expected number of
    times loop-erasure closes c, the same from whichever node c is written; by elimination of all other
    states `det N[c, c]` is the product of the reciprocal pivots, and nothing is subtracted. Source: Lawler and
    Limic, Random Walk (2010), section 9.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0.5, 0.25], [1, 0]], ["a", "b"], "a", stop=[0.25, 0])
    >>> [(c.name, c.probability, c.traversals) for c in cycles(chain).cycles]
    [('a -> a', 0.5, 2.0), ('a -> b -> a', 0.25, 1.0)]
    """
    if top < 1 or (max_length is not None and max_length < 1):
        raise AnalysisError("ask for at least one cycle, of at least one node")
    law = start_law(chain, start)
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(law)
    v, inflow = visited.values, entered.values
    paths, more, complete = _search(chain, solver, top, max_length)
    found = []
    for path in paths:
        closing = [*path[1:], path[0]]
        # Sorted, so that rounding does not depend on the chain's order.
        p = prod(sorted(float(chain.P[i, j]) for i, j in zip(path, closing, strict=True)))
        names = tuple(chain.names[i] for i in path)
        keys = tuple("|".join(chain.keys(chain.names[i], chain.names[j])) for i, j in zip(path, closing, strict=True))
        found.append(Cycle(names, keys, p, _traversals(solver, inflow, np.array(path), p)))
    events = float(v.sum())
    covered = None if isinf(events) else sum(c.traversals * len(c.nodes) for c in found) / events
    return Cycles(tuple(found), covered, more, complete, chain.fans_out)


def _rotated(nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Return a cycle from its alphabetically first node: the same for every order of the chain."""
    at = nodes.index(min(nodes))
    return nodes[at:] + nodes[:at]


def _search(chain: Chain, solver: Solver, top: int, max_length: int | None) -> tuple[list[tuple[int, ...]], bool, bool]:
    """Return the best cycles as paths of positions, whether there are more, and whether it finished."""
    P = chain.P
    arrows: dict[int, list[tuple[int, float]]] = {}
    classes: dict[int, Index] = {}
    for states in solver.cyclic():
        members = set(states.tolist())
        for i in members:
            span = range(P.indptr[i], P.indptr[i + 1])
            out = [(int(P.indices[k]), max(0.0, -log(P.data[k]))) for k in span if int(P.indices[k]) in members]
            arrows[i] = out
            classes[i] = states
    heap: list[tuple[float, float, tuple[str, ...], tuple[int, ...], float]] = []
    bounds: dict[int, dict[int, float]] = {}

    def put(bound: float, order: float, path: tuple[int, ...], cost: float) -> None:
        """Queue a path; of equal bounds, closed cycles and then the longest paths come first."""
        heappush(heap, (round(bound, 11), order, tuple(chain.names[i] for i in path), path, cost))

    for states in solver.cyclic():
        for root in states.tolist():
            # The way back is worked out only when a root's best first step makes it worth while.
            put(min(weight for _, weight in arrows[root]), 0, (root,), 0.0)
    done: list[tuple[float, tuple[int, ...]]] = []
    steps = settling = 0
    while heap:
        bound, order, _, path, cost = heappop(heap)
        if isinf(bound):
            break
        if len(done) > top and bound > done[top][0] + TIE:
            break
        if order == -inf:
            done.append((bound, path))
            continue
        steps += len(arrows[path[-1]])
        settling += len(done) > top
        if steps > BUDGET or settling > TIES:
            return _best(chain, done, top), True, False
        root = path[0]
        if order == 0:
            back = bounds[root] = _ways_back(arrows, classes[root], root)
            put(back[-1], -1, path, 0.0)
            continue
        back = bounds[root]
        for target, weight in arrows[path[-1]]:
            if target == root:
                put(cost + weight, -inf, path, cost + weight)
            elif target > root and target not in path and (max_length is None or len(path) < max_length):
                reach = cost + weight + back.get(target, inf)
                if not isinf(reach):
                    put(reach, -1 - len(path), (*path, target), cost + weight)
    return _best(chain, done, top), len(done) > top, True


def _best(chain: Chain, done: list[tuple[float, tuple[int, ...]]], top: int) -> list[tuple[int, ...]]:
    """Return the best cycles; equals within rounding are ordered by length and names."""
    done.sort(key=lambda c: c[0])
    ranked = []
    level = -inf
    for cost, path in done:
        # Costs of equal products differ in their last digits: a step starts a new rank.
        level = cost if cost > level + TIE else level
        ranked.append((level, len(path), _rotated(tuple(chain.names[i] for i in path)), path))
    return [path for *_, path in sorted(ranked)[:top]]


def _ways_back(arrows: dict[int, list[tuple[int, float]]], states: Index, root: int) -> dict[int, float]:
    """Return the least cost to come to the root through nodes after it; under -1, that of a whole cycle."""
    into: dict[int, list[tuple[int, float]]] = {}
    for i in states.tolist():
        if i >= root:
            for j, weight in arrows[i]:
                if j >= root:
                    into.setdefault(j, []).append((i, weight))
    best: dict[int, float] = {}
    heap = [(weight, i) for i, weight in into.get(root, ())]
    heap.sort()
    cycle = inf
    while heap:
        cost, i = heappop(heap)
        if i == root:
            cycle = min(cycle, cost)
            continue
        if i in best:
            continue
        best[i] = cost
        for j, weight in into.get(i, ()):
            if j not in best:
                heappush(heap, (cost + weight, j))
    best[-1] = cycle
    return best


def _traversals(solver: Solver, inflow: Vector, path: Index, p: float) -> float:
    """Return the expected loop-erased traversals of a cycle."""
    part = solver.classes[int(solver.label[path[0]])]
    chance = float(inflow[part.states].sum())
    if chance == 0:
        return 0.0
    if part.closed:
        return inf
    on = np.zeros(solver.n, bool)
    on[path] = True
    rest = part.states[~on[part.states]]
    ordered = np.concatenate([path, rest])
    if len(ordered) > 2 * DENSE:
        raise AnalysisError(f"a class of {len(ordered)} nodes is too large for the traversals of its cycles")
    gone = eliminate(solver.block(ordered), solver.exits[ordered])
    hit = gone.censored(inflow[ordered], len(path)).sum()
    returns: float = prod(1 / pivot for pivot in gone.pivots[: len(path)].tolist())
    return float(hit) * p * returns
