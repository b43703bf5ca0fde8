"""How often runs visit each node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from flowstat.analyze.aim import Targets, node_mask
from flowstat.analyze.bounded import Mask, exact, minus, quotient, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.gradients import collected
from flowstat.analyze.interval import Asked
from flowstat.analyze.intervals import Intervals, WithIntervals, how_many, intervals_of
from flowstat.analyze.solve import Solved, Solver, Vector, total
from flowstat.analyze.state_rows import StateRows
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Row

__all__ = ["NodeVisits", "Visits", "visits"]

MANY = 3000
"""Nodes of the largest class of which all returns are looked at: each of them is a solution."""


class NodeVisits(NamedTuple):
    """How runs visit a node: mean and variance of the number of events there, chance of any, of another after one.

    All but the mean are None where they were not asked for: see `visits`.
    """

    node: str
    visits: float
    variance: float | None
    reached: float | None
    again: float | None
    visits_bound: float = 0.0
    variance_bound: float = 0.0
    reached_bound: float = 0.0
    again_bound: float = 0.0


@dataclass(frozen=True)
class Visits(WithIntervals):
    """Expected visits, by node in the chain's order; `sure` has `visits:NODE` of the first ones."""

    title: ClassVar[str] = "Visits: how often a run comes to each node"
    columns: ClassVar[tuple[str, ...]] = ("node", "visits", "low", "high", *NodeVisits._fields[2:])
    beside: ClassVar[tuple[str, ...]] = ("visits_bound", "variance_bound", "reached_bound", "again_bound")
    nodes: Sequence[NodeVisits]
    fans_out: bool = False
    unasked: int = 0
    """Nodes of which only the mean is known."""
    error_bound: float = 0.0
    """How far any of the chances may be off, proven: see `flowstat.analyze.solve`."""

    def notes(self) -> tuple[str, ...]:
        """Say what the numbers are about where runs fan out, and what is missing."""
        said = []
        if self.unasked:
            said.append(
                f"Of {self.unasked:,} nodes in classes of more than {MANY:,} only the mean is known, since every other "
                "number takes a solution a node: name nodes (nodes=) for theirs."
            )
        if self.sure:
            said.append("low, high: of the visits.")
        said += self.said()
        return (*said, LINEAGES) if self.fans_out else tuple(said)

    def rows(self) -> list[Row]:
        """Return one row a node."""
        rows = []
        for v in self.nodes:
            low, high = self.between("visits", v.node)
            rows.append({**v._asdict(), "low": low, "high": high})
        return rows


def visits(
    chain: Chain,
    start: Start = None,
    nodes: Targets | None = None,
    *,
    intervals: Intervals = "delta",
    level: float = 0.95,
) -> Visits:
    """Find how often runs visit each node.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.
    nodes
        Which to look at; all if not given. Then, of classes of more than 3,000 nodes, only the mean is found.
    intervals
        How intervals are found, where traces stand behind the chain: `delta`, `sample`, a `Sampling`, or None.
    level
        Probability that each holds its number, in (0, 1).

    Returns
    -------
    Visits
        For each node: mean and variance of the number of events, `inf` in a closed class that is reached (and a
        variance above 1e308); the chance that a run comes there at all; the chance that an event there is followed by
        another there.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a class is too large and too close to closed to be solved, or a name is no node.

    Notes
    -----
    `v = alpha N`, its variance `v_i (2 N_ii - 1 - v_i)`, chance ever visited `v_i / N_ii`, return chance
    `1 - 1 / N_ii`. Source: Kemeny and Snell, Finite Markov Chains (1960), theorems 3.3.3 and 3.5.5. Cost: one solution
    for the means, and one for each node of a class of more than 200 for the rest.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0], [0, 0]], ["try", "idle"], "try", stop=[0.5, 1])
    >>> found = visits(retry).nodes[0]
    >>> found.node, found.visits, found.variance, found.reached, found.again
    ('try', 2.0, 2.0, 1.0, 0.5)
    """
    law = start_law(chain, start)
    chosen = None if nodes is None else node_mask(chain, nodes)
    found = _found(chain, law, chosen)

    def asked() -> dict[str, Asked]:
        some = [v for v in found.nodes[: how_many(chain)] if 0 < v.visits < np.inf]
        gains = np.zeros((len(chain.names), len(some)))
        gains[[chain.index[v.node] for v in some], range(len(some))] = 1.0
        made = collected(chain, start, gains, np.zeros_like(gains))
        return {
            f"visits:{v.node}": Asked(v.visits, gradient, partial(_visited, chain, start, v.node))
            for v, gradient in zip(some, made, strict=True)
        }

    def again(other: Chain) -> dict[str, float]:
        passed = Solver(other.P, other.stop).visits(other.start if start is None else law)[0].values
        return {f"visits:{name}": float(v) for name, v in zip(chain.names, passed, strict=True) if v}

    return replace(found, sure=intervals_of(chain, intervals, level, asked, again), level=level)


