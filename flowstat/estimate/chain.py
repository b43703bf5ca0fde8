"""The Markov chain of one lineage: where a message goes next, and where it stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.errors import ChainError
from flowstat.estimate.chain_matrix import clean, labels_of, square, stops_of
from flowstat.estimate.counts import Counts
from flowstat.read.graph import Graph
from flowstat.read.patterns import parse_pattern
from flowstat.read.words import shown

if TYPE_CHECKING:
    import networkx as nx

    from flowstat.estimate.posterior import Posterior

__all__ = ["Chain", "Start", "estimate"]

Vector = npt.NDArray[np.float64]
Start = str | Mapping[str, float] | None
"""Where runs start: a node, a law over nodes, or None for the chain's own start law."""

ROW_SLACK = 1e-9
"""How far a row may be from summing to 1 through rounding."""

END = "(end)"


@dataclass(frozen=True, eq=False)
class Chain:
    """A Markov chain whose states are nodes; runs may stop at any of them.

    Attributes
    ----------
    names
        The states, in order: the graph's nodes, then undeclared ones.
    P : (n, n) sparse array
        Chance that the next event is at j, given one at i.
    stop : (n,) array
        Chance that nothing follows an event at i; `P.sum(1) + stop == 1`.
    start : (n,) array
        Law of a run's first node; sums to 1.
    counts, graph, prior
        What it was estimated from; None, None and 0 for a chain from a matrix.
    """

    names: tuple[str, ...]
    P: sparse.csr_array
    stop: Vector
    start: Vector
    counts: Counts | None = field(default=None, repr=False)
    graph: Graph | None = field(default=None, repr=False)
    prior: float = 0.0

    def __post_init__(self) -> None:
        n = len(self.names)
        if not n:
            raise ChainError("a chain needs at least one node")
        if self.P.shape != (n, n) or self.stop.shape != (n,) or self.start.shape != (n,):
            raise ChainError(f"{n} names, but P is {self.P.shape}, stop {self.stop.shape}, start {self.start.shape}")
        if len(self.index) != n:
            twice = next(name for k, name in enumerate(self.names) if self.index[name] != k)
            raise ChainError(f"the name {shown(twice)!r} is there twice")
        if END in self.index:
            raise ChainError(f"no node can be called {END!r}: that is where runs stop")
        for what, values in (("P", self.P.data), ("stop", self.stop), ("start", self.start)):
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ChainError(f"{what} has entries that are negative, infinite or no numbers")
        sums = np.asarray(self.P.sum(axis=1)).ravel() + self.stop
        worst = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[worst] - 1) > ROW_SLACK:
            where = f"the row of {shown(self.names[worst])!r}"
            raise ChainError(f"{where} sums to {sums[worst]:.17g}, off from 1 by {sums[worst] - 1:.3g}")
        if abs(self.start.sum() - 1) > ROW_SLACK:
            raise ChainError(f"the start law sums to {self.start.sum():.17g}, not to 1")

    @cached_property
    def index(self) -> dict[str, int]:
        """Name -> position."""
        return {name: k for k, name in enumerate(self.names)}

    @classmethod
    def from_matrix(
        cls,
        P: Any,
        names: Sequence[str] | None = None,
        start: Start = None,
        *,
        stop: npt.ArrayLike | None = None,
    ) -> Chain:
        """Make a chain from a matrix.

        Parameters
        ----------
        P : (n, n) array-like or sparse
            Transition probabilities, real; they are copied. A state with `P[i, i] == 1` is a closed class.
        names
            The states' names, texts; `"0"`, `"1"`, ... if not given.
        start
            Where runs start; even over the states that nothing else leads to if not given.
        stop : (n,)
            Chance that a run stops at each state; zero if not given.

        Raises
        ------
        ChainError
            If shapes do not fit, an entry is no probability, a name no text, or a row does not sum to 1 (it says by how
            much).

        Examples
        --------
        >>> chain = Chain.from_matrix([[0.5, 0.5], [0, 1]], ["try", "done"])
        >>> chain.start
        array([1., 0.])
        """
        matrix = square(P)
        n = matrix.shape[0]
        chain = cls(labels_of(names, n), matrix, stops_of(stop, n), _even_over_sources(matrix))
        return chain if start is None else replace(chain, start=start_law(chain, start))

    def closed(self) -> tuple[tuple[str, ...], sparse.csr_array]:
        """Return the names and the row-stochastic matrix with one more state, `(end)`, where runs stop."""
        n = len(self.names)
        end = sparse.csr_array(np.concatenate([self.stop, [1.0]])[:, None])
        left = sparse.vstack([self.P, sparse.csr_array((1, n))], format="csr")
        return (*self.names, END), clean(sparse.csr_array(sparse.hstack([left, end], format="csr")))

    def to_networkx(self) -> nx.DiGraph[str]:
        """Return a directed graph: nodes with `stop` and `start`, edges with `share`."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        for k, name in enumerate(self.names):
            graph.add_node(name, stop=float(self.stop[k]), start=float(self.start[k]))
        for i, j, p in zip(*self.arrows(), strict=True):
            graph.add_edge(self.names[i], self.names[j], share=float(p))
        return graph

    def arrows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Vector]:
        """Return source positions, target positions and shares of the positive entries of P, by row."""
        rows = np.repeat(np.arange(len(self.names)), np.diff(self.P.indptr))
        return rows, self.P.indices.astype(np.int64), self.P.data

    @property
    def fans_out(self) -> bool:
        """Whether events of its traces send several messages, so that a run has several lineages."""
        return self.counts is not None and self.counts.fans_out

    @cached_property
    def posterior(self) -> Posterior | None:
        """The Dirichlet laws that the shares are the means of; None where no traces stand behind them."""
        from flowstat.estimate.posterior import posterior_of

        return posterior_of(self)

    def keys(self, source: str, target: str) -> tuple[str, ...]:
        """Return the topic keys of the graph's arrows from one node to another; empty if undeclared."""
        return self._keys.get((source, target), ())

    @cached_property
    def _keys(self) -> dict[tuple[str, str], tuple[str, ...]]:
        keys: dict[tuple[str, str], tuple[str, ...]] = {}
        for arrow in self.graph.arrows if self.graph else ():
            pair = (arrow.source, arrow.target)
            keys[pair] = (*keys.get(pair, ()), arrow.key)
        return keys


