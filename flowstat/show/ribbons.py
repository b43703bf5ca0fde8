"""A layout of flows as ribbons: nodes in columns, as few crossings as a few sweeps find, heights by probability.

Nodes that flows share are one block, as long as no ribbon has to turn back for it: columns are the longest ways there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from flowstat.show.routes import Key, Stop, columns_of, joined, routes_of

__all__ = ["Block", "Ribbon", "Ribbons", "ribbons"]

COLUMNS = 8
"""Of more, blocks that all flows pass one after the other become one."""

SWEEPS = 24
PAD, LINE = 0.06, 0.26
"""Inches between blocks, and beside a block with a name."""


@dataclass
class Block:
    """Where flows pass a node, or pass through a column between two: from `top` down to `bottom`, in inches.

    `keys` are its nodes (several, if one after the other); empty where flows only pass. `flows` are their numbers.
    """

    keys: tuple[Key, ...]
    column: int
    flows: list[int]
    last: bool = False
    weight: float = 0.0
    top: float = 0.0
    bottom: float = 0.0
    enters: dict[int, float] = field(default_factory=dict)
    leaves: dict[int, float] = field(default_factory=dict)
    bottom_most: bool = False


@dataclass(frozen=True)
class Ribbon:
    """What flows from one block to one in the next column: the flows, each with its top here and there."""

    source: Block
    target: Block
    flows: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Ribbons:
    """The layout: blocks, ribbons between them, how many columns, how high, and inches for a probability of 1."""

    blocks: tuple[Block, ...]
    ribbons: tuple[Ribbon, ...]
    columns: int
    height: float
    scale: float


def ribbons(paths: Sequence[Sequence[Key]], weights: Sequence[float], scale: float, lowest: int = -1) -> Ribbons:
    """Lay out flows.

    Parameters
    ----------
    paths
        Of each flow what it passes, in order; its last one is in the last column.
    weights
        Of each flow, positive.
    scale
        How many inches a weight of 1 is high.
    lowest
        The number of a flow that is below all others.

    Notes
    -----
    Columns: longest paths. Order: barycentres, the best of some sweeps back and forth (Sugiyama, Tagawa, Toda, IEEE
    Transactions on Systems, Man, and Cybernetics 11 (1981)); places: between those that a block is tied to.
    """
    routes = routes_of(paths)
    column = columns_of(routes)
    if max(column.values(), default=0) + 1 > COLUMNS:
        routes = joined(routes)
        column = columns_of(routes)
    blocks, ways = _blocks(routes, column, weights)
    for block in blocks:
        block.bottom_most = block.flows == [lowest]
    columns: list[list[Block]] = [[] for _ in range(max((b.column for b in blocks), default=0) + 1)]
    for block in blocks:
        columns[block.column].append(block)
    _ordered(columns, ways, weights)
    height = _placed(columns, ways, weights, scale)
    made = _slots(columns, ways, weights, scale)
    return Ribbons(tuple(b for column in columns for b in column), made, len(columns), height, scale)


def _blocks(
    routes: Sequence[Sequence[Stop]], column: dict[Stop, int], weights: Sequence[float]
) -> tuple[list[Block], list[list[Block]]]:
    """Return the blocks, with those that are only passed, and for each flow its block in each column that it is in."""
    known: dict[tuple[Stop, Stop, int], Block] = {}
    ways: list[list[Block]] = []
    for f, route in enumerate(routes):
        way: list[Block] = []
        for k, stop in enumerate(route):
            for between in range(column[route[k - 1]] + 1, column[stop]) if k else ():
                way.append(known.setdefault((route[k - 1], stop, between), Block((), between, [])))
            made = Block(tuple(key for key, _ in stop), column[stop], [], k == len(route) - 1)
            way.append(known.setdefault((stop, stop, 0), made))
        for block in way:
            block.flows.append(f)
            block.weight += weights[f]
        ways.append(way)
    return list(known.values()), ways


def _next(ways: Sequence[Sequence[Block]]) -> tuple[dict[int, dict[int, Block]], dict[int, dict[int, Block]]]:
    """Return for each block, by its id, where each of its flows comes from and goes to."""
    back: dict[int, dict[int, Block]] = defaultdict(dict)
    onward: dict[int, dict[int, Block]] = defaultdict(dict)
    for f, way in enumerate(ways):
        for a, b in pairwise(way):
            onward[id(a)][f] = b
            back[id(b)][f] = a
    return back, onward


def _ordered(columns: list[list[Block]], ways: Sequence[Sequence[Block]], weights: Sequence[float]) -> None:
    """Order the blocks of each column, so that few ribbons cross."""
    back, onward = _next(ways)
    place: dict[int, float] = {id(b): k for column in columns for k, b in enumerate(column)}
    best, least = [list(column) for column in columns], _crossed(columns, onward, place, weights)
    for sweep in range(SWEEPS):
        if not least:
            break
        forward = sweep % 2 == 0
        sides = back if forward else onward
        for column in columns if forward else columns[::-1]:
            column.sort(key=lambda block: _middle(block, sides, place, weights))
            column.sort(key=lambda block: block.bottom_most)
            for k, block in enumerate(column):
                place[id(block)] = k
        crossed = _crossed(columns, onward, place, weights)
        if crossed < least:
            best, least = [list(column) for column in columns], crossed
    for column, found in zip(columns, best, strict=True):
        column[:] = found


def _middle(
    block: Block, sides: dict[int, dict[int, Block]], place: dict[int, float], weights: Sequence[float]
) -> float:
    """Return the mean place of what a block is tied to on one side; its own if there is nothing."""
    tied = sides[id(block)]
    if not tied:
        return place[id(block)]
    return sum(weights[f] * place[id(b)] for f, b in tied.items()) / sum(weights[f] for f in tied)


def _crossed(
    columns: list[list[Block]], onward: dict[int, dict[int, Block]], place: dict[int, float], weights: Sequence[float]
) -> float:
    """Return how much crosses: the products of the weights of flows that do."""
    total = 0.0
    for column in columns[:-1]:
        ties = [(place[id(b)], place[id(t)], weights[f]) for b in column for f, t in onward[id(b)].items()]
        if ties:
            a, b, w = np.array(ties).T
            total += float(w @ ((a[:, None] < a) & (b[:, None] > b)) @ w)
    return round(total, 12)


def _placed(
    columns: list[list[Block]], ways: Sequence[Sequence[Block]], weights: Sequence[float], scale: float
) -> float:
    """Give each block its place, near those that it is tied to; return the height of all."""
    back, onward = _next(ways)

    def room(block: Block) -> float:
        return block.weight * scale if not block.keys or block.last else block.weight * scale + LINE

    def high(block: Block) -> float:
        # The names of ends stand beside them.
        return max(room(block), 0.2) if block.last else room(block)

    height = max((sum(high(b) + PAD for b in column) for column in columns), default=0.0)
    for column in columns:
        y = (height - sum(high(b) + PAD for b in column)) / 2
        for block in column:
            block.top = y
            y += high(block) + PAD
    for sweep in range(12):
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            for block in column:
                tied = [(weights[f], b) for side in (back, onward) for f, b in side[id(block)].items()]
                if tied:
                    total = sum(w for w, _ in tied)
                    middle = sum(w * (b.top + high(b) / 2) for w, b in tied) / total
                    block.top += (middle - high(block) / 2 - block.top) * 0.7
            y = 0.0
            for block in column:
                block.top = max(block.top, y)
                y = block.top + high(block) + PAD
            y = height
            for block in reversed(column):
                block.top = min(block.top, y - high(block) - PAD)
                y = block.top
    for column in columns:
        for block in column:
            # A name is above its block.
            block.top += high(block) - block.weight * scale if not block.last else (high(block) - room(block)) / 2
            block.bottom = block.top + block.weight * scale
    return height


def _slots(
    columns: list[list[Block]], ways: Sequence[Sequence[Block]], weights: Sequence[float], scale: float
) -> tuple[Ribbon, ...]:
    """Give each flow its place at both sides of its blocks, in the order of where it comes from and goes to."""
    back, onward = _next(ways)
    place = {id(b): k for column in columns for k, b in enumerate(column)}
    ahead: dict[tuple[int, int], tuple[int, ...]] = {}
    for f, way in enumerate(ways):
        rest: tuple[int, ...] = (f,)
        for block in reversed(way):
            ahead[f, block.column] = rest
            rest = (place[id(block)], *rest)
    for column in columns:
        for block in column:
            for side, tied in ((block.leaves, onward[id(block)]), (block.enters, back[id(block)])):
                y = block.top
                key = {f: ((place[id(tied[f])],) if side is block.enters and f in tied else ()) for f in block.flows}
                for f in sorted(block.flows, key=lambda f: (key[f], ahead[f, block.column])):
                    side[f] = y
                    y += weights[f] * scale
    pairs: dict[tuple[int, int], list[int]] = defaultdict(list)
    ends: dict[tuple[int, int], tuple[Block, Block]] = {}
    for f, way in enumerate(ways):
        for a, b in pairwise(way):
            pairs[id(a), id(b)].append(f)
            ends[id(a), id(b)] = a, b
    found = []
    for pair, flows in pairs.items():
        a, b = ends[pair]
        found.append(
            Ribbon(a, b, tuple((f, a.leaves[f], b.enters[f]) for f in sorted(flows, key=a.leaves.__getitem__)))
        )
    return tuple(found)
