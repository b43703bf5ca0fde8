"""Where runs end, after how many events, and how often they visit each node."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isinf, sqrt
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.bounded import exact, minus, quotient, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, Solver, Vector, total
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Absorption", "NodeVisits", "Outcome", "Visits", "absorption", "visits"]


@dataclass(frozen=True)
class Outcome:
    """One way for a run to end: stopping at a node, or being trapped in a closed class for ever."""

    outcome: str
    kind: Literal["stop", "trap"]
    probability: float
    nodes: tuple[str, ...]
    error_bound: float = 0.0
    """How far the probability may be off."""


@dataclass(frozen=True)
class Absorption(Result):
    """The outcomes of a run, most probable first, and how many events a run has.

    `events` and `events_sd` are mean and standard deviation of the number of events of one lineage;
    infinite if a trap is reached.
    """

    title: ClassVar[str] = "Outcomes: where a run ends"
    columns: ClassVar[tuple[str, ...]] = ("outcome", "kind", "probability", "error_bound")
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    outcomes: tuple[Outcome, ...]
    events: float
    events_sd: float
    fans_out: bool = False
    events_bound: float = 0.0
    events_sd_bound: float = 0.0

    @property
    def error_bound(self) -> float:
        """How far any of the probabilities may be off, proven: see `flowstat.analyze.solve`."""
        return max((o.error_bound for o in self.outcomes), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row an outcome."""
        return [{column: getattr(o, column) for column in self.columns} for o in self.outcomes]

    def notes(self) -> tuple[str, ...]:
        """Say how long a run is."""
        if isinf(self.events):
            trapped = sum(o.probability for o in self.outcomes if o.kind == "trap")
            said = (
                f"A lineage never ends with probability {number(trapped)}: its expected number of events is infinite."
            )
        else:
            said = (
                f"A lineage has {number(self.events)} events on average (standard deviation {number(self.events_sd)})."
            )
        return (said, LINEAGES) if self.fans_out else (said,)


@dataclass(frozen=True)
class NodeVisits:
    """How runs visit a node: mean and variance of the number of events there, chance of any, of another after one."""

    node: str
    visits: float
    variance: float
    reached: float
    again: float
    visits_bound: float = 0.0
    variance_bound: float = 0.0
    reached_bound: float = 0.0
    again_bound: float = 0.0


