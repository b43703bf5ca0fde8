"""Chains of order 2: what comes next may depend on the node before, too. Estimated from traces, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from flowstat.errors import ChainError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.read.graph import Arrow, Graph
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern, parse_pattern
from flowstat.read.resolve import canonical_batches
from flowstat.read.topics import ANY_KEY
from flowstat.read.traces import Traces
from flowstat.read.words import quote

__all__ = ["count_pairs", "pair_name", "second_order"]

COLUMNS = ("parent", "name", "sent", "status", "root")

Triples = Mapping[tuple[str | None, str, str], int]


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
    >>> second_order(Traces(()), Graph.of([Arrow("a", "#", "b")])).names
    ('a', 'a > b')
    """
    triples, starts, rest = _triples(traces, memory)
    singles: Counter[tuple[str, str]] = Counter()
    for (_, node, sent), n in triples.items():
        singles[node, sent] += n
    one = estimate(Counts(dict(sorted(singles.items())), dict(sorted(starts.items()))), graph, prior)
    counts = _pair_counts(triples, starts, rest)
    seen = {(before, node) for before, node, _ in triples}
    seen.update((node, target) for _, node, sent in triples for target, _ in parse_pattern(sent))
    return estimate(counts, _pair_graph(one, seen), prior)


def count_pairs(traces: Traces, *, memory: int | None = None) -> Counts:
    """Count events by their node and the one before: the nodes of these counts are named by `pair_name`.

    Parameters and errors are those of `second_order`. Takes one pass over traces that are canonical, and for others the
    join that makes them so; memory for the distinct (sender, node, send pattern).
    """
    triples, starts, rest = _triples(traces, memory)
    return _pair_counts(triples, starts, rest)


def _pair_counts(triples: Triples, starts: Counter[str], rest: Counts) -> Counts:
    table: Counter[tuple[str, str]] = Counter()
    for (before, node, sent), n in triples.items():
        targets = [pair_name(node, target) for target, times in parse_pattern(sent) for _ in range(times)]
        table[pair_name(before, node), format_pattern(targets)] += n
    begun = {pair_name(None, node): n for node, n in sorted(starts.items())}
    return rest + Counts(dict(sorted(table.items())), begun)


def _triples(traces: Traces, memory: int | None) -> tuple[Triples, Counter[str], Counts]:
    """Return (sender, node, send pattern) -> events, node -> runs that start there, and what was wrong."""
    found: Counter[tuple[str | None, str, str]] = Counter()
    starts: Counter[str] = Counter()
    rest = Counts()
    for file in traces.files:
        notices = Notices(file.mapping.skip_bad)
        for before, node, sent, root, n in _tallied(canonical_batches(file, notices, memory)):
            found[before, node, sent] += n
            if root:
                starts[node] += n
        rest = rest + Counts(files=file.origins, problems=notices.problems)
    return found, starts, rest


def _tallied(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str | None, str, str, bool, int]]:
    """Yield (sender, node, send pattern, whether nothing sent it, events) of some rows at a time."""
    for batch in batches:
        names = batch.schema.names
        root = pc.is_null(batch.column(names.index("parent_id")))
        columns = [batch.column(names.index(c)) for c in COLUMNS[:-1]]
        table = pa.table([*columns, root], names=list(COLUMNS))
        table = table.filter(pc.is_in(table["status"].cast(pa.string()), pa.array(["ok", "error"])))
        keys = ["parent", "name", "sent", "root"]
        tallied = table.select(keys).group_by(keys).aggregate([([], "count_all")])
        for row in tallied.to_pylist():
            # An event whose sender was not recorded is no start, and nothing is known of what was before it.
            yield row["parent"], row["name"], row["sent"] or "", row["root"], row["count_all"]


def _pair_graph(one: Chain, seen: set[tuple[str | None, str]]) -> Graph:
    """Return the pairs that a chain has or that were seen, and its shares as those of each pair."""
    names = one.names
    rows, columns, values = one.arrows()
    onward: dict[str, list[tuple[str, float]]] = {name: [] for name in names}
    for i, j, p in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True):
        onward[names[i]].append((names[j], min(p, 1.0)))
    begin = [name for name, p in zip(names, one.start.tolist(), strict=True) if p > 0]
    ways: dict[tuple[str | None, str], None] = dict.fromkeys((None, name) for name in begin)
    ways.update(dict.fromkeys((source, target) for source, there in onward.items() for target, _ in there))
    ways.update(dict.fromkeys(sorted((pair for pair in seen if pair not in ways), key=lambda p: (p[0] or "", p[1]))))
    arrows = [
        Arrow(pair_name(*way), ANY_KEY, pair_name(way[1], target), share)
        for way in ways
        for target, share in onward.get(way[1], ())
    ]
    if not ways:
        raise ChainError("a chain needs at least one node")
    return Graph.of(arrows, [pair_name(*way) for way in ways])
