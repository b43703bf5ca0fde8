"""The stationary flow of closed classes, taken apart into circulations along cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flowstat.analyze.cycle_flux import Fluxes
from flowstat.analyze.cycle_order import in_order
from flowstat.analyze.cycle_search import lightest
from flowstat.analyze.derived import positions, whole
from flowstat.analyze.solve import Index, Solved, Solver, Vector, total
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.results import Result, Row, number

__all__ = ["Circulated", "Circulation", "circulation"]

MOST = 200_000
"""How many cycles a class may have to be taken apart."""


@dataclass(frozen=True)
class Circulated:
    """A cycle of a closed class and how often it is closed per event in the long run."""

    nodes: tuple[str, ...]
    rate: float
    error_bound: float = 0.0

    @property
    def name(self) -> str:
        """The cycle as one reads it, closed: `a -> b -> a`."""
        return " -> ".join((*self.nodes, self.nodes[0]))


@dataclass(frozen=True)
class Circulation(Result):
    """The cycles of a closed class by how often they are closed per event.

    `covered` is the share of all events of the class on those listed; `number` how many cycles the class has;
    `imbalance` the most by which the flow `pi_i p_ij` of an arrow differs from the sum of the rates of all cycles
    through it, and `imbalance_bound` what rounding can make of it, at most.
    """

    title: ClassVar[str] = "Circulation: the stationary flow of a closed class, by cycles"
    columns: ClassVar[tuple[str, ...]] = ("cycle", "length", "rate", "share", "error_bound")
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    cycles: tuple[Circulated, ...]
    covered: float
    number: int
    imbalance: float
    imbalance_bound: float

    @property
    def error_bound(self) -> float:
        """How far any of the rates may be off, proven: see `flowstat.analyze.cycle_flux`."""
        return max((c.error_bound for c in self.cycles), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a cycle; `share` is that of the events of the class on it."""
        return [
            {
                "cycle": c.name,
                "length": len(c.nodes),
                "rate": c.rate,
                "share": min(1.0, c.rate * len(c.nodes)),
                "error_bound": c.error_bound,
            }
            for c in self.cycles
        ]

    def notes(self) -> tuple[str, ...]:
        """Say what the numbers are, and whether they balance."""
        listed = "all" if len(self.cycles) == self.number else f"{len(self.cycles):,} of"
        these = "Listed is the only cycle" if self.number == 1 else f"Listed are {listed} {self.number:,} cycles"
        return (
            "rate: how often it is closed per event in the long run; share: of the events in the class.",
            f"{these}: {number(100 * self.covered)}% of the events. The flows of "
            f"arrows and cycles balance to {number(self.imbalance)}.",
        )


def circulation(chain: Chain, node: str | None = None, top: int = 20) -> Circulation:
    """Take the stationary flow of a closed class apart into circulations along its cycles.

    Parameters
    ----------
    chain
        A chain.
    node
        One of the class; not needed if there is only one closed class.
    top
        How many cycles are listed; at least 1.

    Returns
    -------
    Circulation
        Those most often closed first. All cycles are worked out: their rates times their lengths sum to 1, and those
        through an arrow to its flow `pi_i p_ij`, which is checked.

    Raises
    ------
    AnalysisError
        If the node is in no closed class, there are none or several to choose from, or the class has more than 200,000
        cycles: then `cycles(chain, by="flux")` lists the foremost ones with their rates.
    ChainError
        If there is no such node.

    Notes
    -----
    The rate of a cycle is that at which a run's loop-erasure closes it, almost surely. Source: Jiang, Qian and Qian,
    Mathematical Theory of Nonequilibrium Steady States (LNM 1833, 2004), chapter 1; Kalpazidou, Cycle Representations
    of Markov Processes (2nd ed., 2006). Cost: an elimination of the class a cycle.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0, 0.5, 0.5], [0.5, 0, 0.5], [1, 0, 0]], ["a", "b", "c"])
    >>> [(c.name, round(c.rate, 9)) for c in circulation(chain).cycles]
    [('a -> c -> a', 0.222222222), ('a -> b -> a', 0.111111111), ('a -> b -> c -> a', 0.111111111)]
    """
    top = whole("top", top, 1)
    solver = Solver(chain.P, chain.stop)
    c = _closed(chain, solver, node)
    states = solver.classes[c].states
    inside = solver.label[solver.rows] == c
    rows, columns = solver.rows[inside], solver.P.indices[inside].astype(np.int64)
    shares = solver.P.data[inside]
    found = lightest(chain.names, (rows, columns, np.maximum(-np.log(shares), 0.0)), MOST)
    if found.more:
        raise AnalysisError(
            f"the class of {chain.names[states[0]]!r} has more than {MOST:,} cycles: list the foremost ones, with "
            "their rates, as cycles by flux"
        )
    entered = np.zeros(solver.n)
    entered[states[0]] = 1.0
    fluxes = Fluxes(solver, Solved(entered, np.zeros(solver.n)))
    made = dict(zip(found.paths, fluxes.of(found.paths), strict=True))
    order = in_order([(-f.size, path) for path, f in made.items()], chain.names, len(made))
    law = fluxes.law(c)
    imbalance, bound = _imbalance(
        rows * solver.n + columns,
        Solved(law.values[np.searchsorted(states, rows)] * shares, law.bound[np.searchsorted(states, rows)] * shares),
        solver.n,
        [(path, made[path].rate or 0.0, made[path].rate_bound) for path in order],
    )
    listed = tuple(
        Circulated(tuple(chain.names[i] for i in path), made[path].rate or 0.0, made[path].rate_bound)
        for path in order[:top]
    )
    covered = total(Solved(np.array([x.rate * len(x.nodes) for x in listed]), np.zeros(len(listed))))
    return Circulation(listed, min(1.0, float(covered.values)), len(order), imbalance, bound)


def _closed(chain: Chain, solver: Solver, node: str | None) -> int:
    """Return the closed class of a node, or the only one."""
    closed = [k for k, part in enumerate(solver.classes) if part.closed]
    if node is not None:
        c = int(solver.label[positions(chain, node)[0]])
        if c not in closed:
            raise AnalysisError(f"runs leave the class of {node!r}: only a closed class has a stationary flow")
        return c
    if not closed:
        raise AnalysisError("every run ends: no class is closed, and none has a stationary flow")
    if len(closed) > 1:
        few = ", ".join(repr(chain.names[solver.classes[k].states[0]]) for k in closed[:8])
        raise AnalysisError(f"there are {len(closed):,} closed classes: name a node of one, such as {few}")
    return closed[0]


def _imbalance(
    key: Index, flow: Solved, n: int, cycles: list[tuple[tuple[int, ...], float, float]]
) -> tuple[float, float]:
    """Return the most by which arrows' flows differ from the sums of cycles through them, and its bound."""
    sums, off, terms = np.zeros(len(key)), np.zeros(len(key)), np.zeros(len(key))
    for path, rate, bound in cycles:
        at = np.searchsorted(key, [i * n + j for i, j in zip(path, (*path[1:], path[0]), strict=True)])
        sums[at] += rate
        off[at] += bound
        terms[at] += 1
    unit = float(np.finfo(np.float64).eps)
    apart: Vector = np.abs(sums - flow.values)
    doubt: Vector = off + flow.bound + unit * (terms + 4) * (sums + flow.values)
    return float(apart.max(initial=0.0)), float(1.01 * doubt.max(initial=0.0))
