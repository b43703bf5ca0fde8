"""Which loops a chain has, one within the other: by the visits of its runs, level by level, all of a level at once.

A loop is a strongly connected set of nodes with a cycle. Its header is the node that most runs come in by; without it,
what is still strongly connected are the loops nested in it. Where that is the header that the loop forest of the graph
has (`flowstat.analyze.loop_forest`), so are the loops nested in it; else they are searched for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.loop_forest import LoopForest, loop_forest
from flowstat.analyze.loop_found import Found
from flowstat.analyze.loop_traffic import Traffic
from flowstat.analyze.solve import DENSE

__all__ = ["Nest", "nest"]

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]

TIE = 1e-9
"""Entries whose flows differ by less, relatively, are equally used."""


@dataclass(frozen=True)
class Nest:
    """The loops of a chain, every one after the loop around it; M of them.

    Attributes
    ----------
    header : (M,)
        The node whose returns are counted as rounds.
    begin, size : (M,)
        Loop k has the nodes `order[begin[k]:begin[k] + size[k]]`, its header first.
    first : (M,)
        The first of its nodes in the chain; -1 for a header's loop to itself.
    depth, parent : (M,)
        How deep it is nested, and the loop around it; -1 for an outermost one.
    order, place : (n,)
        All nodes, those of a class together, and within it those of every loop; and where each node is among them.
    left_out
        How many loops were found, but for want of room are not there.
    """

    header: Index
    begin: Index
    size: Index
    first: Index
    depth: Index
    parent: Index
    order: Index
    place: Index
    left_out: int

    def listed(self) -> list[int]:
        """Return the loops as one lists them: each before those nested in it.

        The outermost ones come in topological order, the others by their first nodes, that of a header to itself first.
        """
        inner: dict[int, list[int]] = {}
        for k in np.lexsort((self.first, self.parent))[::-1].tolist():
            inner.setdefault(int(self.parent[k]), []).append(k)
        work = sorted(inner.get(-1, []), key=lambda k: -int(self.begin[k]))
        found = []
        while work:
            k = work.pop()
            found.append(k)
            work += inner.get(k, ())
        return found


def nest(traffic: Traffic) -> Nest:
    """Find the loops of a chain.

    Of the nested ones those with the most events, where they are too many: see `flowstat.analyze.loop_found`.

    Notes
    -----
    The time grows with the arrows of all loops together, an arrow counted in each loop that it is in.
    """
    chain, solver = traffic.chain, traffic.solver
    n = solver.n
    P = chain.P
    roots = np.flatnonzero(traffic.law > 0)
    forest = loop_forest(P, roots[np.lexsort((roots, -traffic.law[roots]))])
    by_name = np.array(sorted(range(n), key=chain.names.__getitem__), np.int64)
    rank = np.empty(n, np.int64)
    rank[by_name] = np.arange(n)
    sizes = np.diff(solver.order.offsets)
    large = (sizes > DENSE)[solver.label]
    found = Found()
    around = np.full(n, -1)  # the loop of this level that a node is in
    own = np.full(n, -1)  # the innermost loop of several nodes

    # The outermost: classes with a cycle.
    cyclic = (sizes[solver.label] > 1) | forest.selfish
    nodes = solver.order.states[cyclic[solver.order.states]]
    group, key = solver.label[nodes], None
    hint = np.where(forest.header[nodes] < 0, nodes, -1)
    depth = 0
    while len(nodes):
        # Nodes of a loop are together, in their order.
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        counts = np.diff(np.append(begins, len(nodes)))
        parent = around[nodes[begins]]
        known = np.maximum.reduceat(hint, begins)
        events = np.add.reduceat(traffic.key[nodes], begins)
        if key is not None:
            events = np.minimum(events, key[parent])
        numbers = found.add(
            header=nodes[begins],
            first=nodes[begins],
            size=counts,
            parent=parent,
            depth=np.full(len(begins), depth),
            key=events,
            large=large[nodes[begins]],
        )
        if depth:
            found.cut()
        stays = ~found.gone[numbers] & (counts > 1)
        whose = np.repeat(numbers, counts)
        kept = np.repeat(stays, counts)
        around[nodes] = np.where(kept, whose, -1)
        nodes, whose = nodes[kept], whose[kept]
        begins = np.cumsum(counts[stays]) - counts[stays]
        if not len(nodes):
            break
        own[nodes] = whose
        # Headers.
        flow = traffic.inflow.values[nodes] if not depth else traffic.incoming(nodes, around, whose).values
        most = np.maximum.reduceat(flow, begins)
        # Equal flows differ in their last digits; by name, the choice does not depend on the chain's order.
        foremost = flow >= np.repeat(most * (1 - TIE), counts[stays])
        header = by_name[np.minimum.reduceat(np.where(foremost, rank[nodes], n), begins)]
        found.column("header")[numbers[stays]] = header
        # A header that leads to itself is a loop within.
        selfish = forest.selfish[header]
        key = found.column("key")
        found.add(
            header=header[selfish],
            first=np.full(int(selfish.sum()), -1),
            size=np.ones(int(selfish.sum()), np.int64),
            parent=numbers[stays][selfish],
            depth=np.full(int(selfish.sum()), depth + 1),
            key=np.minimum(traffic.key[header[selfish]], key[numbers[stays][selfish]]),
            large=large[header[selfish]],
        )
        key = found.column("key")
        # What is left without the headers.
        at = np.repeat(header, counts[stays])
        hinted = np.repeat(known[stays] == header, counts[stays])
        rest = nodes != at
        nodes, whose, hinted = nodes[rest], whose[rest], hinted[rest]
        around[header] = -1
        group, hint = _split(P, forest, nodes, around, hinted, at[rest])
        order = np.lexsort((nodes, group))
        nodes, group, hint = nodes[order], group[order], hint[order]
        _, at, counts = np.unique(group, return_inverse=True, return_counts=True)
        keep = (counts[at] > 1) | forest.selfish[nodes]
        nodes, group, hint = nodes[keep], group[keep], hint[keep]
        depth += 1
    if found.number:
        found.cut()
    return _arranged(found, traffic, own)


def _split(
    P: sparse.csr_array, forest: LoopForest, nodes: Index, around: Index, hinted: Mask, header: Index
) -> tuple[Index, Index]:
    """Return of each of some nodes the strongly connected set it is in; and itself if it is the forest's header of one.

    `around` are the loops that they are in, without their `header`; where these are as in the forest (`hinted`), so is
    what is within.
    """
    n = len(around)
    group, hint = n + np.arange(len(nodes)), np.full(len(nodes), -1)
    some = np.flatnonzero(hinted)
    if len(some):
        heads = forest.heads[nodes[some]] & (forest.header[nodes[some]] == header[some])
        inner = np.sort(forest.begin[nodes[some[heads]]])
        place = forest.begin[nodes[some]]
        k = np.searchsorted(inner, place, "right") - 1
        kids = forest.order[inner[np.maximum(k, 0)]] if len(inner) else np.zeros(len(some), np.int64)
        inside = (k >= 0) & (place < forest.begin[kids] + forest.size[kids])
        group[some[inside]] = kids[inside]
        hint[some[inside]] = np.where(kids == nodes[some], kids, -1)[inside]
    some = np.flatnonzero(~hinted)
    if len(some):
        place = np.full(n, -1)
        place[nodes[some]] = np.arange(len(some))
        part = P[nodes[some]]
        rows = np.repeat(np.arange(len(some)), np.diff(part.indptr))
        within = (place[part.indices] >= 0) & (around[part.indices] == around[nodes[some]][rows])
        columns = place[part.indices[within]]
        arrows = sparse.csr_array((np.ones(len(columns)), (rows[within], columns)), shape=(len(some), len(some)))
        _, label = csgraph.connected_components(arrows, directed=True, connection="strong")
        group[some] = n + len(nodes) + label
    return group, hint


def _arranged(found: Found, traffic: Traffic, own: Index) -> Nest:
    """Put the nodes of every loop together, the largest loop within another one last."""
    n = len(own)
    label = traffic.solver.label
    if not found.number:
        none = np.zeros(0, np.int64)
        return Nest(none, none, none, none, none, none, none, none, 0)
    header, size, first, parent, depth = map(found.column, ("header", "size", "first", "parent", "depth"))
    # A node of a dropped loop is one of the loop around it.
    up = np.arange(len(parent))
    for k in np.flatnonzero(found.gone).tolist():
        up[k] = up[parent[k]]
    kept = ~found.gone
    number = np.cumsum(kept) - 1
    header, size, first, parent, depth = header[kept], size[kept], first[kept], parent[kept], depth[kept]
    parent = np.where(parent >= 0, number[parent], -1)
    own = np.where(own >= 0, number[up[own]], -1)
    # By sizes, where each loop's own nodes and then the loops within it begin.
    big = np.flatnonzero(size > 1)
    begin = np.zeros(len(size), np.int64)
    offsets = traffic.solver.order.offsets
    inner = np.zeros(len(size), np.int64)
    np.add.at(inner, parent[big[parent[big] >= 0]], size[big[parent[big] >= 0]])
    for level in range(int(depth.max()) + 1):
        now = big[depth[big] == level]
        if not level:
            begin[now] = offsets[label[header[now]]]
            continue
        now = now[np.lexsort((size[now], parent[now]))]
        before = np.cumsum(size[now]) - size[now]
        outer = parent[now]
        eldest = np.flatnonzero(np.diff(outer, prepend=-1))
        skipped = np.repeat(before[eldest], np.diff(np.append(eldest, len(now))))
        begin[now] = begin[outer] + size[outer] - inner[outer] + before - skipped
    key = np.where(own >= 0, begin[own], offsets[label])
    heads = np.zeros(n, bool)
    heads[header[big]] = True
    order = np.lexsort((np.arange(n), ~heads, key))
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    begin = np.where(size > 1, begin, place[header])
    return Nest(header, begin, size, first, depth, parent, order, place, found.left_out)
