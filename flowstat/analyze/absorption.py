"""Where runs end, after how many events, and how often they visit each node."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isinf, sqrt
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.solve import Solver
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


@dataclass(frozen=True)
class Absorption(Result):
    """The outcomes of a run, most probable first, and how many events a run has.

    `events` and `events_sd` are mean and standard deviation of the number of events of one lineage;
    infinite if a trap is reached.
    """

    title: ClassVar[str] = "Outcomes: where a run ends"
    columns: ClassVar[tuple[str, ...]] = ("outcome", "kind", "probability")
    outcomes: tuple[Outcome, ...]
    events: float
    events_sd: float
    fans_out: bool = False

    def rows(self) -> list[Row]:
        """Return one row an outcome."""
        return [{"outcome": o.outcome, "kind": o.kind, "probability": o.probability} for o in self.outcomes]

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
    """How runs visit a node: mean number of events there, chance of any, chance of another after one."""

    node: str
    visits: float
    reached: float
    again: float


@dataclass(frozen=True)
class Visits(Result):
    """Expected visits, by node in the chain's order."""

    title: ClassVar[str] = "Visits: how often a run comes to each node"
    columns: ClassVar[tuple[str, ...]] = ("node", "visits", "reached", "again")
    nodes: tuple[NodeVisits, ...]
    fans_out: bool = False

    def notes(self) -> tuple[str, ...]:
        """Say what the numbers are about where runs fan out."""
        return (LINEAGES,) if self.fans_out else ()

    def rows(self) -> list[Row]:
        """Return one row a node."""
        return [{"node": v.node, "visits": v.visits, "reached": v.reached, "again": v.again} for v in self.nodes]


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
    v, inflow = solver.visits(law)
    outcomes = [
        Outcome(chain.names[i], "stop", min(1.0, float(v[i] * chain.stop[i])), (chain.names[i],))
        for i in np.flatnonzero((chain.stop > 0) & (v > 0))
    ]
    trapped = False
    for states in solver.closed:
        chance = min(1.0, float(inflow[states].sum()))
        if chance > 0:
            trapped = True
            nodes = tuple(chain.names[i] for i in states)
            outcomes.append(Outcome(trap_name(nodes), "trap", chance, nodes))
    outcomes.sort(key=lambda o: (-o.probability, o.nodes))
    if trapped:
        return Absorption(tuple(outcomes), inf, inf, chain.fans_out)
    mean = float(v.sum())
    left = solver.backward(np.ones(solver.n))
    rows, columns, values = chain.arrows()
    # Nodes that no run comes to may lead to traps, from where nothing is expected. In units of the longest
    # expectation no square overflows.
    left[v == 0] = 0.0
    unit = float(left.max())
    changes = (1 + (left[columns] - left[rows])) / unit
    spread = (v[rows] * values) @ changes**2 + (v * chain.stop) @ ((1 - left) / unit) ** 2
    spread += law @ ((left - mean) / unit) ** 2
    return Absorption(tuple(outcomes), mean, unit * sqrt(spread), chain.fans_out)


def visits(chain: Chain, start: Start = None) -> Visits:
    """Find how often runs visit each node.

    Returns
    -------
    Visits
        For each node: expected number of events, `inf` in a closed class that is reached; the chance
        that a run comes there at all; the chance that an event there is followed by another there.

    Notes
    -----
    `v = alpha N`, chance ever visited `v_i / N_ii`, return chance `1 - 1 / N_ii`. Source: Kemeny and Snell
    (1960), theorem 3.5.5. Parameters and errors are those of `absorption`.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0], [0, 0]], ["try", "idle"], "try", stop=[0.5, 1])
    >>> visits(retry).rows()[0]
    {'node': 'try', 'visits': 2.0, 'reached': 1.0, 'again': 0.5}
    """
    law = start_law(chain, start)
    solver = Solver(chain.P, chain.stop)
    v, inflow = solver.visits(law)
    gaps = solver.return_gaps()
    reached = np.zeros(solver.n)
    finite = np.isfinite(v)
    reached[finite] = np.minimum(v[finite] * gaps[finite], 1.0)
    for states in solver.closed:
        # Whoever enters an irreducible closed class comes to each of its states.
        reached[states] = min(1.0, inflow[states].sum())
    found = zip(chain.names, v.tolist(), reached.tolist(), (1 - gaps).tolist(), strict=True)
    return Visits(tuple(NodeVisits(*row) for row in found), chain.fans_out)
