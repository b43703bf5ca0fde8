"""From a graph or a chain to what is drawn of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowstat.read.dot import percent
from flowstat.read.graph import Graph
from flowstat.read.topics import ANY_KEY
from flowstat.show.looks import brief
from flowstat.show.nesting import boxes_of_chain, boxes_of_graph
from flowstat.show.picture import Picture
from flowstat.show.traffic import Traffic, traffic
from flowstat.show.whole import Whole

if TYPE_CHECKING:
    from flowstat.estimate.chain import Chain

__all__ = ["of_chain", "of_graph", "picture_of"]


def picture_of(
    graph_or_chain: Graph | Chain, most: int | None, named: Sequence[int], pairs: frozenset[tuple[int, int]]
) -> Picture:
    """Return what to draw of a graph or chain: so many nodes by their names, some nodes and arrows in any case."""
    whole = of_graph(graph_or_chain) if isinstance(graph_or_chain, Graph) else of_chain(graph_or_chain)
    kept = whole.kept(most, named)
    if isinstance(graph_or_chain, Graph):
        starts = np.array([whole.index[name] for name in graph_or_chain.starts], np.int64)
        boxes = boxes_of_graph(whole.names, np.stack([whole.rows, whole.columns], axis=1), starts, kept)
    else:
        boxes = boxes_of_chain(graph_or_chain, kept)
    return whole.picture(boxes, kept, pairs)


def of_graph(graph: Graph) -> Whole:
    """Return all of a graph: keys, and shares where the designer gave them."""
    index = {name: k for k, name in enumerate(graph.nodes)}
    n = len(graph.nodes)
    texts: dict[tuple[int, int], list[str]] = {}
    given: dict[tuple[int, int], list[float | None]] = {}
    degree = np.zeros(n)
    for source, key, target, share in graph.arrows:
        pair = index[source], index[target]
        parts = [key or '""'] if key != ANY_KEY else []
        parts += [percent(share)] if share is not None else []
        texts.setdefault(pair, []).extend(["  ".join(parts)] if parts else [])
        given.setdefault(pair, []).append(share)
        for end in pair:
            degree[end] += 1
    pairs = np.array(list(given), np.int64).reshape(-1, 2)
    start = np.zeros(n)
    if len(graph.starts) < n:
        start[[index[name] for name in graph.starts]] = 1.0
    return Whole(
        graph.nodes,
        index,
        start,
        np.array([_unspent(a.share for a in graph.outgoing[name]) for name in graph.nodes]),
        degree,
        pairs[:, 0],
        pairs[:, 1],
        degree[pairs].sum(axis=1) / max(1.0, 2 * degree.max(initial=0.0)),
        texts,
        np.array([_total(shares) for shares in given.values()]),
        np.zeros(len(pairs), bool),
        graph,
        "arrows",
    )


def of_chain(chain: Chain) -> Whole:
    """Return all of a chain: its shares and traffic, with the keys and components of its graph."""
    rows, columns, shares = chain.arrows()
    flow = traffic(chain)
    n = len(chain.names)
    keys: dict[tuple[int, int], list[str]] = {}
    arrows = chain.graph.arrows if chain.graph else ()
    # The states of a node that is split have arrows that only the traces show, too: these have no keys.
    for arrow in (arrow for arrow in arrows if chain.keys(arrow.source, arrow.target)):
        pair = chain.index[arrow.source], chain.index[arrow.target]
        keys.setdefault(pair, []).extend([arrow.key or '""'] if arrow.key != ANY_KEY else [])
    declared = np.array(list(keys), np.int64).reshape(-1, 2) @ np.array([n, 1])
    code = rows * n + columns
    # Arrows of the graph that nothing is ever sent along are shown, too.
    more = np.setdiff1d(declared, code)
    none = np.zeros(len(more))
    thickest = flow.messages[~flow.endless[rows]].max(initial=0.0)
    return Whole(
        chain.names,
        chain.index,
        chain.start,
        chain.stop,
        flow.weight,
        np.concatenate([rows, more // n]),
        np.concatenate([columns, more % n]),
        np.concatenate([flow.width, none]),
        keys,
        np.concatenate([shares, none]),
        np.concatenate([~np.isin(code, declared) & (chain.graph is not None), none > 0]),
        chain.graph,
        "traffic",
        flow,
        np.concatenate([flow.messages, none]),
        _unit(flow, float(thickest), chain.fans_out),
    )


def _unit(flow: Traffic, thickest: float, fans_out: bool) -> str:
    """Say what the width of an arrow is about."""
    run = "a lineage" if fans_out else "a run"
    if flow.steps:
        return f"width: messages of the first {flow.steps} steps of {run}"
    said = []
    if thickest > 0:
        said.append(f"width: messages of {run}, the thickest {brief(thickest)}")
    if flow.endless.any():
        said.append(("there" if said else "width") + ": messages per event in the long run")
    return ("; where runs never end, " if len(said) > 1 else "").join(
        text.removeprefix("there: ") if k else text for k, text in enumerate(said)
    )


def _total(shares: Iterable[float | None]) -> float:
    """Return the share of arrows together; no number, if some of it is not known."""
    known = list(shares)
    return float("nan") if None in known else min(1.0, sum(share for share in known if share is not None))


def _unspent(shares: Iterable[float | None]) -> float:
    """Return the share of a node's events that its arrows leave to stopping."""
    total = _total(shares)
    return 0.0 if np.isnan(total) else 1 - total
