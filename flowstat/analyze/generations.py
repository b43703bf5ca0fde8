"""The messages of a run by generation: how many there are, how much that varies, and whether any are left."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.aim import chance
from flowstat.analyze.derived import whole
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.fixed_point import Functions
from flowstat.analyze.offspring import Offspring, Source, chain_of, offspring
from flowstat.analyze.search import Vector
from flowstat.analyze.solve import Solved
from flowstat.estimate.chain import Start, start_law
from flowstat.read.graph import Graph
from flowstat.results import Result, Row

__all__ = ["Generation", "Generations", "generations", "offspring_variance", "variance_from"]

MOST = 1e140
"""Larger generations than this have no variance that is a floating-point number."""

CELLS = 20_000_000
"""Up to how many means, of nodes times generations, are kept."""


class Generation(NamedTuple):
    """The messages of one generation: the injected one is generation 0, what its event sends is generation 1.

    `alive` is the chance that there are any. `variance` is that of their number.
    """

    generation: int
    messages: float
    variance: float
    deviation: float
    alive: float
    error_bound: float = 0.0
    variance_bound: float = 0.0
    alive_bound: float = 0.0


@dataclass(frozen=True, eq=False)
class Generations(Result):
    """The messages of a run by generation.

    `by_node`, (generations, n), has the mean number of messages to each node; None where that would be too large. No
    entry is off by more than the generation's `relative_bound` of itself.
    """

    title: ClassVar[str] = "Generations: the messages of a run, wave by wave"
    columns: ClassVar[tuple[str, ...]] = Generation._fields
    beside: ClassVar[tuple[str, ...]] = ("variance", "error_bound", "variance_bound", "alive_bound")
    generations: tuple[Generation, ...]
    nodes: tuple[str, ...] = field(repr=False)
    by_node: npt.NDArray[np.float64] | None = field(repr=False)
    relative_bound: tuple[float, ...] = field(repr=False)
    cut: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the means may be off, proven."""
        return max(g.error_bound for g in self.generations)

    def rows(self) -> list[Row]:
        """Return one row a generation."""
        return [g._asdict() for g in self.generations]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns are, and where the table was cut."""
        said = ["messages: how many a run has in that generation on average; alive: how likely it has any."]
        if self.cut:
            said.append("Later generations are too large for numbers.")
        return tuple(said)


def generations(
    source: Source, graph: Graph | None = None, start: Start = None, *, horizon: int = 20, prior: float = 1.0
) -> Generations:
    """Find how many messages a run has in each generation.

    Parameters
    ----------
    source, graph, prior
        See `flowstat.analyze.amplification.amplification`.
    start
        A node or a law over nodes; the chain's start law if not given.
    horizon
        The last generation, at least 0.

    Returns
    -------
    Generations
        Means and variances of the numbers of messages, and the chance that there are any.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If the horizon is no whole number of at least 0, or shares of a node that fans out were changed.

    Notes
    -----
    With M the mean matrix, the mean is `alpha M^k`; the variance from a node is that of the expected size over what its
    event sends, and the expected variance of what is sent (Harris (1963), chapter II; Athreya and Ney (1972), chapter
    V); the chance to be alive is the k-th iterate of the generating functions. One pass over the patterns for each
    generation, of which nothing is subtracted but in deviations.

    Examples
    --------
    >>> from flowstat.estimate.counts import Counts
    >>> found = generations(Counts({("a", "a a"): 1, ("a", ""): 3}, {"a": 1}), horizon=2)
    >>> [(g.messages, g.variance, round(g.alive, 12)) for g in found.generations]
    [(1.0, 0.0, 1.0), (0.5, 0.75, 0.25), (0.25, 0.5625, 0.109375)]
    """
    horizon = whole("a horizon", horizon, 0)
    chain = chain_of(source, graph, prior)
    begin = start_law(chain, start)
    law = offspring(chain)
    n = len(begin)
    M, back = law.mean, sparse.csr_array(law.mean.T)
    g = Functions(law, np.arange(n))
    most = max(int(np.diff(each.indptr).max(initial=0)) for each in (M, back, law.sent))
    unit = 1.01 * ((most + 6) * UNIT + law.unit)
    z: Vector = begin.copy()
    e = np.ones(n)
    V = Solved(np.zeros(n), np.zeros(n))
    y = np.ones(n)
    found: list[Generation] = []
    kept: list[npt.NDArray[np.float64]] = []
    relative: list[float] = []
    cut = False
    for k in range(horizon + 1):
        off = 1.01 * (k * unit + (n + 3) * UNIT)
        mean = float(begin @ e)
        variance = variance_from(begin, Solved(e, k * unit * e), V)
        alive = float(begin @ y)
        alive_off = 1.01 * alive * (k * g.unit + (n + 3) * UNIT) if k else (n + 3) * UNIT
        spread, doubt = float(variance.values), float(variance.bound)
        if spread <= doubt:
            # What may be rounding is not shown as a deviation.
            spread, doubt = 0.0, spread + doubt
        row = Generation(k, mean, spread, sqrt(spread), chance(alive), mean * off, doubt, alive_off)
        found.append(row)
        relative.append(off)
        if (k + 1) * n <= CELLS:
            kept.append(z)
        if k == horizon:
            break
        sigma = offspring_variance(law, Solved(e, k * unit * e))
        V = Solved(sigma.values + M @ V.values, sigma.bound + M @ V.bound + unit * (sigma.values + M @ V.values))
        z, e, y = np.asarray(back @ z), np.asarray(M @ e), g(y)
        if not e.max() < MOST:
            cut = True
            break
    means = np.stack(kept) if len(kept) == len(found) else None
    return Generations(tuple(found), chain.names, means, tuple(relative), cut)


def offspring_variance(law: Offspring, m: Solved) -> Solved:
    """Return each node's variance, over its patterns, of what their messages expect in all: m each; (n,) or (n, q)."""
    D = _by_node(law)
    many = m.values.ndim > 1
    chance = law.chance[:, None] if many else law.chance
    stop = law.stop[:, None] if many else law.stop
    S, E = law.sent @ m.values, law.mean @ m.values
    longest = max(int(np.diff(law.sent.indptr).max(initial=0)), int(np.diff(law.mean.indptr).max(initial=0)))
    unit = 1.01 * ((longest + 4) * UNIT + law.unit)
    S_off, E_off = law.sent @ m.bound + unit * S, law.mean @ m.bound + unit * E
    apart = np.abs(S - E[law.node])
    off = S_off + E_off[law.node] + UNIT * apart
    values = D @ (chance * apart**2) + stop * E**2
    bound = D @ (chance * off * (2 * apart + off)) + stop * E_off * (2 * E + E_off)
    most = int(np.diff(D.indptr).max(initial=0)) + 8
    return Solved(values, 1.01 * (bound + (most * UNIT + law.unit) * values))


