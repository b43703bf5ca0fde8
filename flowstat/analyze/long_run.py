"""What is found of the long run: the laws of closed classes, and what runs from the start come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from flowstat.analyze.solve import Index, Vector
from flowstat.errors import AnalysisError
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["NAMED", "LongRun", "Stationary", "class_name"]

NAMED = 6
"""Up to how many nodes name their class."""


def class_name(nodes: tuple[str, ...], size: int) -> str:
    """Return what a class is called: its node, or its nodes in braces, or the first of many and their number.

    Examples
    --------
    >>> class_name(("a", "b"), 2), class_name(("a", "b", "c"), 1000)
    ('{a, b}', '{a, b, ... 1,000 nodes}')
    """
    if size == 1:
        return nodes[0]
    if size <= NAMED:
        return "{" + ", ".join(nodes) + "}"
    return "{" + ", ".join(nodes[:2]) + f", ... {size:,} nodes}}"


@dataclass(frozen=True)
class LongRun:
    """What a closed class is in the long run.

    `probability` is the chance that a run gets there, and stays for ever. `phases[r]` is the chance that it does so and
    is in cyclic class r at late times that are multiples of the period; empty if finding it takes too much.
    `entropy_rate` is in bits a step.
    """

    name: str
    size: int
    probability: float
    period: int
    entropy_rate: float
    phases: tuple[float, ...] = ()
    probability_bound: float = 0.0
    entropy_rate_bound: float = 0.0
    phases_bound: float = 0.0


@dataclass(frozen=True, eq=False)
class Stationary(Result):
    """The stationary law of every closed class, and the long run from the start.

    Attributes
    ----------
    nodes
        The nodes of closed classes, class by class: m of them.
    member, residue : (m,)
        Position of a node's class in `classes`, and its cyclic class there.
    law, law_bound : (m,)
        The stationary law, summing to 1 in each class: the share of its time that a run there spends at the node.
    limit, limit_bound : (m,)
        The share of its time that a run from the start spends at the node in the long run; they sum to the chance that
        a run never ends. Where all periods are 1, also the limit of the chance to be there.
    ended
        Chance that a run ends.
    entropy_rate
        Of a run in the long run, in bits a step; a run that has ended brings no news.
    run_entropy
        Of a whole run, in bits: how much it takes to write down where it starts, goes and ends.
    restarted
        Whether each end starts a new run.
    """

    title: ClassVar[str] = "Long run: the shares of time that runs spend where they never leave"
    columns: ClassVar[tuple[str, ...]] = ("node", "class", "period", "law", "limit", "law_bound", "limit_bound")
    beside: ClassVar[tuple[str, ...]] = ("law_bound", "limit_bound")
    nodes: tuple[str, ...]
    classes: tuple[LongRun, ...]
    member: Index
    residue: Index
    law: Vector
    law_bound: Vector
    limit: Vector
    limit_bound: Vector
    ended: float
    entropy_rate: float
    run_entropy: float
    restarted: bool = False
    fans_out: bool = False
    ended_bound: float = 0.0
    entropy_rate_bound: float = 0.0
    run_entropy_bound: float = 0.0

    @property
    def error_bound(self) -> float:
        """How far any entry of the laws and limits may be off, proven: see `flowstat.analyze.solve`."""
        return float(max(self.law_bound.max(initial=0.0), self.limit_bound.max(initial=0.0)))

    def rows(self) -> list[Row]:
        """Return one row a node of a closed class."""
        names = [c.name for c in self.classes]
        periods = [c.period for c in self.classes]
        numbers = (self.law, self.limit, self.law_bound, self.limit_bound)
        found = zip(self.nodes, self.member.tolist(), *(each.tolist() for each in numbers), strict=True)
        return [dict(zip(self.columns, (node, names[c], periods[c], *of), strict=True)) for node, c, *of in found]

    def at(self, step: int) -> dict[str, float]:
        """Return the limits of the chances to be at each node, along late times that are `step` modulo the periods.

        Raises
        ------
        AnalysisError
            If the turns at which runs arrive in a class were too many to be found.
        """
        chances = np.zeros(len(self.nodes))
        places = np.searchsorted(self.member, np.arange(len(self.classes) + 1))
        for c, part in enumerate(self.classes):
            if not part.phases:
                raise AnalysisError(f"at which turn runs come to {part.name} is not known: too many states lead there")
            inside = slice(places[c], places[c + 1])
            turns = np.array(part.phases)[(self.residue[inside] - step) % part.period]
            chances[inside] = part.period * self.law[inside] * turns
        return dict(zip(self.nodes, chances.tolist(), strict=True))

    def notes(self) -> tuple[str, ...]:
        """Say what ends, what never settles, and how much news there is."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.restarted:
            yield "Every end starts a new run."
        elif not self.classes:
            yield (
                "Every run ends: nothing is left in the long run. Restarted (restarted=True, --restarted), where each "
                "end starts a new run, the law is the share of all events by node."
            )
        elif self.ended:
            yield f"A run ends with probability {number(self.ended)}; the limits sum to what is left."
        lost = [c.name for c in self.classes if not c.probability + c.probability_bound]
        if lost:
            yield f"No run from the start comes to {', '.join(lost[:5])}{', ...' * (len(lost) > 5)}."
        for part in [c for c in self.classes if c.period > 1][:5]:
            yield f"{part.name} has period {part.period}: chances never settle, and limits are averages over time."
            if not part.phases:
                yield f"At which turn runs come to {part.name} was not found: too many states lead there."
        if self.classes:
            yield f"Entropy rate: {number(self.entropy_rate)} bits a step."
        if self.run_entropy < inf:
            yield f"A run takes {number(self.run_entropy)} bits to write down, on average."
        if self.fans_out:
            yield LINEAGES
