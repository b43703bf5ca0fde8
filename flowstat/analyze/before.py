"""Which of two sets of nodes runs come to first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from flowstat.analyze.aim import Targets, chance, completed, node_mask, weighted
from flowstat.analyze.search import backwards, cut
from flowstat.analyze.solve import Solved, Solver
from flowstat.analyze.state_rows import StateRows
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.read.words import shown
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Before", "StateBefore", "before"]


class StateBefore(NamedTuple):
    """What a run from a state comes to first: the chances sum to 1."""

    state: str
    a_first: float
    b_first: float
    neither: float
    a_first_bound: float = 0.0
    b_first_bound: float = 0.0
    neither_bound: float = 0.0


@dataclass(frozen=True)
class Before(Result):
    """Which of two sets of nodes runs come to first: from every state, and (`start`) from where runs start."""

    title: ClassVar[str] = "Before: which nodes runs come to first"
    columns: ClassVar[tuple[str, ...]] = StateBefore._fields
    beside: ClassVar[tuple[str, ...]] = ("a_first_bound", "b_first_bound", "neither_bound")
    a: tuple[str, ...]
    b: tuple[str, ...]
    start: StateBefore
    states: StateRows[StateBefore]
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the chances may be off, proven: see `flowstat.analyze.solve`."""
        return max(*self.start[4:], self.states.largest(3, 4, 5))

    def rows(self) -> list[Row]:
        """Return one row a state."""
        return [s._asdict() for s in self.states]

    def notes(self) -> tuple[str, ...]:
        """Say what holds for runs from the start."""
        a, b = (", ".join(map(shown, names)) for names in (self.a, self.b))
        at = self.start
        said = (
            f"A run comes to {a} before {b} with probability {number(at.a_first)}, the other way round with "
            f"{number(at.b_first)}, and to neither with {number(at.neither)}."
        )
        return (said, LINEAGES) if self.fans_out else (said,)


def before(chain: Chain, a: Targets, b: Targets, start: Start = None) -> Before:
    """Find which of two sets of nodes runs come to first.

    Parameters
    ----------
    chain
        A chain.
    a, b
        A node or several; no node is in both.
    start
        A node or a law over nodes; the chain's start law if not given. It only matters for `Before.start`.

    Returns
    -------
    Before
        From every state the chances to come to a node of `a` first, to one of `b` first, and never to any.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a set is empty, has a name that is no node's, or shares a node with the other, or a class is too large and
        too close to closed to be solved.

    Notes
    -----
    All of both sets are boundaries, and so are states that lead to none of them. Three right sides, one
    factorisation (Norris, Markov Chains (1997), theorem 1.3.2).

    Examples
    --------
    >>> ruin = Chain.from_matrix([[1, 0, 0, 0], [.5, 0, .5, 0], [0, .5, 0, .5], [0, 0, 0, 1]], ["0", "1", "2", "3"])
    >>> before(ruin, "3", "0", start="1").start.a_first
    0.3333333333333333
    """
    law = start_law(chain, start)
    first, second = node_mask(chain, a), node_mask(chain, b)
    both = np.flatnonzero(first & second)
    if len(both):
        raise AnalysisError(f"{shown(chain.names[both[0]])!r} is in both sets: then neither comes first")
    either = first | second
    out = either | ~backwards(chain.P, either).inside
    solver = Solver(cut(chain.P, out), np.where(out, 1.0, chain.stop))
    gain = np.stack([first, second, np.where(either, 0.0, solver.leaving)], axis=1)
    made = completed(solver.backward(gain))
    states = StateRows(StateBefore, chain.names, *np.minimum(made.values, 1.0).T, *made.bound.T)
    means = [weighted(law, Solved(made.values[:, k], made.bound[:, k])) for k in range(3)]
    begin = StateBefore("(start)", *(chance(value) for value, _ in means), *(off for _, off in means))
    names_a, names_b = (tuple(chain.names[i] for i in np.flatnonzero(mask)) for mask in (first, second))
    return Before(names_a, names_b, begin, states, chain.fans_out)
