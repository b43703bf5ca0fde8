"""Chains of order 2: what comes next may depend on the node before, too. Estimated from traces, read once."""

from __future__ import annotations

from flowstat.errors import ChainError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.estimate.histories import read_histories
from flowstat.estimate.splitting import Splitting
from flowstat.read.graph import Graph
from flowstat.read.traces import Traces
from flowstat.read.words import quote

__all__ = ["count_pairs", "pair_name", "second_order"]


def pair_name(before: str | None, node: str) -> str:
    """Return what a node after another is called; names that are not plain words are quoted, so that all differ.

    Examples
    --------
    >>> pair_name("cart", "billing eu"), pair_name(None, "cart")
    ('cart > "billing eu"', 'cart')
    """
    return quote(node) if before is None else f"{quote(before)} > {quote(node)}"


def second_order(traces: Traces, graph: Graph | None = None, prior: float = 1.0, *, memory: int | None = None) -> Chain:
    """Estimate the chain of pairs of nodes that traces show.

    A state `a > b` is an event at b whose message a sent; `b` alone, one that nothing recorded sent. Counts can't give
    this: they do not say what was before. What they do give is the chain of order 1, and that is the prior: a pair
    that was seen often speaks for itself, one that was seldom seen goes on like its node.

    Parameters
    ----------
    traces
        From `read_traces`, in any format but counts files.
    graph
        As for `estimate`: stands behind the chain of order 1.
    prior
        Weight of the order 1 at each pair, and of the graph in the order 1, in events; at least 0. At 0 only pairs
        that were seen count, and others that can be come to go on by the order 1.
    memory
        Bytes that joins may hold in memory, as for `count`.

    Returns
    -------
    Chain
        Its states are pairs, its counts those of `count_pairs`, its graph the pairs that the chain of order 1 has.
        `flowstat.analyze.transforms.pairs` of the chain of order 1 is what it would be if nothing depended on the node
        before.

    Raises
    ------
    TraceError
        If a file can't be read, holds counts, or says something impossible.
    ChainError
        If there is no node at all, or the prior is negative or no number.

    Notes
    -----
    `(n_abc + prior p_bc) / (n_ab + prior)`, p being the posterior mean of order 1: the hierarchical Dirichlet model of
    MacKay and Peto, Natural Language Engineering 1 (1995), with its weight given. With fan-out a message is one lineage
    picked at random, as for `estimate`.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> second_order(Traces(()), parse_graph("a -> b")).names
    ('a', 'a > b')
    """
    histories = read_histories(traces, memory=memory)
    one = estimate(histories.counts(), graph, prior)
    pairs = Splitting(histories, one, frozenset(one.names), pair_name, orphans=True)
    if not any(pairs.ways.values()):
        raise ChainError("a chain needs at least one node")
    return estimate(pairs.counts, pairs.graph(graph), prior)


def count_pairs(traces: Traces, *, memory: int | None = None) -> Counts:
    """Count events by their node and the one before: the nodes of these counts are named by `pair_name`.

    Parameters and errors are those of `second_order`. Takes one pass over traces that are canonical, and for others the
    join that makes them so; memory for the distinct (sender, node, send pattern).
    """
    histories = read_histories(traces, memory=memory)
    if not histories.events:
        return histories.rest
    one = estimate(histories.counts())
    return Splitting(histories, one, frozenset(one.names), pair_name, orphans=True).counts
