"""Communicating classes: which nodes lead to each other, and which of them nothing leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.periods import phases
from flowstat.analyze.search import Index, reachable
from flowstat.analyze.solve import strong_classes
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import Result, Row, counted

__all__ = ["Classes", "CommunicatingClass", "classes"]


@dataclass(frozen=True)
class CommunicatingClass:
    """Nodes that lead to each other.

    `kind` is `closed` if nothing leaves it (a run that enters never ends), else `transient`. `period` is
    the greatest common divisor of its cycle lengths; 0 without a cycle. `reachable` tells whether a run can get there.
    `cyclic` are the parts that a run takes in turn where the period is above 1, from that of the first node.
    `leads_to` are the positions of the classes that its arrows lead to.
    """

    nodes: tuple[str, ...]
    kind: Literal["transient", "closed"]
    period: int
    reachable: bool
    cyclic: tuple[tuple[str, ...], ...] = ()
    leads_to: tuple[int, ...] = ()


@dataclass(frozen=True)
class Classes(Result):
    """The communicating classes, each before those it leads to.

    Whether a closed class is reversible is told by `flowstat.analyze.reversible`, which arrows no run takes by
    `flowstat.analyze.dead`.
    """

    title: ClassVar[str] = "Classes"
    columns: ClassVar[tuple[str, ...]] = ("nodes", "size", "kind", "period", "reachable")
    classes: tuple[CommunicatingClass, ...]

    @property
    def absorbing(self) -> bool:
        """Whether every run ends, or comes to a node that it never leaves: no closed class has several nodes."""
        return all(c.kind == "transient" or len(c.nodes) == 1 for c in self.classes)

    @property
    def irreducible(self) -> bool:
        """Whether all nodes are one closed class."""
        return len(self.classes) == 1 and self.classes[0].kind == "closed"

    @property
    def aperiodic(self) -> bool:
        """Whether no class has a period above 1."""
        return all(c.period <= 1 for c in self.classes)

    @property
    def unreachable(self) -> tuple[str, ...]:
        """The nodes where no run can get."""
        return tuple(name for c in self.classes if not c.reachable for name in c.nodes)

    def rows(self) -> list[Row]:
        """Return one row a class."""
        return [
            {"nodes": list(c.nodes), "size": len(c.nodes), "kind": c.kind, "period": c.period, "reachable": c.reachable}
            for c in self.classes
        ]

    def notes(self) -> tuple[str, ...]:
        """Say what kind of chain it is."""
        if not self.classes:
            return ()
        closed = [c for c in self.classes if c.kind == "closed"]
        turning = sorted({c.period for c in closed if c.period > 1})
        if self.irreducible:
            said = "Irreducible: all nodes are one closed class"
        elif not closed:
            said = "Absorbing: every run ends"
        elif self.absorbing:
            said = "Absorbing: every run ends, or comes to a node that it never leaves"
        else:
            several = [c for c in closed if len(c.nodes) > 1]
            what = "a closed class" if len(several) == 1 else f"{len(several):,} closed classes"
            said = f"Not absorbing: runs can be trapped for ever among the nodes of {what}"
        if turning:
            said += f", with period {', '.join(map(str, turning[:5]))}{', ...' * (len(turning) > 5)}"
        found = [f"{said}."]
        lost = self.unreachable
        if lost:
            found.append(f"{counted(len(lost), 'node')} can't be reached.")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data, with its type and format version."""
        kinds = {name: getattr(self, name) for name in ("absorbing", "irreducible", "aperiodic")}
        return {**super().to_dict(), **kinds, "unreachable": list(self.unreachable)}


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
        In topological order, with kind, period, the parts that a periodic class goes through in turn, the classes that
        each leads to, and whether a run from the start can reach it.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    Source: Norris, Markov Chains (1997), sections 1.2 and 1.8; Levin, Peres and Wilmer, Markov Chains and Mixing Times
    (2nd ed., 2017), section 1.3. Linear in states and arrows, but for a logarithm: see `flowstat.analyze.periods`.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0, 1, 0], [0.5, 0, 0.5], [0, 0, 1]], ["a", "b", "done"])
    >>> [(c.nodes, c.kind, c.period) for c in classes(chain).classes]
    [(('a', 'b'), 'transient', 2), (('done',), 'closed', 1)]
    """
    P = chain.P
    law = start_law(chain, start)
    members = strong_classes(P)
    number = len(members)
    sizes = np.fromiter(map(len, members), np.int64, number)
    label = np.empty(len(chain.names), np.int64)
    label[np.concatenate(members)] = np.repeat(np.arange(number), sizes)
    rows = np.repeat(np.arange(len(label)), np.diff(P.indptr))
    crossing = label[rows] != label[P.indices]
    leads = sparse.csr_array(
        (np.ones(int(crossing.sum())), (label[rows[crossing]], label[P.indices[crossing]])), shape=(number, number)
    )
    leads.sum_duplicates()
    leaves = np.bincount(label, weights=chain.stop > 0, minlength=number) + np.diff(leads.indptr) > 0
    periods, turns = phases(P, members)
    reached = reachable(P, law > 0)
    named = np.array(chain.names, object)
    found = []
    ends = leads.indptr.tolist()
    onward = leads.indices.tolist()
    facts = zip(members, leaves.tolist(), periods.tolist(), reached[[m[0] for m in members]].tolist(), strict=True)
    for k, (states, left, period, arrives) in enumerate(facts):
        found.append(
            CommunicatingClass(
                tuple(named[states].tolist()),
                "transient" if left else "closed",
                period,
                arrives,
                _parts(named[states], turns[states], period) if period > 1 else (),
                tuple(onward[ends[k] : ends[k + 1]]),
            )
        )
    return Classes(tuple(found))


def _parts(names: npt.NDArray[np.object_], turns: Index, period: int) -> tuple[tuple[str, ...], ...]:
    """Return the nodes of a periodic class by their turn."""
    order = np.argsort(turns, kind="stable")
    ends = np.cumsum(np.bincount(turns, minlength=period))[:-1]
    return tuple(tuple(part.tolist()) for part in np.split(names[order], ends))