def start_law(chain: Chain, start: Start) -> Vector:
    """Return a start as a law over the chain's states.

    Raises
    ------
    ChainError
        For an unknown name, a negative weight, or weights that do not sum to 1.
    """
    if start is None:
        return chain.start
    weights: Mapping[str, float] = {start: 1.0} if isinstance(start, str) else start
    if not isinstance(weights, Mapping):
        raise ChainError(f"a start is a node, or a weight for each of some nodes, not {shown(repr(start))}")
    law = np.zeros(len(chain.names))
    for name, weight in weights.items():
        if name not in chain.index:
            few = ", ".join(map(shown, chain.names[:8]))
            raise ChainError(
                f"no node is called {shown(name)!r}: start at one of {few}{', ...' * (len(chain.names) > 8)}"
            )
        try:
            law[chain.index[name]] = weight
        except (TypeError, ValueError):
            raise ChainError(f"the start weight of {shown(name)!r} is no number: {shown(repr(weight))}") from None
    if not (np.isfinite(law).all() and (law >= 0).all()) or abs(law.sum() - 1) > ROW_SLACK:
        raise ChainError(f"a start law has weights of at least 0 that sum to 1, not to {law.sum():g}")
    return law


def estimate(counts: Counts, graph: Graph | None = None, prior: float = 1.0) -> Chain:
    """Estimate the chain: for each node, the Dirichlet posterior mean of its send patterns.

    With n_s events of pattern s among n, and prior weight w_s, `p(s) = (n_s + prior w_s) / (n + prior)`, and a
    lineage goes to j with `sum_s p(s) m_j(s) / |s|`.

    Parameters
    ----------
    counts
        From `count`; `Counts()` for the graph alone.
    graph
        Spreads each node's prior over its declared arrows by their `@` shares, evenly where none is
        given. Without a graph, or at an undeclared node, there is no prior.
    prior
        Its weight per node, in events, at least 0. A node that was never visited keeps its prior shares
        even at 0, which is maximum likelihood elsewhere.

    Raises
    ------
    ChainError
        If there is no node at all, or the prior is negative or no number.

    Notes
    -----
    Source: Gelman et al., Bayesian Data Analysis (3rd ed.), section 3.4 (multinomial with Dirichlet prior).
    Linear in the number of (node, pattern) pairs.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> chain = estimate(Counts({("a", "b"): 3, ("a", ""): 1, ("b", ""): 3}), parse_graph("a -> b"), prior=0)
    >>> chain.P.toarray(), chain.stop
    (array([[0.  , 0.75],
           [0.  , 0.  ]]), array([0.25, 1.  ]))
    """
    if not (np.isfinite(prior) and prior >= 0):
        raise ChainError(f"a prior is a weight of at least 0, not {prior}")
    declared = graph.nodes if graph is not None else ()
    known = set(declared)
    names = (*declared, *(node for node in counts.nodes if node not in known))
    index = {name: k for k, name in enumerate(names)}
    stop = np.zeros(len(names))
    shares: dict[tuple[int, int], float] = {}
    weight = np.zeros(len(names))
    for k, name in enumerate(names):
        seen = counts.events.get(name, 0)
        prior_weight = prior if name in known else 0.0
        if not seen:
            # Nothing was seen: the prior alone speaks, whatever its weight; a node without one is terminal.
            prior_weight = 1.0
        weight[k] = seen + prior_weight
        if graph is not None and name in known:
            stop[k] = prior_weight * graph.expected_stop(name)
            for target, share in graph.expected_shares(name).items():
                shares[k, index[target]] = prior_weight * share
        elif not seen:
            stop[k] = 1.0
    for (name, sent), n in counts.table.items():
        k = index[name]
        targets = parse_pattern(sent)
        if not targets:
            stop[k] += n
        size = sum(times for _, times in targets)
        for target, times in targets:
            pair = (k, index[target])
            shares[pair] = shares.get(pair, 0.0) + n * times / size
    rows = np.array([i for i, _ in shares], np.int64)
    columns = np.array([j for _, j in shares], np.int64)
    values = np.array(list(shares.values()), np.float64) / weight[rows] if shares else np.zeros(0)
    P = clean(sparse.csr_array((values, (rows, columns)), shape=(len(names), len(names))))
    starts = counts.starts or dict.fromkeys(graph.starts if graph else (), 1)
    total = sum(starts.values())
    start = np.zeros(len(names))
    for name, n in starts.items():
        start[index[name]] = n
    law = start / total if total else _even_over_sources(P)
    return Chain(names, P, stop / weight, law, counts, graph, prior)


def _even_over_sources(P: sparse.csr_array) -> Vector:
    """Return the even law over the states that no other state leads to; over all if there is none."""
    n = P.shape[0]
    rows = np.repeat(np.arange(n), np.diff(P.indptr))
    free = np.ones(n)
    free[P.indices[rows != P.indices]] = 0.0
    if not free.any():
        free[:] = 1.0
    law: Vector = free / max(free.sum(), 1.0)
    return law
