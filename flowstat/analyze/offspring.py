"""The offspring law: which messages an event at each node sends, together, and how often.

Where events send several messages, a run is a multi-type branching process whose types are the nodes, and the send
patterns are its offspring (Harris, The Theory of Branching Processes (1963), chapter II).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Index, Mask, Vector
from flowstat.analyze.strong import Classes
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.estimate.posterior import pattern_weights
from flowstat.read.graph import Graph
from flowstat.read.words import shown

__all__ = ["Offspring", "Source", "chain_of", "offspring"]

Source = Chain | Counts | Graph
"""What the offspring law is taken from."""

SAME = 1e-9
"""How far the shares of a law may be from those of the chain that it belongs to."""

EXACT = 40
"""Up to how many nodes of a class fractions are worked with."""


@dataclass(frozen=True, eq=False)
class Offspring:
    """Chances of the send patterns of every node.

    Attributes
    ----------
    chain
        The chain of one lineage that it belongs to.
    node, chance : (K,)
        Of each pattern that sends anything: whose it is (ascending), and its chance among the events there.
    sent : (K, n) sparse
        How many messages it sends to each node.
    stop : (n,)
        The chance that an event sends nothing.
    fanning : (n,)
        The nodes of which some event sends more than one message.
    """

    chain: Chain
    node: Index
    chance: Vector
    sent: sparse.csr_array
    stop: Vector
    fanning: Mask = field(repr=False)

    @property
    def fans_out(self) -> bool:
        """Whether any event sends more than one message."""
        return bool(self.fanning.any())

    @cached_property
    def line(self) -> Index:
        """The pattern of each entry of `sent`."""
        return np.repeat(np.arange(len(self.node)), np.diff(self.sent.indptr)).astype(np.int64)

    @cached_property
    def mean(self) -> sparse.csr_array:
        """Messages to each node per event at each node, (n, n): the sum over patterns of chance times number."""
        if not self.fans_out:
            return self.chain.P
        n = len(self.stop)
        place = (self.node[self.line], self.sent.indices)
        made = sparse.csr_array((self.chance[self.line] * self.sent.data, place), shape=(n, n))
        made.sum_duplicates()
        made.sort_indices()
        return made

    @cached_property
    def order(self) -> Classes:
        """The strongly connected classes, each before those it leads to."""
        return Classes(self.mean)

    @cached_property
    def inside(self) -> Vector:
        """How many messages of each pattern stay in the class of its node, (K,)."""
        label = self.order.label
        stays = label[self.node[self.line]] == label[self.sent.indices]
        numbers = np.where(stays, self.sent.data, 0.0)
        return np.bincount(self.line, weights=numbers, minlength=len(self.node)).astype(np.float64)

    @cached_property
    def leaving(self) -> Vector:
        """The chance that no message of an event stays in its class, (n,): a sum, nothing is subtracted."""
        none = self.inside == 0
        return self.stop + np.bincount(self.node[none], weights=self.chance[none], minlength=len(self.stop))

    @cached_property
    def spreading(self) -> Mask:
        """Of which classes some event sends several messages that stay in it; else a class is a chain, (classes,)."""
        mask = np.zeros(len(self.order.offsets) - 1, bool)
        mask[self.order.label[self.node[self.inside > 1]]] = True
        return mask

    @cached_property
    def cyclic(self) -> Mask:
        """Which classes have a cycle, (classes,)."""
        mask: Mask = np.diff(self.order.offsets) > 1
        mask[self.order.label[self.mean.diagonal() > 0]] = True
        return mask

    @cached_property
    def unit(self) -> float:
        """What rounding may have done to an entry of `mean`, relatively, against counts in whole numbers."""
        if not self.fans_out:
            return 2 * UNIT
        most = int(np.bincount(self.node[self.line], minlength=1).max(initial=1))
        return 1.01 * (most + 6) * UNIT

    def exact_mean(self, i: int) -> dict[int, Fraction]:
        """Return a row of `mean` in fractions: by the counts where the chain's shares are theirs, else as stored."""
        row = self._counted.get(i)
        begin, end = self.mean.indptr[i], self.mean.indptr[i + 1]
        stored = dict(zip(self.mean.indices[begin:end].tolist(), self.mean.data[begin:end].tolist(), strict=True))
        same = row is not None and row.keys() == stored.keys()
        if row is not None and same and all(abs(float(row[j]) - p) <= SAME * p for j, p in stored.items()):
            return row
        return {j: Fraction(value) for j, value in stored.items()}

    def exact_block(self, states: list[int]) -> list[list[Fraction]]:
        """Return the block of `mean` among some nodes in fractions; it costs what a dense matrix of them does."""
        rows = [self.exact_mean(i) for i in states]
        return [[row.get(j, Fraction(0)) for j in states] for row in rows]

    @cached_property
    def _counted(self) -> dict[int, dict[int, Fraction]]:
        chain = self.chain
        rows: dict[int, dict[int, Fraction]] = {}
        if chain.counts is None:
            return rows
        for i, (weights, total) in pattern_weights(chain, set(chain.index), Fraction(1)).items():
            row = rows[i] = {}
            for pattern, weight in weights.items():
                for j, times in pattern:
                    row[j] = row.get(j, Fraction(0)) + weight * times / total
        return rows