@dataclass(frozen=True)
class Visits(Result):
    """Expected visits, by node in the chain's order."""

    title: ClassVar[str] = "Visits: how often a run comes to each node"
    columns: ClassVar[tuple[str, ...]] = (
        "node",
        "visits",
        "variance",
        "reached",
        "again",
        "visits_bound",
        "variance_bound",
        "reached_bound",
        "again_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("visits_bound", "variance_bound", "reached_bound", "again_bound")
    nodes: tuple[NodeVisits, ...]
    fans_out: bool = False

    def notes(self) -> tuple[str, ...]:
        """Say what the numbers are about where runs fan out."""
        return (LINEAGES,) if self.fans_out else ()

    def rows(self) -> list[Row]:
        """Return one row a node."""
        return [{column: getattr(v, column) for column in self.columns} for v in self.nodes]

    @property
    def error_bound(self) -> float:
        """How far any of the chances may be off, proven: see `flowstat.analyze.solve`."""
        return max(max(v.reached_bound, v.again_bound) for v in self.nodes)


def trap_name(nodes: tuple[str, ...]) -> str:
    """Return what a closed class is called: its node, or its nodes in braces."""
    return nodes[0] if len(nodes) == 1 else "{" + ", ".join(nodes) + "}"


def absorption(chain: Chain, start: Start = None) -> Absorption:
    """Find where runs end.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Absorption
        Probabilities sum to 1 over `stop` and `trap` outcomes. Impossible outcomes are left out.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a class is too large and too close to closed to be solved.

    Notes
    -----
    With Q on transient states and N = (I - Q)^-1: outcome chances are `alpha N diag(stop)` and the inflow
    of closed classes (Kemeny and Snell, Finite Markov Chains (1960), theorems 3.3.5 and 3.3.7). The number of events
    T has the mean `m = N 1` from each node; its variance adds up what each step changes in the expectation,
    `sum v_i p_ij (1 + m_j - m_i)^2` with m = 0 at the end, and `sum alpha_i (m_i - E T)^2` (orthogonal increments
    of the martingale `t + m(X_t)`; Norris, Markov Chains (1997), section 4.1). Cost: see `solve`.

    Examples
    --------
    >>> ruin = Chain.from_matrix([[0, .5, 0], [.5, 0, .5], [0, .5, 0]], ["1", "2", "3"], "1", stop=[.5, 0, .5])
    >>> [(o.outcome, round(o.probability, 12)) for o in absorption(ruin).outcomes]
    [('1', 0.75), ('3', 0.25)]
    """
    law = start_law(chain, start)
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(law)
    v, inflow = visited.values, entered.values
    stopping = np.flatnonzero((chain.stop > 0) & (v > 0))
    chances = v[stopping] * chain.stop[stopping]
    bounds = visited.bound[stopping] * chain.stop[stopping] + 2 * UNIT * chances
    outcomes = [
        Outcome(chain.names[i], "stop", min(1.0, float(chance)), (chain.names[i],), float(bound))
        for i, chance, bound in zip(stopping, chances, bounds, strict=True)
    ]
    trapped = False
    for states in solver.closed:
        chance = total(Solved(inflow[states], entered.bound[states]))
        if chance.values > 0:
            trapped = True
            nodes = tuple(chain.names[i] for i in states)
            probability = min(1.0, float(chance.values))
            outcomes.append(Outcome(trap_name(nodes), "trap", probability, nodes, float(chance.bound)))
    outcomes.sort(key=lambda o: (-o.probability, o.nodes))
    if trapped:
        return Absorption(tuple(outcomes), inf, inf, chain.fans_out)
    mean = total(visited)
    left = solver.backward(np.ones(solver.n))
    deviation, off = _deviation(chain, law, visited, left, mean)
    return Absorption(tuple(outcomes), float(mean.values), deviation, chain.fans_out, float(mean.bound), off)


def _deviation(chain: Chain, law: Vector, visited: Solved, left: Solved, mean: Solved) -> tuple[float, float]:
    """Return the standard deviation of the number of events, and its bound."""
    rows, columns, values = chain.arrows()
    # Nodes that no run comes to may lead to traps, from where nothing is expected.
    m, wrong = (np.where(visited.values > 0, x, 0.0) for x in (left.values, left.bound))
    # In units of the longest expectation no square overflows.
    unit = max(1.0, float(m.max()))
    weights = np.concatenate([visited.values[rows] * values, visited.values * chain.stop, law])
    doubt = np.concatenate([visited.bound[rows] * values, visited.bound * chain.stop, np.zeros(len(law))])
    changes = np.concatenate([1 + (m[columns] - m[rows]), 1 - m, m - mean.values]) / unit
    sizes = np.concatenate([1 + m[columns] + m[rows], 1 + m, m + mean.values])
    off = (np.concatenate([wrong[columns] + wrong[rows], wrong, wrong + mean.bound]) + 3 * UNIT * sizes) / unit
    spread = weights @ changes**2
    bound = doubt @ changes**2 + (weights + doubt) @ (2 * np.abs(changes) * off + off**2)
    bound += (len(weights) + 8) * UNIT * spread
    deviation, doubted = sqrt(float(spread)), float(bound)
    # |sqrt a - sqrt b| is no more than the root of |a - b|, nor than |a - b| / sqrt a.
    apart = min(sqrt(doubted), doubted / deviation) if deviation else sqrt(doubted)
    return unit * deviation, 1.01 * unit * (apart + 2 * UNIT * deviation)


def visits(chain: Chain, start: Start = None) -> Visits:
    """Find how often runs visit each node.

    Returns
    -------
    Visits
        For each node: mean and variance of the number of events, `inf` in a closed class that is reached (and a
        variance above 1e308); the chance that a run comes there at all; the chance that an event there is followed by
        another there.

    Notes
    -----
    `v = alpha N`, its variance `v_i (2 N_ii - 1 - v_i)`, chance ever visited `v_i / N_ii`, return chance
    `1 - 1 / N_ii`. Source: Kemeny and Snell (1960), theorems 3.3.3 and 3.5.5. Parameters and errors are those of
    `absorption`.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0], [0, 0]], ["try", "idle"], "try", stop=[0.5, 1])
    >>> found = visits(retry).nodes[0]
    >>> found.node, found.visits, found.variance, found.reached, found.again
    ('try', 2.0, 2.0, 1.0, 0.5)
    """
    law = start_law(chain, start)
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(law)
    v = visited.values
    gaps = solver.return_gaps()
    reached, doubt = np.zeros(solver.n), np.zeros(solver.n)
    finite = np.isfinite(v)
    reached[finite] = np.minimum(v[finite] * gaps.values[finite], 1.0)
    doubt[finite] = visited.bound[finite] * (gaps.values + gaps.bound)[finite] + v[finite] * gaps.bound[finite]
    for states in solver.closed:
        # Whoever enters an irreducible closed class comes to each of its states.
        chance = total(Solved(entered.values[states], entered.bound[states]))
        reached[states], doubt[states] = min(1.0, float(chance.values)), float(chance.bound)
    doubt += 2 * UNIT * reached
    again = 1 - gaps.values
    variance = _variance(visited, gaps)
    bounds = (visited.bound, variance.bound, doubt, gaps.bound + UNIT * again)
    columns = (v, variance.values, reached, again, *bounds)
    found = zip(chain.names, *(column.tolist() for column in columns), strict=True)
    return Visits(tuple(NodeVisits(*row) for row in found), chain.fans_out)


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
