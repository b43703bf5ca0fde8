"""Whether some message of a run ever comes to some nodes, where runs fan out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from flowstat.analyze.aim import Targets, aim_at, chance, weighted
from flowstat.analyze.fixed_point import fixed_point
from flowstat.analyze.offspring import Source, chain_of, offspring
from flowstat.analyze.search import backwards
from flowstat.analyze.solve import Solved
from flowstat.analyze.state_rows import StateRows
from flowstat.estimate.chain import Start, start_law
from flowstat.read.graph import Graph
from flowstat.read.words import shown
from flowstat.results import Result, Row, number

__all__ = ["Reach", "StateReach", "reach"]


class StateReach(NamedTuple):
    """The chance that some message of a run from a state comes to the targets, and that one lineage of it does."""

    state: str
    probability: float
    lineage: float
    error_bound: float = 0.0
    lineage_bound: float = 0.0


@dataclass(frozen=True)
class Reach(Result):
    """Whether some message of a run comes to any of some nodes: from every state, and (`start`) where runs start.

    `lineage` is the chance that one lineage comes there, picked at random at each event that sends several messages: it
    is what `hitting` tells.
    """

    title: ClassVar[str] = "Reach: whether some message of a run comes there"
    columns: ClassVar[tuple[str, ...]] = StateReach._fields
    beside: ClassVar[tuple[str, ...]] = ("error_bound", "lineage_bound")
    targets: tuple[str, ...]
    start: StateReach
    states: StateRows[StateReach]
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the probabilities may be off, proven: see `flowstat.analyze.fixed_point`."""
        return max(self.start.error_bound, self.states.largest(2))

    def rows(self) -> list[Row]:
        """Return one row a state."""
        return [s._asdict() for s in self.states]

    def notes(self) -> tuple[str, ...]:
        """Say what holds for runs from the start."""
        goal = ", ".join(map(shown, self.targets))
        said = [f"Some message of a run comes to {goal} with probability {number(self.start.probability)}."]
        if self.fans_out:
            said.append(
                f"One lineage, picked at random where events send several messages, with {number(self.start.lineage)}."
            )
        else:
            said.append("No event sends several messages: a run is one lineage.")
        if self.error_bound > 1e-6:
            said.append("Some of it is not known well: see error_bound.")
        return tuple(said)


def reach(
    source: Source, targets: Targets, graph: Graph | None = None, start: Start = None, *, prior: float = 1.0
) -> Reach:
    """Find the chance that some message of a run ever comes to any of some nodes.

    Parameters
    ----------
    source
        A chain with its counts, counts, or a graph alone: see `flowstat.analyze.offspring.offspring` for what is known
        of the offspring of each.
    targets
        A node or several.
    graph, prior
        With counts: see `estimate`.
    start
        A node or a law over nodes; the chain's start law if not given. It only matters for `Reach.start`.

    Returns
    -------
    Reach
        From every state the chance that some message comes there, in [0, 1], beside that of one lineage; a run that is
        at a target has come there.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If no target is named, one is no node, or shares of a node that fans out were changed.

    Notes
    -----
    From the nodes that lead to a target, the chance is the only solution of `y = g(y)`, y being 1 at the targets and 0
    where nothing leads there: see `flowstat.analyze.fixed_point`. (Two solutions would be on a line, along which each
    generating function is convex; it would leave the unit cube where all messages of some pattern miss the targets for
    certain.) Without fan-out it is the chain's answer, of `hitting`.

    Examples
    --------
    >>> from flowstat.estimate.counts import Counts
    >>> counts = Counts({("a", "b c"): 1, ("b", "x"): 1, ("b", ""): 1, ("c", "x"): 1, ("c", ""): 1}, {"a": 1})
    >>> at = reach(counts, "x").start
    >>> at.probability, at.lineage
    (0.75, 0.5)
    """
    chain = chain_of(source, graph, prior)
    law = start_law(chain, start)
    aim = aim_at(chain, targets)
    one, _ = aim.chances
    born = offspring(chain)
    some = one
    if born.fans_out:
        able = backwards(born.mean, aim.inside).inside
        known = np.where(able, np.nan, 0.0)
        known[aim.inside] = 1.0
        some = fixed_point(born, known, single=True)
    lineage = Solved(np.minimum(one.values, 1.0), one.bound)
    columns = (np.minimum(some.values, 1.0), lineage.values, some.bound, lineage.bound)
    states = StateRows(StateReach, chain.names, *columns)
    (p, off), (q, doubt) = weighted(law, some), weighted(law, lineage)
    begin = StateReach("(start)", chance(p), chance(q), off, doubt)
    return Reach(aim.names, begin, states, born.fans_out)
