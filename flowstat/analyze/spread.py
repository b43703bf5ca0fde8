"""How sure the data make an answer: its variance under the posterior, by the delta method, and an interval from it.

The send patterns of each node have a Dirichlet law, and so has the start; an answer moves with them as its gradient
says: with y_s what pattern s is worth at node i, to first order the variance is the sum over the nodes of
`(sum_s p_s y_s^2 - (sum_s p_s y_s)^2) / (n_i + prior + 1)` (Gelman et al., Bayesian Data Analysis (3rd ed.), sections
3.4 and 4.1). It is an estimate, good where the answer is nearly linear over what the data leave open.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, isfinite, sqrt
from typing import Literal

import numpy as np
from scipy import sparse, special

from flowstat.analyze.solve import Index, Vector
from flowstat.estimate.chain import Chain
from flowstat.read.patterns import parse_pattern

__all__ = ["Spread", "data_factor", "interval"]

NORMAL = 1e8
"""From this weight on, on both sides, a beta law is normal to four digits of its width, and its inverse loses more."""

FEW = 0.25
"""A beta law of fewer events than that at an end of its range piles up there."""

SKEWED = 0.5
"""From this deviation on, relative to the amount, no shape of its law is relied on."""

MOST = 2.0**60
"""More data than this is as good as never."""


@dataclass(frozen=True)
class Spread:
    """The posterior of a chain's shares, as what moves its answers.

    Attributes
    ----------
    node : (k,)
        Of each send pattern, observed or of the prior.
    share : (k,)
        The chance of the pattern at its node; sums to 1 by node.
    targets : (k, m) sparse
        Which arrows a lineage takes from it, m the arrows of the closed chain, by their shares.
    weight : (n,)
        Events at each node, and the prior's.
    runs
        How many runs say where they start; 0 where that is known.
    """

    node: Index
    share: Vector
    targets: sparse.csr_array
    weight: Vector
    runs: int

    @classmethod
    def of(cls, chain: Chain, closed: Chain, *, start_known: bool = False) -> Spread | None:
        """Return the posterior of a chain from counts; None where no trace stands behind it.

        Parameters
        ----------
        chain
            The chain.
        closed
            The same, closed: see `flowstat.analyze.closing.closed_chain`.
        start_known
            The start is stated, and not that of the traces.
        """
        counts, graph = chain.counts, chain.graph
        if counts is None or not counts.events:
            return None
        n = len(chain.names)
        rows, columns, _ = closed.arrows()
        place = {pair: k for k, pair in enumerate(zip(rows.tolist(), columns.tolist(), strict=True))}
        known = set(graph.nodes) if graph is not None else set()
        weight = np.zeros(n)
        node: list[int] = []
        amount: list[float] = []
        entries: list[tuple[int, int, float]] = []

        def add(i: int, events: float, targets: list[tuple[int, float]]) -> None:
            taken = [(place[i, j], part) for j, part in targets if (i, j) in place]
            if events > 0 and taken:
                entries.extend((len(node), at, part) for at, part in taken)
                node.append(i)
                amount.append(events)

        for i, name in enumerate(chain.names):
            seen = counts.events.get(name, 0)
            prior = (chain.prior if name in known else 0.0) if seen else 1.0
            weight[i] = seen + prior
            if graph is not None and name in known:
                add(i, prior * graph.expected_stop(name), [(n, 1.0)])
                for target, part in graph.expected_shares(name).items():
                    add(i, prior * part, [(chain.index[target], 1.0)])
            elif not seen:
                add(i, 1.0, [(n, 1.0)])
        for (name, sent), events in counts.table.items():
            found = parse_pattern(sent)
            size = sum(times for _, times in found)
            add(chain.index[name], events, [(chain.index[t], times / size) for t, times in found] or [(n, 1.0)])
        at, arrow, parts = zip(*entries, strict=True)
        shape = (len(node), len(rows))
        targets = sparse.csr_array((np.array(parts), (np.array(at), np.array(arrow))), shape=shape)
        of = np.array(node)
        runs = 0 if start_known else counts.runs
        return cls(of, np.array(amount) / weight[of], targets, weight, runs)

    def variance(self, gradient: Vector, law: Vector, worth: Vector) -> float:
        """Return the variance of an answer.

        Parameters
        ----------
        gradient : (m,)
            Its derivative with respect to each arrow's share.
        law : (n,)
            Where runs start.
        worth : (n,)
            The answer from each state; only those of the law matter.
        """
        y = self.targets @ gradient
        n = len(self.weight)
        mean = np.bincount(self.node, self.share * y, n)
        apart = np.bincount(self.node, self.share * (y - mean[self.node]) ** 2, n)
        found = float((apart / (self.weight + 1)).sum())
        some = np.flatnonzero(law > 0)
        if self.runs and len(some) > 1:
            middle = float(law[some] @ worth[some])
            found += float(law[some] @ (worth[some] - middle) ** 2) / (self.runs + 1)
        return found


def interval(value: float, deviation: float, level: float, kind: Literal["chance", "amount"]) -> tuple[float, float]:
    """Return the central interval of an answer with this posterior mean and deviation.

    Of a chance that of the beta law with both, of an amount that of a normal law of its logarithm: so neither leaves
    its range. Where the data leave so much open that such a law would pile up at an end of the range, it is as wide as
    any law with this mean and deviation asks for (Cantelli).

    Examples
    --------
    >>> [round(x, 3) for x in interval(0.9, 0.03, 0.95, "chance")]
    [0.834, 0.951]
    """
    if not deviation or not isfinite(value) or value <= 0 or (kind == "chance" and value >= 1):
        return value, value
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    most = inf if kind == "amount" else 1.0
    # What any law with this mean and deviation allows, at least.
    wide = deviation * sqrt((1 + level) / (1 - level))
    if kind == "amount":
        reach = min(700.0, float(special.ndtri(tails[1])) * deviation / value)
        low, high = value * exp(-reach), value * exp(reach)
        skewed = deviation > SKEWED * value
    else:
        weight = value * (1 - value) / deviation**2 - 1
        if weight <= 0:
            return 0.0, 1.0
        ends = value * weight, (1 - value) * weight
        if min(ends) > NORMAL:
            low, high = value + special.ndtri(tails) * deviation
        else:
            low, high = special.betaincinv(*ends, tails)
        skewed = min(ends) < FEW
    if skewed:
        low, high = min(low, value - wide), max(high, value + wide)
    # The middle half of a skewed law need not have its mean in it.
    return max(0.0, min(value, float(low))), min(most, max(value, float(high)))


def data_factor(value: float, deviation: float, bound: float, level: float, kind: Literal["chance", "amount"]) -> float:
    """Return how many times the data would tell an answer from a bound, if it stays as it is; inf if none would.

    Examples
    --------
    >>> round(data_factor(0.9, 0.03, 0.88, 0.95, "chance"))
    9
    """

    def told(factor: float) -> bool:
        low, high = interval(value, deviation / sqrt(factor), level, kind)
        return low > bound or high < bound

    if value == bound:
        return inf
    most = 1.0
    while not told(most):
        most *= 2
        if most > MOST:
            return inf
    least = most / 2
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (least, middle) if told(middle) else (middle, most)
    return most