def _visited(chain: Chain, start: Start, node: str, other: Chain) -> float:
    """Return the visits to a node in a chain with other shares."""
    law = other.start if start is None else start_law(chain, start)
    return float(Solver(other.P, other.stop).visits(law)[0].values[chain.index[node]])


def _found(chain: Chain, law: Vector, asked: Mask | None) -> Visits:
    """Return the visits without intervals."""
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(law)
    v = visited.values
    if asked is None:
        sizes = np.diff(solver.order.offsets)[solver.label]
        look = sizes <= MANY
        for states in solver.closed:
            look[states] = True
    else:
        look = asked
    gaps = solver.return_gaps(look)
    reached, doubt = np.zeros(solver.n), np.zeros(solver.n)
    finite = np.isfinite(v) & look
    reached[finite] = np.minimum(v[finite] * gaps.values[finite], 1.0)
    doubt[finite] = visited.bound[finite] * (gaps.values + gaps.bound)[finite] + v[finite] * gaps.bound[finite]
    for states in solver.closed:
        # Whoever enters an irreducible closed class comes to each of its states.
        chance = total(Solved(entered.values[states], entered.bound[states]))
        reached[states], doubt[states] = min(1.0, float(chance.values)), float(chance.bound)
    doubt += 2 * UNIT * reached
    again = 1 - gaps.values
    variance = _variance(visited, gaps)
    numbers: list[npt.NDArray[Any]] = [variance.values, reached, again]
    if not look.all():
        for k, each in enumerate(numbers):
            numbers[k] = each.astype(object)
            numbers[k][~look] = None
    bounds = [np.where(look, each, 0.0) for each in (variance.bound, doubt, gaps.bound + UNIT * again)]
    chosen = np.flatnonzero(look) if asked is not None else slice(None)
    columns = [column[chosen] for column in (v, *numbers, visited.bound, *bounds)]
    names = chain.names if asked is None else tuple(chain.names[i] for i in np.flatnonzero(asked))
    worst = float(max(each.max(initial=0.0) for each in bounds[1:]))
    unasked = 0 if asked is not None else int((~look).sum())
    return Visits(StateRows(NodeVisits, names, *columns), chain.fans_out, unasked, worst)


def _variance(visited: Solved, gaps: Solved) -> Solved:
    """Return the variance of the number of visits, from their mean and the chance not to come back."""
    come = visited.values > 0
    finite = come & np.isfinite(visited.values)
    mean = Solved(np.where(finite, visited.values, 0.0), np.where(finite, visited.bound, 0.0))
    gap = Solved(np.where(finite, gaps.values, 1.0), np.where(finite, gaps.bound, 0.0))
    with np.errstate(over="ignore"):
        found = times(mean, minus(minus(quotient(exact(2.0), gap), exact(1.0)), mean))
    endless = (come & ~finite) | ~np.isfinite(found.values) | ~np.isfinite(found.bound)
    return Solved(np.where(endless, np.inf, np.maximum(found.values, 0.0)), np.where(endless, 0.0, found.bound))
