"""The most probable complete walks of a chain, one after the other, best first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import frexp, ldexp
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.solve import Vector
from flowstat.estimate.chain import Chain

__all__ = ["Walk", "ranked", "walks"]

SMALLEST = 1e-290
"""Walks that are less probable are left out: smaller numbers lose digits."""

DIGITS = 2.0**40
"""Products that are the same to one part in so many are equal."""

Prefix = tuple[int, "Prefix | None"]
"""A node, and what was before it."""


@dataclass(frozen=True)
class Walk:
    """A complete walk from a start to where a run stops, and its probability, right to `length + 1` roundings."""

    nodes: tuple[int, ...]
    probability: float


def ranked(probability: float) -> float:
    """Return what is put in order: equal products that differ in their last digits are equal."""
    size, exponent = frexp(probability)
    return -ldexp(round(size * DIGITS), exponent)


def walks(chain: Chain, law: Vector) -> Iterator[Walk]:
    """Yield complete walks, the most probable first; equal ones in an order that depends on names only.

    Notes
    -----
    A* on prefixes with the exact best completion, so that no prefix is looked at in vain; of a node's ways on, each is
    looked at after a better one was taken (the k shortest paths of Aljazzar and Leue, Artificial Intelligence 175
    (2011), in the form for walks). O(arrows log n) for the first walk, then O(length log k) for each.
    """
    best = _completions(chain)
    names = chain.names
    ways: dict[int, list[tuple[float, str, int, float]]] = {}
    indptr, indices, data = chain.P.indptr, chain.P.indices, chain.P.data

    def of(i: int) -> list[tuple[float, str, int, float]]:
        """Return a node's ways on, best first: (rank, name, node or -1 for the end, chance)."""
        if i not in ways:
            stop = float(chain.stop[i])
            found = [(ranked(stop), "", -1, stop)] if stop > 0 else []
            span = slice(int(indptr[i]), int(indptr[i + 1]))
            for j, share in zip(indices[span].tolist(), data[span].tolist(), strict=True):
                onward = share * best[j]
                if onward > 0:
                    found.append((ranked(onward), names[j], j, share))
            ways[i] = sorted(found)
        return ways[i]

    # Entries: (rank, serial, chance of the prefix, prefix, which way on). Equal ranks come in the order they were
    # pushed, which follows names: it is the same however the nodes are numbered.
    heap: list[tuple[float, int, float, Prefix, int]] = []
    serial = 0
    for i in sorted(np.flatnonzero(law > 0).tolist(), key=names.__getitem__):
        p = float(law[i])
        if p * best[i] >= SMALLEST:
            heappush(heap, (ranked(p * best[i]), serial, p, (i, None), 0))
            serial += 1
    while heap:
        rank, _, p, prefix, which = heappop(heap)
        options = of(prefix[0])
        _, _, j, share = options[which]
        if which + 1 < len(options):
            _, _, other, chance = options[which + 1]
            later = p * chance * best[other]
            if later >= SMALLEST:
                # Never before what it comes after, whatever rounding says.
                heappush(heap, (max(rank, ranked(later)), serial, p, prefix, which + 1))
                serial += 1
        # The best way on from where that leads is as good: it is followed to its end at once.
        while j >= 0:
            p, prefix = p * share, (j, prefix)
            options = of(j)
            _, _, j, share = options[0]
            if len(options) > 1:
                _, _, other, chance = options[1]
                later = p * chance * best[other]
                if later >= SMALLEST:
                    heappush(heap, (max(rank, ranked(later)), serial, p, prefix, 1))
                    serial += 1
        yield Walk(_nodes(prefix), p * share)


def _nodes(prefix: Prefix | None) -> tuple[int, ...]:
    nodes = []
    while prefix is not None:
        nodes.append(prefix[0])
        prefix = prefix[1]
    return tuple(reversed(nodes))


def _completions(chain: Chain) -> list[float]:
    """Return for each node the probability of the most probable way from it to an end, and last that of the end: 1."""
    n = len(chain.names)
    rows, columns, shares = chain.arrows()
    ending = np.flatnonzero(chain.stop > 0)
    # Backwards from a node beside the others, where all runs end.
    back = chain.P.T.tocsr()
    away = np.maximum(-np.log(np.concatenate([back.data, chain.stop[ending]])), 0.0)
    indptr = np.append(back.indptr, len(away))
    graph = sparse.csr_array((away, np.concatenate([back.indices, ending]), indptr), shape=(n + 1, n + 1))
    search: Any = csgraph.dijkstra
    _, onward = search(graph, indices=n, return_predecessors=True)
    # The products along the ways that were found, twice as long each time.
    onward = np.where(onward < 0, n, onward).astype(np.int64)
    best = np.append(chain.stop, 1.0)
    arrow = np.flatnonzero(onward[rows] == columns)
    best[rows[arrow]] = shares[arrow]
    best[:n][(onward[:n] == n) & (chain.stop == 0)] = 0.0
    while (onward < n).any():
        best = best * best[onward]
        onward = onward[onward]
    return best.tolist()
