"""The most probable complete walks of a chain, one after the other, best first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import frexp, ldexp
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.solve import Vector
from flowstat.estimate.chain import Chain

__all__ = ["Walk", "product", "ranked", "walks"]

DIGITS = 40
"""Products that are the same to so many binary digits are equal."""

LOW = 2.0**-500
"""Below this, a product gets a factor of `2^500`, which is counted beside it: so it never underflows."""

Prefix = tuple[int, "Prefix | None"]
"""A node, and what was before it."""


@dataclass(frozen=True)
class Walk:
    """A complete walk from a start to where a run stops.

    Its probability is right to `length + 1` roundings, and to 5e-324; `rank` is what puts walks in order, and tells
    apart those that are less probable than that, too.
    """

    nodes: tuple[int, ...]
    probability: float
    rank: int


class Way(NamedTuple):
    """One of a node's ways on: to node `j`, or -1 to the end, with chance `size * 2**power`."""

    rank: int
    name: str
    j: int
    size: float
    power: int


def ranked(size: float, power: int = 0, digits: int = DIGITS) -> int:
    """Return what puts products `size * 2**power` in order: equal ones that differ in their last digits are equal.

    `digits` is how many binary digits count.

    Examples
    --------
    >>> ranked(0.1 + 0.2) == ranked(0.3)
    True
    >>> ranked(0.75, -5000) < ranked(0.7, -5000) < ranked(0.75, -5001)
    True
    """
    size, exponent = frexp(size)
    # Linear between two powers of 2, and growing with the product all the way.
    return -((power + exponent << digits) + int((2 * size - 1) * (1 << digits) + 0.5))


def product(size: float, power: int, *factors: float) -> tuple[float, int]:
    """Return `size * 2**power` times some factors, again as a float and a power of 2: nothing underflows.

    Examples
    --------
    >>> product(0.5, 0, 2.0**-1000, 2.0**-1000)
    (0.5, -2000)
    """
    for factor in factors:
        part, more = frexp(factor)
        size, exponent = frexp(size * part)
        power += more + exponent
    return size, power


def walks(chain: Chain, law: Vector) -> Iterator[Walk]:
    """Yield complete walks, the most probable first; equal ones in an order that depends on names only.

    Notes
    -----
    A* on prefixes with the exact best completion, so that no prefix is looked at in vain; of a node's ways on, each is
    looked at after a better one was taken (the k shortest paths of Aljazzar and Leue, Artificial Intelligence 175
    (2011), in the form for walks). O(arrows log n) for the first walk, then O(length log k) for each. Products are kept
    as a float and a power of 2, so that none is too small.
    """
    best, scale = _completions(chain)
    names = chain.names
    ways: dict[int, list[Way]] = {}
    indptr, indices, data = chain.P.indptr, chain.P.indices, chain.P.data

    def of(i: int) -> list[Way]:
        """Return a node's ways on, best first."""
        if i not in ways:
            size, power = frexp(float(chain.stop[i]))
            found = [Way(ranked(size, power), "", -1, size, power)] if size > 0 else []
            span = slice(int(indptr[i]), int(indptr[i + 1]))
            for j, share in zip(indices[span].tolist(), data[span].tolist(), strict=True):
                if best[j] > 0:
                    size, power = frexp(share)
                    found.append(Way(ranked(size * best[j], power + scale[j]), names[j], j, size, power))
            ways[i] = sorted(found)
        return ways[i]

    # Entries: (rank, serial, chance of the prefix and its power of 2, prefix, which way on). Equal ranks come in the
    # order they were pushed, which follows names: it is the same however the nodes are numbered.
    heap: list[tuple[int, int, float, int, Prefix, int]] = []
    serial = 0
    for i in sorted(np.flatnonzero(law > 0).tolist(), key=names.__getitem__):
        if best[i] > 0:
            p, power = frexp(float(law[i]))
            heappush(heap, (ranked(p * best[i], power + scale[i]), serial, p, power, (i, None), 0))
            serial += 1
    while heap:
        rank, _, p, power, prefix, which = heappop(heap)
        options = of(prefix[0])
        way = options[which]
        if which + 1 < len(options):
            # Never before what it comes after, whatever rounding says.
            later = max(rank, _onward(p, power, options[which + 1], best, scale))
            heappush(heap, (later, serial, p, power, prefix, which + 1))
            serial += 1
        # The best way on from where that leads is as good: it is followed to its end at once.
        while way.j >= 0:
            p, power, prefix = p * way.size, power + way.power, (way.j, prefix)
            if p < LOW:
                p, power = p / LOW, power - 500
            options = of(way.j)
            way = options[0]
            if len(options) > 1:
                heappush(heap, (_onward(p, power, options[1], best, scale), serial, p, power, prefix, 1))
                serial += 1
        p, power = p * way.size, power + way.power
        yield Walk(_nodes(prefix), ldexp(p, power), ranked(p, power))


def _onward(p: float, power: int, way: Way, best: list[float], scale: list[int]) -> int:
    """Return the rank of the best walk of a prefix that goes on by some way."""
    return ranked(p * way.size * best[way.j], power + way.power + scale[way.j])


def _nodes(prefix: Prefix | None) -> tuple[int, ...]:
    nodes = []
    while prefix is not None:
        nodes.append(prefix[0])
        prefix = prefix[1]
    return tuple(reversed(nodes))


def _completions(chain: Chain) -> tuple[list[float], list[int]]:
    """Return for each node the probability of the most probable way from it to an end, and last that of the end: 1.

    They are given as floats, 0 where no way ends, and powers of 2.
    """
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
    best, power = np.frexp(best)
    scale = power.astype(np.int64)
    while (onward < n).any():
        best, more = np.frexp(best * best[onward])
        scale = scale + scale[onward] + more
        onward = onward[onward]
    return best.tolist(), scale.tolist()
