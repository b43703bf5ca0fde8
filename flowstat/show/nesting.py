"""The boxes of a picture: loops inside one another, with what is said of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isinf

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.loop_forest import loop_forest
from flowstat.analyze.loops import Loop, loops
from flowstat.analyze.solve import Index
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.explain.sentences import loop_sentence
from flowstat.read.words import shown
from flowstat.results import counted
from flowstat.show.looks import brief

__all__ = ["Box", "boxes_of_chain", "boxes_of_graph", "drawn"]

Mask = npt.NDArray[np.bool_]

DESCRIBED = 2000
"""Up to how many nodes of a chain its loops are all described; of a larger one the boxes tell what is in them only."""

DEEPEST = 4
"""How many boxes are drawn around one another."""


@dataclass(frozen=True)
class Box:
    """A loop: the positions of its nodes, header first; the place of the loop around it in the same list, or None.

    `label` is what its box says, `tip` all that is known. A loop of one node is not `boxed`, but has a colour.
    """

    members: Index
    parent: int | None
    label: str
    tip: str
    boxed: bool = True


def boxes_of_chain(chain: Chain, kept: Mask) -> list[Box]:
    """Return a chain's loops that some kept node is in, (n,), every one before those nested in it."""
    if len(chain.names) <= DESCRIBED:
        try:
            found = loops(chain, cycles=0, intervals=None)
        except AnalysisError:
            pass
        else:
            index = chain.index
            return [
                Box(
                    np.array([index[name] for name in loop.nodes]),
                    loop.parent,
                    _label(loop),
                    loop_sentence(loop, chain.fans_out),
                )
                for loop in found.loops
            ]
    roots = np.flatnonzero(chain.start > 0)
    return _by_structure(chain.P, chain.names, roots[np.lexsort((roots, -chain.start[roots]))], kept)


def boxes_of_graph(names: tuple[str, ...], pairs: Index, starts: Index, kept: Mask) -> list[Box]:
    """Return a graph's loops that some kept node is in; `pairs` (m, 2) are its arrows, by positions."""
    n = len(names)
    P = sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return _by_structure(P, names, starts, kept)


def _by_structure(P: sparse.csr_array, names: tuple[str, ...], roots: Index, kept: Mask) -> list[Box]:
    forest = loop_forest(P, roots)
    headers: set[int] = set()
    for i in np.flatnonzero(kept).tolist():
        h = i if forest.heads[i] else int(forest.header[i])
        while h >= 0 and h not in headers:
            headers.add(h)
            h = int(forest.header[h])
    # An outer header comes before those within, in the forest's order.
    ordered = sorted(headers, key=lambda h: int(forest.begin[h]))
    place = {h: k for k, h in enumerate(ordered)}
    found = []
    for h in ordered:
        size = counted(int(forest.size[h]), "node")
        entries = ", with other entries" if forest.irreducible[h] else ""
        found.append(
            Box(
                forest.members(h),
                place.get(int(forest.header[h])),
                f"loop {shown(names[h])}",
                f"the loop of {shown(names[h])}: {size}{entries}",
            )
        )
    selfish = np.flatnonzero(forest.selfish & kept)
    for i in selfish.tolist():
        around = i if forest.heads[i] else int(forest.header[i])
        found.append(
            Box(np.array([i]), place.get(around), f"loop {shown(names[i])}", f"{shown(names[i])} sends to itself")
        )
    return found


def drawn(boxes: list[Box], kept: Mask) -> tuple[list[Box], int]:
    """Return the loops that get a box or a colour, and how many are nested too deep for one.

    A box has at least one kept node and something more in it, and is not the same as the one around it.
    """
    found: list[Box] = []
    place: dict[int, int | None] = {}
    depth: dict[int | None, int] = {None: 0}
    inside: dict[int | None, int] = {None: -1}
    deep = 0
    for k, box in enumerate(boxes):
        parent = None if box.parent is None else place[box.parent]
        place[k] = parent
        here = int(kept[box.members].sum())
        if not here:
            continue
        alone = len(box.members) == 1
        if not alone and (depth[parent] >= DEEPEST or here == inside[parent]):
            deep += depth[parent] >= DEEPEST and here > 1
            continue
        if not alone:
            place[k] = len(found)
            depth[len(found)], inside[len(found)] = depth[parent] + 1, here
        found.append(replace(box, parent=parent, boxed=not alone))
    return found, deep


def _label(loop: Loop) -> str:
    name = f"loop {shown(loop.header, 28)}"
    if not loop.reached:
        return f"{name}: no run comes here"
    rounds = "never left" if isinf(loop.rounds) else f"{brief(loop.rounds)} rounds"
    return f"{name}: {rounds}{_gain(loop)}"


def _gain(loop: Loop) -> str:
    """Return a loop's gain with three digits; where these would say 1 though it is not, on which side it is."""
    if loop.gain is None or loop.effect == "can't tell":
        return ""
    if brief(loop.gain) == "1" and loop.effect != "keeps":
        return f", gain just {'below' if loop.effect == 'dampens' else 'above'} 1"
    return f", gain {brief(loop.gain)}"
