"""Intervals of the probabilities of flows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowstat.analyze.gradients import Return, returned
from flowstat.analyze.interval import Gradient
from flowstat.analyze.search import Index, Mask, Vector
from flowstat.estimate.chain import Chain, Start, start_law

__all__ = ["LEAST", "Followed"]

LEAST = 1e-200
"""Flows that are less probable have no interval."""


class Followed:
    """A flow, to be followed in a chain with any shares.

    Parameters
    ----------
    label : (n,)
        The class of each node.
    nodes
        The flow's nodes.
    trap
        The nodes of the closed class that it ends in; None if it stops at its last node.

    Notes
    -----
    With G_k the visits to v_k without the nodes before it, the probability is `alpha(v_0) prod G_k p(v_k, v_k+1)` and
    the chance to end from the last node (see `flowstat.flows`); `d log G_k = d r_k / (1 - r_k)`, r_k being the chance
    to come back to v_k without the nodes before it.
    """

    def __init__(self, chain: Chain, start: Start, label: Index, nodes: Sequence[str], trap: Index | None) -> None:
        self.chain, self.start, self.label, self.trap = chain, start, label, trap
        self.path = [chain.index[name] for name in nodes]

    def law(self, chain: Chain) -> Vector:
        """Return the start law of a chain with other shares."""
        return chain.start if self.start is None else start_law(self.chain, self.start)

    def returns(self, chain: Chain) -> list[Return | None]:
        """Return for each node of the flow the chance to come back without those before it; None if it is 0."""
        found: list[Return | None] = []
        before = np.zeros(len(chain.names), bool)
        for node in self.path:
            states = np.flatnonzero((self.label == self.label[node]) & ~before)
            again = len(states) > 1 or chain.P[node, node] > 0
            found.append(returned(chain, states, node) if again else None)
            before[node] = True
        return found

    def taken(self, chain: Chain, k: int) -> tuple[slice, Mask]:
        """Return where the arrows of the flow's k-th node are, and which of them it goes on by."""
        node = self.path[k]
        span = slice(int(chain.P.indptr[node]), int(chain.P.indptr[node + 1]))
        if k + 1 < len(self.path):
            return span, chain.P.indices[span] == self.path[k + 1]
        if self.trap is not None:
            return span, np.isin(chain.P.indices[span], self.trap)
        return span, np.zeros(span.stop - span.start, bool)

    def chance(self, chain: Chain) -> float:
        """Return the probability of the flow."""
        chance = float(self.law(chain)[self.path[0]])
        for k, again in enumerate(self.returns(chain)):
            span, taken = self.taken(chain, k)
            stops = k + 1 == len(self.path) and self.trap is None
            onward = chain.stop[self.path[k]] if stops else chain.P.data[span][taken].sum()
            chance *= float(onward) / (1.0 if again is None else again.never)
        return chance

    def gradient(self) -> Gradient:
        """Return the gradient of the probability."""
        chain = self.chain
        n, law = len(chain.names), self.law(chain)
        arrows, ends, starts = np.zeros(chain.P.nnz), np.zeros(n), np.zeros(n)
        if self.start is None:
            starts[self.path[0]] = 1 / law[self.path[0]]
        for k, again in enumerate(self.returns(chain)):
            if again is not None:
                arrows += again.gradient.arrows / again.never
            span, taken = self.taken(chain, k)
            if k + 1 == len(self.path) and self.trap is None:
                ends[self.path[k]] += 1 / chain.stop[self.path[k]]
            else:
                arrows[span] += np.where(taken, 1 / float(chain.P.data[span][taken].sum()), 0.0)
        chance = self.chance(chain)
        return Gradient(chance * arrows, chance * ends, chance * starts)