def chain_of(source: Source, graph: Graph | None = None, prior: float = 1.0) -> Chain:
    """Return the chain of what an analysis is given: a chain itself, or the one that is estimated."""
    if isinstance(source, Chain):
        if graph is not None:
            raise AnalysisError("a chain has its graph: give a graph with counts only")
        return source
    if isinstance(source, Graph):
        return estimate(Counts(), source, prior)
    return estimate(source, graph, prior)


def offspring(chain: Chain) -> Offspring:
    """Return the offspring law of a chain, as `estimate` estimates it: the posterior mean of each send pattern.

    The pseudo-events of the prior send one message each, along the declared arrows by their `@` shares; so does every
    event of a graph without traces, and of a chain without counts: such a law has no fan-out. (In `flowstat run` a node
    without behaviour copies its message to all arrows that match: that is known from the traces it records.)

    Raises
    ------
    AnalysisError
        If shares of a node that fans out were changed: then the chances of its patterns are not known.

    Notes
    -----
    Linear in the number of (node, pattern) pairs; nodes that don't fan out have the chain's own shares.

    Examples
    --------
    >>> law = offspring(estimate(Counts({("a", "a b"): 1, ("a", ""): 3})))
    >>> law.mean.toarray(), law.chance, law.stop
    (array([[0.25, 0.25],
           [0.  , 0.  ]]), array([0.25]), array([0.75, 1.  ]))
    """
    n = len(chain.names)
    rows, columns, values = chain.arrows()
    stop = chain.stop.astype(np.float64)
    fanning = np.zeros(n, bool)
    names = chain.counts.fanning if chain.counts is not None else frozenset()
    fanning[[chain.index[name] for name in names if name in chain.index]] = True
    single = ~fanning[rows]
    k = int(single.sum())
    node: list[int] = []
    chance: list[float] = []
    line: list[int] = []
    target: list[int] = []
    number: list[float] = []
    for i, (weights, total) in pattern_weights(chain, {chain.names[i] for i in np.flatnonzero(fanning)}, 1.0).items():
        stop[i] = weights.pop((), 0.0) / total
        for pattern, weight in weights.items():
            line += [k + len(node)] * len(pattern)
            node.append(i)
            chance.append(weight / total)
            for j, times in pattern:
                target.append(j)
                number.append(float(times))
    whose = np.concatenate([rows[single], np.array(node, np.int64)])
    place = (
        np.concatenate([np.arange(k), np.array(line, np.int64)]),
        np.concatenate([columns[single], np.array(target, np.int64)]),
    )
    sent = sparse.csr_array((np.concatenate([np.ones(k), number]), place), shape=(len(whose), n))
    order = np.argsort(whose, kind="stable")
    sent = sparse.csr_array(sent[order])
    sent.sort_indices()
    law = Offspring(chain, whose[order], np.concatenate([values[single], chance])[order], sent, stop, fanning)
    if names:
        _same_shares(law)
    return law


def _same_shares(law: Offspring) -> None:
    """Refuse a chain whose shares are not those of its counts."""
    n = len(law.stop)
    size = np.asarray(law.sent.sum(axis=1)).ravel()
    place = (law.node[law.line], law.sent.indices)
    shares = sparse.csr_array((law.chance[law.line] * law.sent.data / size[law.line], place), shape=(n, n))
    apart = np.asarray(abs(shares - law.chain.P).sum(axis=1)).ravel() + np.abs(law.stop - law.chain.stop)
    worst = int(np.argmax(apart))
    if apart[worst] > SAME:
        raise AnalysisError(
            f"the shares of {shown(law.chain.names[worst])} are not those of its send patterns: they were changed, and "
            "how its messages go together is not known any more. Ask the chain that was estimated from the counts"
        )