def _by_node(law: Offspring) -> sparse.csr_array:

    k = len(law.node)
    indptr = np.searchsorted(law.node, np.arange(len(law.stop) + 1))
    return sparse.csr_array((np.ones(k), np.arange(k), indptr), shape=(len(law.stop), k))


def variance_from(start: Vector, mean: Solved, variance: Solved) -> Solved:
    """Return the variance of runs from a start law, a number or (q,): that from each node, and that between them."""
    some = np.flatnonzero(start)
    weight = start[some] if mean.values.ndim == 1 else start[some, None]
    m, off = mean.values[some], mean.bound[some]
    whole = (weight * m).sum(axis=0)
    whole_off = (weight * off).sum(axis=0) + (len(some) + 3) * UNIT * whole
    apart = np.abs(m - whole)
    doubt = off + whole_off + UNIT * (m + whole)
    if len(some) == 1 and start[some[0]] == 1:
        apart, doubt = np.zeros_like(apart), np.zeros_like(doubt)
    values = (weight * (variance.values[some] + apart**2)).sum(axis=0)
    bound = (weight * (variance.bound[some] + doubt * (2 * apart + doubt))).sum(axis=0)
    return Solved(np.asarray(values), 1.01 * np.asarray(bound + (len(some) + 6) * UNIT * values))
