"""The two sides of a comparison: chains over the same nodes, what is known of their shares, and what a change moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from flowstat.analyze.bounded import closed_states, exact, minus, plus, row_sums, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.offspring import offspring
from flowstat.analyze.solve import Solved, Solver, Vector
from flowstat.estimate.chain import Chain, Start, estimate, start_law
from flowstat.estimate.counts import Counts
from flowstat.read.graph import Graph
from flowstat.read.patterns import parse_pattern

__all__ = [
    "CHANCES",
    "START",
    "AnswerKind",
    "Known",
    "Side",
    "Table",
    "Worth",
    "apart",
    "limits",
    "moved",
    "two_sides",
]

Index = npt.NDArray[np.int64]

START = "(start)"
"""The name of the law by which runs start, among the nodes."""

AnswerKind = Literal["outcome", "events", "loop", "rounds", "gain", "flow"]

CHANCES = frozenset(("outcome", "loop", "flow"))
"""Which kinds of answers are chances."""

Table = dict[str, tuple[dict[str, int], dict[str, int]]]
"""node -> send pattern -> events, before and after."""


@dataclass(frozen=True)
class Known:
    """An answer of one side: its value, how far that may be off, and its posterior variance (None: not known)."""

    value: float
    bound: float
    variance: float | None


@dataclass(frozen=True)
class Worth:
    """An answer f of a chain with what it is worth to be, to end: `f = law x`, `x = P x + stop ends` outside of traps.

    Attributes
    ----------
    x : (n,)
        What is expected from each node on.
    ends : (n,)
        What it brings to end there.
    """

    x: Solved
    ends: Vector


class Side:
    """A chain with its start law, solved, and the posterior of its shares.

    What an answer depends on is a gradient over slots: the chain's arrows in their order, then the end of each node.

    Parameters
    ----------
    chain
        With its start law.
    given
        Whether the start law is given, and not estimated.
    wide
        The same side where everything that only the other one has was seen once more: variances are taken from it, so
        that what was never seen is not taken for impossible. None for such a side itself.
    """

    def __init__(self, chain: Chain, given: bool, wide: Side | None = None) -> None:
        self.chain = chain
        self.given = given
        self.wide = wide or self
        self.n = len(chain.names)
        self.solver = Solver(chain.P, chain.stop)
        self.rows, self.columns, self.shares = chain.arrows()
        self.closed = closed_states(self.solver)

    @cached_property
    def visits(self) -> Solved:
        """Expected visits, 0 in classes that are never left, (n,)."""
        found, _ = self.solver.visits(self.chain.start)
        return Solved(np.where(self.closed, 0.0, found.values), np.where(self.closed, 0.0, found.bound))

    @cached_property
    def traps(self) -> frozenset[frozenset[int]]:
        """The classes that nothing leaves."""
        return frozenset(frozenset(states.tolist()) for states in self.solver.closed)

    @cached_property
    def mean(self) -> sparse.csr_array:
        """Messages to each node per event at each node, (n, n)."""
        return offspring(self.chain).mean

    def slots(self, weights: Vector, onward: Vector, ends: Vector | float = 0.0) -> Vector:
        """Return the gradient `w_i y_j` over arrows, `w_i ends_i` over ends; a column for each answer."""
        return np.concatenate([weights[self.rows] * onward[self.columns], weights * ends])

    @cached_property
    def _posterior(self) -> tuple[sparse.csr_array, sparse.csr_array, Index, Vector]:
        """Return what each send pattern is made of: shares of slots, messages in slots, its node, its weight."""
        chain, m = self.chain, self.chain.P.nnz
        slot = {pair: k for k, pair in enumerate(zip(self.rows.tolist(), self.columns.tolist(), strict=True))}
        at: list[int] = []
        where: list[int] = []
        share: list[float] = []
        number: list[float] = []
        node: list[int] = []
        weight: list[float] = []

        def add(i: int, targets: tuple[tuple[int, int], ...], w: float) -> None:
            size = sum(times_ for _, times_ in targets)
            for j, times_ in targets:
                at.append(len(node))
                where.append(slot[i, j])
                share.append(times_ / size)
                number.append(times_)
            if not targets:
                at.append(len(node))
                where.append(m + i)
                share.append(1.0)
                number.append(0.0)
            node.append(i)
            weight.append(w)

        counts, graph = chain.counts or Counts(), chain.graph
        for (name, sent), times_seen in counts.table.items():
            add(chain.index[name], tuple((chain.index[t], k) for t, k in parse_pattern(sent)), float(times_seen))
        for name in graph.nodes if graph is not None else ():
            prior = chain.prior if counts.events.get(name, 0) else 1.0
            if prior and graph is not None:
                for target, p in graph.expected_shares(name).items():
                    if p:
                        add(chain.index[name], ((chain.index[target], 1),), prior * p)
                if graph.expected_stop(name):
                    add(chain.index[name], (), prior * graph.expected_stop(name))
        shape = (len(node), m + self.n)
        return (
            sparse.csr_array((share, (at, where)), shape=shape),
            sparse.csr_array((number, (at, where)), shape=shape),
            np.array(node, np.int64),
            np.array(weight),
        )

    def variance(self, gradient: Vector, begin: Vector | None = None, *, messages: bool = False) -> Vector:
        """Return the posterior variance of answers by the delta method.

        Parameters
        ----------
        gradient : (slots,) or (slots, k)
        begin : (n,) or (n, k)
            The gradient over the start law, if that is not given.
        messages
            Whether the slots are mean numbers of messages, and not shares.

        Notes
        -----
        Nodes are independent, each a Dirichlet law of weight A over its send patterns: with y what an event of a
        pattern is worth, the variance is the sum over nodes of `(E y^2 - (E y)^2) / (A + 1)` (Gelman et al., Bayesian
        Data Analysis (3rd ed.), appendix A). So is that of the start law, without a prior.
        """
        shares, numbers, node, weight = self._posterior
        y = (numbers if messages else shares) @ gradient.reshape(len(gradient), -1)
        whole = np.bincount(node, weight, self.n)
        p = weight / whole[node]
        found = np.zeros(y.shape[1])
        for k in range(y.shape[1]):
            mean = np.bincount(node, p * y[:, k], self.n)
            spread = np.bincount(node, p * (y[:, k] - mean[node]) ** 2, self.n)
            found[k] = float((spread / (whole + 1)).sum())
        counts = self.chain.counts
        if begin is not None and not self.given and counts is not None and counts.starts:
            x = begin.reshape(self.n, -1)
            off = x - self.chain.start @ x
            found += (self.chain.start @ off**2) / (counts.runs + 1)
        return found.reshape(gradient.shape[1:])


def two_sides(before: Counts, after: Counts, graph: Graph | None, prior: float, start: Start) -> tuple[Side, Side]:
    """Estimate both chains, over the nodes of both, in one order."""
    seen = [before, after, _seen_once(before, after), _seen_once(after, before)]
    chains = [estimate(counts, graph, prior) for counts in seen]
    names = tuple(dict.fromkeys(name for chain in chains for name in chain.names))
    wide = [_widened(chain, names) for chain in chains]
    all_ = [replace(chain, start=start_law(chain, start)) for chain in wide]
    given = start is not None
    return Side(all_[0], given, Side(all_[2], given)), Side(all_[1], given, Side(all_[3], given))


def _seen_once(counts: Counts, other: Counts) -> Counts:
    """Return counts with what only the other ones have as if it had been seen once."""
    table = dict.fromkeys(other.table.keys() - counts.table.keys(), 1) | dict(counts.table)
    starts = dict.fromkeys(other.starts.keys() - counts.starts.keys(), 1) | dict(counts.starts)
    return replace(counts, table=dict(sorted(table.items())), starts=dict(sorted(starts.items())))


def _widened(chain: Chain, names: tuple[str, ...]) -> Chain:
    """Return a chain with more nodes, to which nothing leads; of these nothing is known, and runs would stop there."""
    if names == chain.names:
        return chain
    index = {name: k for k, name in enumerate(names)}
    place = np.array([index[name] for name in chain.names])
    rows, columns, shares = chain.arrows()
    n = len(names)
    P = sparse.csr_array((shares, (place[rows], place[columns])), shape=(n, n))
    P.sort_indices()
    stop, start = np.ones(n), np.zeros(n)
    stop[place], start[place] = chain.stop, chain.start
    return replace(chain, names=names, P=P, stop=stop, start=start)


def moved(before: Side, after: Side, old: Worth, new: Worth) -> tuple[Solved, Solved] | None:
    """Return how much of an answer's change is due to each node, (n,), and to the start law, with bounds.

    None where runs are trapped at other nodes than before.

    Notes
    -----
    With f = alpha N g, `f' - f = (alpha' - alpha) x' + sum_i v_i [sum_j (p'_ij - p_ij) x'_j + (s'_i - s_i) e_i]`
    exactly, v the visits before and x' what is expected after (the resolvent identity; Kemeny and Snell, Finite Markov
    Chains (1960), section 3.2, for N), and likewise with the sides exchanged. What is returned is the mean of both:
    the parts add up to the change, and each is gradient times change between the two.
    """
    if before.traps != after.traps:
        return None
    change = sparse.csr_array(after.chain.P - before.chain.P)
    rows = np.repeat(np.arange(before.n), np.diff(change.indptr))
    shares = Solved(change.data, 2 * UNIT * np.abs(change.data))
    stops = minus(exact(after.chain.stop), exact(before.chain.stop))
    begin = minus(exact(after.chain.start), exact(before.chain.start))
    half = exact(np.asarray(0.5))
    nodes, starts = None, None
    for weights, worth in ((before.visits, new), (after.visits, old)):
        onward = row_sums(rows, times(shares, worth.x.at(change.indices.astype(np.int64))), before.n)
        each = times(weights, plus(onward, times(stops, exact(worth.ends))))
        first = times(begin, worth.x)
        nodes = times(half, each) if nodes is None else plus(nodes, times(half, each))
        starts = times(half, first) if starts is None else plus(starts, times(half, first))
    assert nodes is not None
    assert starts is not None
    return nodes, starts


def limits(value: float, variance: float, level: float, *, chance: bool) -> tuple[float, float]:
    """Return a credible interval of an answer by its mean and variance: of a beta law for a chance, else normal."""
    if not variance > 0:
        return value, value
    if chance and 0 < value < 1:
        weight = value * (1 - value) / variance - 1
        if 0 < weight * min(value, 1 - value) < 1e8:
            tails = np.array([(1 - level) / 2, (1 + level) / 2])
            low, high = special.betaincinv(value * weight, (1 - value) * weight, tails)
            return float(low), float(high)
    off = float(special.ndtri((1 + level) / 2)) * sqrt(variance)
    return (max(0.0, value - off), min(1.0, value + off)) if chance else (value - off, value + off)


def apart(
    old: float, old_limits: tuple[float, float], new: float, new_limits: tuple[float, float]
) -> tuple[float, float]:
    """Return the interval of a difference of two independent numbers by those of each.

    Source: Zou and Donner, Statistics in Medicine 27 (2008): distances to the limits add up as squares do.

    Examples
    --------
    >>> apart(0.5, (0.2, 0.9), 0.75, (0.35, 0.95))
    (-0.3156854249492381, 0.610555127546399)
    """
    difference = new - old
    below = sqrt((new - new_limits[0]) ** 2 + (old_limits[1] - old) ** 2)
    above = sqrt((new_limits[1] - new) ** 2 + (old - old_limits[0]) ** 2)
    return difference - below, difference + above
