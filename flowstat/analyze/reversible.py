"""Whether closed classes are reversible: whether, in the long run, every arrow is taken as often as its reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Index, Mask, Vector
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
    closed = solver.closed
    if not closed:
        return Reversibility(())
    law, bound = np.zeros(solver.n), np.zeros(solver.n)
    sizes = np.fromiter(map(len, closed), np.int64, len(closed))
    for states in closed:
        if len(states) > 1:
            found = solver.stationary(states)
            law[states], bound[states] = found.values, found.bound
    part = np.full(solver.n, -1)
    part[np.concatenate(closed)] = np.repeat(np.arange(len(closed)), sizes)
    rows, columns, shares = chain.arrows()
    moves = (part[rows] >= 0) & (rows != columns)
    rows, columns, shares = rows[moves], columns[moves], shares[moves]
    flow = law[rows] * shares
    off = 1.01 * (bound[rows] + 2 * UNIT * law[rows]) * shares
    back, back_off, there = _reverse(rows, columns, flow, off, solver.n)
    net, wrong = flow - back, off + back_off
    rounded = wrong + (4 * sizes[part[rows]] + 8) * UNIT * (flow + back)
    uneven = np.bincount(part[rows[(net > rounded) | ~there]], minlength=len(closed)) > 0
    # The worst arrow of each class: the last one by class and net flow. One of each pair has a flow of at least 0.
    order = np.lexsort((net, part[rows]))
    ends = np.flatnonzero(np.diff(part[rows][order], append=-1))
    worst = dict(zip(part[rows][order][ends].tolist(), order[ends].tolist(), strict=True))
    classes = []
    for k, states in enumerate(closed):
        names = tuple(chain.names[i] for i in states)
        if k in worst:
            at = worst[k]
            source, target = chain.names[rows[at]], chain.names[columns[at]]
            classes.append(ClassBalance(names, not uneven[k], float(net[at]), source, target, float(wrong[at])))
        else:
            classes.append(ClassBalance(names, True))
    return Reversibility(tuple(classes))


def _reverse(rows: Index, columns: Index, flow: Vector, off: Vector, n: int) -> tuple[Vector, Vector, Mask]:
    """Return the flow of the reverse of every arrow, its bound, and whether there is one."""
    place = rows * n + columns
    order = np.argsort(place)
    wanted = columns * n + rows
    at = order[np.minimum(np.searchsorted(place, wanted, sorter=order), len(order) - 1)] if len(order) else order
    there = place[at] == wanted
    return np.where(there, flow[at], 0.0), np.where(there, off[at], 0.0), there
