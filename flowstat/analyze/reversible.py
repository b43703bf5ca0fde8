"""Whether closed classes are reversible: whether, in the long run, every arrow is taken as often as its reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Index
from flowstat.analyze.solve import Solver
from flowstat.estimate.chain import Chain
from flowstat.results import Result, Row, number

__all__ = ["ClassBalance", "Reversibility", "reversible"]


@dataclass(frozen=True)
class ClassBalance:
    """How far a closed class is from detailed balance.

    `net_flow` is the largest `|pi_i p_ij - pi_j p_ji|`, per event, and `source` and `target` are where: it goes that
    way round; None where the class has one node. `reversible` tells whether no difference is larger than rounding.
    """

    nodes: tuple[str, ...]
    reversible: bool
    net_flow: float = 0.0
    source: str | None = None
    target: str | None = None
    net_flow_bound: float = 0.0


@dataclass(frozen=True)
class Reversibility(Result):
    """The closed classes, and how far each is from detailed balance."""

    title: ClassVar[str] = "Detailed balance of the closed classes"
    columns: ClassVar[tuple[str, ...]] = ("nodes", "reversible", "net_flow", "source", "target", "net_flow_bound")
    beside: ClassVar[tuple[str, ...]] = ("net_flow_bound",)
    classes: tuple[ClassBalance, ...]

    @property
    def reversible(self) -> bool:
        """Whether every closed class is reversible."""
        return all(c.reversible for c in self.classes)

    @property
    def error_bound(self) -> float:
        """How far any net flow may be off, proven: see `flowstat.analyze.solve`."""
        return max((c.net_flow_bound for c in self.classes), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a closed class."""
        return [{c: list(b.nodes) if c == "nodes" else getattr(b, c) for c in self.columns} for b in self.classes]

    def notes(self) -> tuple[str, ...]:
        """Say where the balance is worst."""
        if not self.classes:
            return ("There is no closed class: every run ends, and there is no long run.",)
        worst = max(self.classes, key=lambda c: c.net_flow)
        if self.reversible or worst.source is None:
            return ("Reversible: a long run looks the same backwards.",)
        flow = number(worst.net_flow)
        return (f"Not reversible: of all events in a class, {flow} more go from {worst.source} to {worst.target}.",)


def reversible(chain: Chain) -> Reversibility:
    """Find whether the closed classes of a chain are reversible.

    Parameters
    ----------
    chain
        A chain.

    Returns
    -------
    Reversibility
        For each closed class whether `pi_i p_ij = pi_j p_ji` for all its nodes, with pi its stationary law, and where
        the difference is largest.

    Raises
    ------
    AnalysisError
        If the stationary law of a class can't be computed: see `Solver.stationary`.

    Notes
    -----
    A class is called not reversible where an arrow has no reverse, or a difference is larger than its bound, with what
    rounding of the shares themselves may do: that changes no entry of pi by more than 2 n units relatively (O'Cinneide,
    Numerische Mathematik 65 (1993)). Source: Norris, Markov Chains (1997), section 1.9. Cost: a stationary law for each
    closed class.

    Examples
    --------
    >>> walk = Chain.from_matrix([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0.5, 0.5]])
    >>> turn = Chain.from_matrix([[0, 0.75, 0.25], [0.25, 0, 0.75], [0.75, 0.25, 0]])
    >>> reversible(walk).reversible, reversible(turn).reversible
    (True, False)
    """
    solver = Solver(chain.P, chain.stop)
    return Reversibility(tuple(_balance(chain, solver, states) for states in solver.closed))


def _balance(chain: Chain, solver: Solver, states: Index) -> ClassBalance:
    """Return how far a closed class is from detailed balance."""
    names = tuple(chain.names[i] for i in states)
    if len(states) == 1:
        return ClassBalance(names, True)
    law = solver.stationary(states)
    block = sparse.coo_array(chain.P[states][:, states])
    flow = sparse.csr_array((law.values[block.row] * block.data, (block.row, block.col)), shape=block.shape)
    off = (law.bound[block.row] + 2 * UNIT * law.values[block.row]) * block.data
    doubt = sparse.csr_array((off, (block.row, block.col)), shape=block.shape)
    net = sparse.csr_array(flow - flow.T)
    if not net.nnz:
        return ClassBalance(names, True, 0.0, names[0], names[1], 1.01 * float(off.max()))
    # The differences have the pattern of both directions together; so have these sums of positive numbers.
    total = sparse.csr_array(flow + flow.T)
    wrong = 1.01 * sparse.csr_array(doubt + doubt.T)
    one_way = bool(((block.data > 0).sum()) != _paired(flow))
    rounded = wrong + (4 * len(states) + 8) * UNIT * total
    beyond = sparse.csr_array(abs(net) - rounded)
    place = int(np.argmax(net.data))
    rows = np.repeat(np.arange(len(states)), np.diff(net.indptr))
    i, j = int(rows[place]), int(net.indices[place])
    even = not one_way and not (beyond.data > 0).any()
    return ClassBalance(names, even, float(net.data[place]), names[i], names[j], float(wrong[i, j]))


def _paired(flow: sparse.csr_array) -> int:
    """Return how many arrows have a reverse, or lead to their own node."""
    pattern = sparse.csr_array((np.ones(flow.nnz), flow.indices, flow.indptr), shape=flow.shape)
    return int(pattern.multiply(pattern.T).sum())
