"""Communicating classes: which nodes lead to each other, and which of them nothing leaves."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import ClassVar, Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.solve import Index, Solver
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import Result, Row

__all__ = ["Classes", "CommunicatingClass", "classes"]


@dataclass(frozen=True)
class CommunicatingClass:
    """Nodes that lead to each other.

    `kind` is `closed` if nothing leaves it (a run that enters never ends), else `transient`. `period` is
    the greatest common divisor of its cycle lengths; 0 without a cycle. `reachable` tells whether a run can get there.
    """

    nodes: tuple[str, ...]
    kind: Literal["transient", "closed"]
    period: int
    reachable: bool


@dataclass(frozen=True)
class Classes(Result):
    """The communicating classes, each before those it leads to."""

    title: ClassVar[str] = "Classes"
    columns: ClassVar[tuple[str, ...]] = ("nodes", "size", "kind", "period", "reachable")
    classes: tuple[CommunicatingClass, ...]

    def rows(self) -> list[Row]:
        """Return one row a class."""
        return [
            {"nodes": list(c.nodes), "size": len(c.nodes), "kind": c.kind, "period": c.period, "reachable": c.reachable}
            for c in self.classes
        ]


def classes(chain: Chain, start: Start = None) -> Classes:
    """Find the communicating classes of a chain.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Classes
        In topological order, with kind, period and whether a run from the start can reach them.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    Source: Norris, Markov Chains (1997), sections 1.2 and 1.8. Linear in states and arrows.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0, 1, 0], [0.5, 0, 0.5], [0, 0, 1]], ["a", "b", "done"])
    >>> [(c.nodes, c.kind, c.period) for c in classes(chain).classes]
    [(('a', 'b'), 'transient', 2), (('done',), 'closed', 1)]
    """
    solver = Solver(chain.P, chain.stop)
    reached = start_law(chain, start) > 0
    found = []
    for part in solver.classes:
        if reached[part.states].any():
            reached[part.states] = True
            for i in part.states:
                reached[chain.P.indices[chain.P.indptr[i] : chain.P.indptr[i + 1]]] = True
        found.append(
            CommunicatingClass(
                tuple(chain.names[i] for i in part.states),
                "closed" if part.closed else "transient",
                _period(chain.P, part.states),
                bool(reached[part.states[0]]),
            )
        )
    return Classes(tuple(found))


def _period(P: sparse.csr_array, states: Index) -> int:
    """Return the gcd of `level(i) + 1 - level(j)` over the arrows of a breadth-first tree (Denardo 1977)."""
    local = {int(i): k for k, i in enumerate(states)}
    level = np.full(len(states), -1)
    level[0] = 0
    period = 0
    queue = [int(states[0])]
    for i in queue:
        for j in P.indices[P.indptr[i] : P.indptr[i + 1]].tolist():
            if j not in local:
                continue
            if level[local[j]] < 0:
                level[local[j]] = level[local[i]] + 1
                queue.append(j)
            else:
                period = gcd(period, int(level[local[i]] + 1 - level[local[j]]))
    return period
