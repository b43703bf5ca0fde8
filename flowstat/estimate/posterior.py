"""The posterior that a chain's shares come from: for each node, a Dirichlet law of its send patterns."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.estimate.chain import Chain
from flowstat.read.patterns import parse_pattern

__all__ = ["Drawn", "Pattern", "Posterior", "pattern_weights", "posterior_of"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

Pattern = tuple[tuple[int, int], ...]
"""A send pattern by positions: (target, how many messages), sorted; empty: it sends nothing."""

N = TypeVar("N", float, Fraction)

SAME = 1e-9
"""How far the shares of a posterior may be from those of the chain: further, they were changed by hand."""

LEAST = 1e-300
"""A way that is drawn has at least this chance: no arrow vanishes."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Dirichlet laws of send patterns, all nodes together; m is the number of arrows of the chain.

    Attributes
    ----------
    chain
        The chain of its means.
    node : (k,)
        Of each send pattern, whose it is; ascending.
    weight : (k,)
        Its weight in events: those seen, and its part of the prior.
    total : (n,)
        The weights of each node together; 0 where the shares were stated, and are certain.
    events : (k,)
        How many of them were seen.
    shares, messages : (k, m + n) sparse
        What each pattern adds to the share of every arrow (in the order of `chain.arrows`) and of every end; and how
        many messages it sends along each arrow.
    starts : (n,)
        How many runs began at each node; their law is a Dirichlet law, too.
    """

    chain: Chain
    node: Index
    weight: Vector
    total: Vector
    events: Vector
    shares: sparse.csr_array
    messages: sparse.csr_array
    starts: Vector

    @property
    def chance(self) -> Vector:
        """The mean chance of each pattern, (k,)."""
        chance: Vector = self.weight / self.total[self.node]
        return chance

    def apart(self, worth: Vector) -> Vector:
        """Return what each pattern is worth beside its node's mean, (k,)."""
        n = len(self.total)
        mean = np.bincount(self.node, self.chance * worth, n)
        apart: Vector = worth - mean[self.node]
        return apart

    def spread(self, worth: Vector) -> Vector:
        """Return the variance of `sum_s p_s worth_s`, summed over nodes, in parts: that of each pattern, (k,).

        Notes
        -----
        The variance of a linear form of a Dirichlet law of total weight A is `sum_s p_s (y_s - y)^2 / (A + 1)`, y being
        the mean of the y_s (Gelman et al., Bayesian Data Analysis (3rd ed.), appendix A).
        """
        part: Vector = self.chance * self.apart(worth) ** 2 / (self.total[self.node] + 1)
        return part

    def moved(self, change: Vector) -> Drawn:
        """Return the chain with the chances of the patterns changed by so much, (k,); none comes below 0."""
        chance = np.maximum(self.chance + change, LEAST)
        return self._with(chance / np.bincount(self.node, chance, len(self.total))[self.node], self.chain.start)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Return a chain drawn from the posterior."""
        n = len(self.total)
        chance = _dirichlet(self.node, self.weight, n, rng)
        start = self.chain.start
        begun = np.flatnonzero(self.starts > 0)
        if len(begun) > 1:
            start = np.zeros(n)
            start[begun] = _dirichlet(np.zeros(len(begun), np.int64), self.starts[begun], 1, rng)
        return self._with(chance, start)

    def _with(self, chance: Vector, start: Vector) -> Drawn:
        chain = self.chain
        P, m = chain.P, chain.P.nnz
        certain = self.total == 0
        of_certain = certain[chain.arrows()[0]]
        shares, sent = chance @ self.shares, chance @ self.messages
        made, mean = (
            sparse.csr_array((np.where(of_certain, P.data, each[:m]), P.indices, P.indptr), shape=P.shape)
            for each in (shares, sent)
        )
        return Drawn(chain.names, made, np.where(certain, chain.stop, shares[m:]), start, graph=chain.graph, mean=mean)


@dataclass(frozen=True, eq=False)
class Drawn(Chain):
    """A chain from a posterior; `mean`, (n, n), is how many messages an event sends along each arrow on average."""

    mean: sparse.csr_array | None = None


def posterior_of(chain: Chain) -> Posterior | None:
    """Return the posterior of a chain that was estimated from traces; None for any other.

    Nodes whose shares are not those of the counts, as they were changed since, count as certain.
    """
    counts = chain.counts
    if counts is None or not counts.table:
        return None
    n, m = len(chain.names), chain.P.nnz
    found = pattern_weights(chain, set(chain.index), 1.0)
    total = np.zeros(n)
    known_by = {(chain.index.get(name), _pattern(chain, sent)): float(n) for (name, sent), n in counts.table.items()}
    node: list[int] = []
    weight: list[float] = []
    seen: list[float] = []
    line: list[int] = []
    sent: list[int] = []
    number: list[float] = []
    for i in sorted(found):
        weights, total[i] = found[i]
        for pattern, events in weights.items():
            seen.append(known_by.get((i, pattern), 0.0))
            for j, times in pattern or ((n, 1),):
                line.append(len(node))
                sent.append(j)
                number.append(times)
            node.append(i)
            weight.append(events)
    whose, value = np.array(node, np.int64), np.array(weight, np.float64)
    k, of, to = len(whose), np.array(line, np.int64), np.array(sent, np.int64)
    times_sent = np.array(number, np.float64)
    rows, columns, _ = chain.arrows()
    known = rows * (n + 1) + columns
    wanted = whose[of] * (n + 1) + to
    place = np.minimum(np.searchsorted(known, wanted), max(m - 1, 0))
    ends = to == n
    there = ends | ((known[place] == wanted) if m else np.zeros(len(of), bool))
    place = np.where(ends, m + whose[of], place)
    size = np.bincount(of, times_sent, k)
    shape = (k, m + n)
    part, own = (place[there], whose[of][there]), of[there]
    shares = sparse.csr_array((times_sent[there] / size[own], (own, part[0])), shape=shape)
    messages = sparse.csr_array((np.where(ends, 0.0, times_sent)[there], (own, part[0])), shape=shape)
    # A node whose shares are not those of its patterns has them from somebody who is certain of them.
    both = (value / total[whose]) @ shares
    off = np.abs(np.where(total[rows] > 0, both[:m] - chain.P.data, 0.0))
    apart = np.bincount(rows, off, n) + np.where(total > 0, np.abs(both[m:] - chain.stop), 0.0)
    apart += np.bincount(whose[of][~there], minlength=n)
    certain = apart > SAME
    total[certain] = 0.0
    keep = np.flatnonzero(~certain[whose])
    starts = np.array([float(counts.starts.get(name, 0)) for name in chain.names])
    if starts.sum() and np.abs(starts / starts.sum() - chain.start).max() > SAME:
        starts[:] = 0.0
    return Posterior(
        chain,
        whose[keep],
        value[keep],
        total,
        np.array(seen)[keep],
        sparse.csr_array(shares[keep]),
        sparse.csr_array(messages[keep]),
        starts,
    )


def pattern_weights(chain: Chain, nodes: set[str], one: N) -> dict[int, tuple[dict[Pattern, N], N]]:
    """Return, of some nodes, the weight of each send pattern in events, and of all together.

    They are numbers of the kind that `one` is. A node that was never seen has the prior with the weight 1.
    """
    found: dict[int, tuple[dict[Pattern, N], N]] = {}
    counts, graph = chain.counts, chain.graph
    if counts is None:
        return found
    known = frozenset(graph.nodes) if graph is not None else frozenset()
    for name in nodes:
        events = counts.events.get(name, 0)
        prior = type(one)(chain.prior) if events else one
        weights: dict[Pattern, N] = {}
        total = one * events
        if graph is not None and name in known and prior:
            total += prior
            weights[()] = prior * type(one)(graph.expected_stop(name))
            for target, share in graph.expected_shares(name).items():
                if target in chain.index:
                    weights[((chain.index[target], 1),)] = prior * type(one)(share)
        if total:
            found[chain.index[name]] = weights, total
    for (name, sent), events in counts.table.items():
        if name not in nodes or name not in chain.index:
            continue
        pattern = _pattern(chain, sent)
        if pattern is None:
            continue
        weights = found[chain.index[name]][0]
        weights[pattern] = weights.get(pattern, 0 * one) + one * events
    return {i: ({p: w for p, w in weights.items() if w}, total) for i, (weights, total) in found.items()}


def _pattern(chain: Chain, sent: str) -> Pattern | None:
    """Return a send pattern by positions; None if a node is not in the chain."""
    targets = parse_pattern(sent)
    if any(target not in chain.index for target, _ in targets):
        return None
    return tuple(sorted((chain.index[target], times) for target, times in targets))


def _dirichlet(group: Index, weight: Vector, groups: int, rng: np.random.Generator) -> Vector:
    """Draw a Dirichlet law for each group.

    In logarithms: a gamma variable of a small weight a is one of weight a + 1 times `U^(1/a)`, which may be below all
    floats (Marsaglia and Tsang, ACM Transactions on Mathematical Software 26 (2000), section 6).
    """
    logs = np.log(rng.standard_gamma(weight + 1)) + np.log(rng.random(len(weight))) / weight
    most = np.full(groups, -np.inf)
    np.maximum.at(most, group, logs)
    drawn = np.maximum(np.exp(logs - most[group]), LEAST)
    chance: Vector = drawn / np.bincount(group, drawn, groups)[group]
    return chance
