"""Dead arrows: those that no run takes, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from scipy import sparse

from flowstat.analyze.search import reachable
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import Result, Row, counted

__all__ = ["DeadArrow", "DeadArrows", "dead_arrows"]

Why = Literal["no share", "unreachable", "never taken"]


class DeadArrow(NamedTuple):
    """An arrow that no run takes.

    `why`: it has `no share` of its source's messages; its source is `unreachable` from where runs start; or the traces
    have messages, but it was `never taken` by one, and only the prior gives it a share.
    """

    source: str
    key: tuple[str, ...]
    target: str
    share: float
    why: Why


@dataclass(frozen=True)
class DeadArrows(Result):
    """The dead arrows, by source and target in the chain's order."""

    title: ClassVar[str] = "Dead arrows: no run takes them"
    columns: ClassVar[tuple[str, ...]] = DeadArrow._fields
    arrows: tuple[DeadArrow, ...]

    def rows(self) -> list[Row]:
        """Return one row an arrow."""
        return [{**arrow._asdict(), "key": list(arrow.key)} for arrow in self.arrows]

    def notes(self) -> tuple[str, ...]:
        """Count them."""
        if not self.arrows:
            return ("No arrow is dead.",)
        whys = [arrow.why for arrow in self.arrows]
        said = [f"{whys.count(why):,} {why}" for why in dict.fromkeys(whys)]
        return (f"{counted(len(whys), 'dead arrow')}: {', '.join(said)}.",)


def dead_arrows(chain: Chain, start: Start = None) -> DeadArrows:
    """Find the arrows that no run takes.

    Parameters
    ----------
    chain
        A chain. Its graph says which arrows are declared, its counts which were taken, where it has them.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    DeadArrows
        Declared arrows, several keys of a pair as one, and arrows with a share, with the first reason that holds.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    Traces tell pairs of nodes, and not keys: an arrow is taken when any of its pair is. Linear in states and arrows.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0, 1, 0], [0, 1, 0], [0, 1, 0]], ["a", "b", "lost"], "a")
    >>> [(arrow.source, arrow.target, arrow.why) for arrow in dead_arrows(chain).arrows]
    [('lost', 'b', 'unreachable')]
    """
    reached = reachable(chain.P, start_law(chain, start) > 0)
    rows, columns, values = chain.arrows()
    P = chain.P.sorted_indices()
    taken = chain.counts.messages if chain.counts is not None and chain.counts.events else None
    found: dict[tuple[int, int], tuple[float, Why]] = {}
    far = ~reached[rows]
    for i, j, share in zip(rows[far].tolist(), columns[far].tolist(), values[far].tolist(), strict=True):
        found[i, j] = share, "unreachable"
    for arrow in chain.graph.arrows if chain.graph is not None else ():
        pair = i, j = chain.index[arrow.source], chain.index[arrow.target]
        share = _share(P, i, j)
        if not share:
            found[pair] = 0.0, "no share"
        elif pair not in found and taken is not None and not taken.get((arrow.source, arrow.target)):
            found[pair] = share, "never taken"
    arrows = []
    for (i, j), (share, why) in sorted(found.items()):
        source, target = chain.names[i], chain.names[j]
        arrows.append(DeadArrow(source, chain.keys(source, target), target, share, why))
    return DeadArrows(tuple(arrows))


def _share(P: sparse.csr_array, i: int, j: int) -> float:
    """Return an entry of a matrix with sorted rows, by bisection."""
    begin, end = int(P.indptr[i]), int(P.indptr[i + 1])
    at = begin + int(np.searchsorted(P.indices[begin:end], j))
    return float(P.data[at]) if at < end and P.indices[at] == j else 0.0
