"""All nodes and arrows, and what a picture shows of them: of many the foremost ones."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flowstat.read.graph import Component, Graph
from flowstat.read.topics import ANY_KEY
from flowstat.show.nesting import Box, drawn
from flowstat.show.picture import DrawnArrow, DrawnComponent, DrawnNode, Picture
from flowstat.show.traffic import Traffic

__all__ = ["Whole"]

Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

PER_NODE = 3
"""How many arrows are drawn for each node, at most; `FEW` in any case."""

FEW = 60

FAINT = 0.02
"""What share of a node's events has to come from or go to rare nodes outside of boxes to be drawn."""

TIES = 12
"""How many arrows the rare nodes of a box may have with others to be one node."""

ALL, SOME = 60, 40
"""Up to how many nodes all are drawn, and how many of more, if not told otherwise."""


@dataclass(frozen=True)
class Whole:
    """All nodes (n) and arrows (m, at most one from a node to another), as arrays.

    `weight` and `width` say which are foremost; `keys` has what is written at each arrow, and `shares` its share, not a
    number where it is not known; with `apart` each key has its own share in it already. `traffic` is None for a graph.
    """

    names: tuple[str, ...]
    index: Mapping[str, int]
    start: Vector
    stop: Vector
    weight: Vector
    rows: Index
    columns: Index
    width: Vector
    keys: Mapping[tuple[int, int], Sequence[str]]
    shares: Vector
    undeclared: Mask
    graph: Graph | None
    by: str
    traffic: Traffic | None = None
    messages: Vector | None = None
    unit: str = ""

    @property
    def apart(self) -> bool:
        """Whether each key has its own share in it."""
        return self.traffic is None

    def kept(self, most: int | None, named: Sequence[int]) -> Mask:
        """Return which nodes are shown by their names: those with most weight; a single one is not left over."""
        n = len(self.names)
        kept = np.zeros(n, bool)
        order = np.lexsort((np.arange(n), -self.weight))
        if most is None:
            most = n if n <= ALL else SOME
        kept[order[: most if n > most + 1 else n]] = True
        kept[list(named)] = True
        return kept

    def picture(self, boxes: list[Box], kept: Mask, pairs: frozenset[tuple[int, int]]) -> Picture:
        """Return what to draw; the arrows of some pairs in any case."""
        shown, deep = drawn(boxes, kept)
        n = len(self.names)
        home = np.full(n, -1)
        for k, box in enumerate(shown):
            if box.boxed:
                home[box.members] = k
        # A single one is shown by its name; the others of a box become one node, after all that have names.
        groups, size = np.unique(home[~kept & (home >= 0)], return_counts=True)
        kept = kept | np.isin(home, groups[size == 1])
        place, rest = self.placed(kept, home)
        nodes = [self.node(i, int(home[i])) for i in np.flatnonzero(kept).tolist()]
        nodes += [self.rare(np.flatnonzero((home == g) & ~kept), g, True) for g in rest]
        free = len(nodes)
        sources, targets, beyond = self.ends(place, home, len(nodes) - len(rest), free)
        nodes += [self.rare(members, int(home[members[0]]), False) for members in beyond]
        chosen, left_out = self.chosen(sources, targets, free, pairs)
        arrows = [self.arrow(at, int(sources[at[0]]), int(targets[at[0]]), kept) for at in chosen]
        components = tuple(self.component(c, place, kept) for c in (self.graph.components if self.graph else ()))
        index = {self.names[i]: int(place[i]) for i in np.flatnonzero(kept).tolist()}
        # A header that is rare is in the grey node of its box.
        first = [np.append(box.members[:1], box.members[1:][kept[box.members[1:]]]) for box in shown]
        inner = tuple(replace(box, members=place[some]) for box, some in zip(shown, first, strict=True))
        return Picture(
            tuple(nodes),
            tuple(arrows),
            tuple(c for c in components if c is not None),
            inner,
            index,
            self.by,
            self.unit,
            (int((~kept).sum()), 0.0 if self.traffic is None else min(1.0, float(self.traffic.share[~kept].sum()))),
            left_out,
            deep,
        )

    def placed(self, kept: Mask, home: Index) -> tuple[Index, list[int]]:
        """Return the position of each node in the picture, -1 for those that are cut apart, and the boxes with a rest.

        The nodes of a box that are not kept become one, after all that have names, unless it would be tied to so much
        that nothing else could be seen.
        """
        place = np.full(len(home), -1)
        place[kept] = np.arange(kept.sum())
        groups = np.unique(home[~kept & (home >= 0)]).tolist()
        ends = np.where(kept, place, -2 - home)
        sources, targets = ends[self.rows], ends[self.columns]
        tied = np.unique(np.stack([sources, targets])[:, sources != targets], axis=1)
        few = [g for g in groups if np.count_nonzero(tied == -2 - g) <= TIES]
        for k, g in enumerate(few):
            place[(home == g) & ~kept] = kept.sum() + k
        return place, few

    def ends(self, place: Index, home: Index, named: int, free: int) -> tuple[Index, Index, list[Index]]:
        """Return where each arrow begins and ends in the picture, -1 for one that is not shown, and what is beyond it.

        Nodes without a place would tie everything to everything as one: those of a box (or of none) that a node sends
        to are one, and those that it gets from, numbered from `free` on.
        """
        sources, targets = place[self.rows].copy(), place[self.columns].copy()
        inside, outside = sources >= 0, targets >= 0
        gone = (~inside & ~outside) | ((sources == targets) & (sources >= named))
        far = np.where(inside, self.columns, self.rows)
        code = np.where(outside, 2 * targets + 1, 2 * sources) * (len(home) + 1) + home[far] + 1
        at = np.flatnonzero(inside != outside)
        stubs, which = np.unique(code[at], return_inverse=True)
        sources[at] = np.where(inside[at], sources[at], free + which)
        targets[at] = np.where(outside[at], targets[at], free + which)
        sources[gone] = targets[gone] = -1
        order = np.argsort(which, kind="stable")
        parts = np.split(far[at][order], np.cumsum(np.bincount(which, minlength=len(stubs)))[:-1])
        return sources, targets, [np.unique(part) for part in parts if len(part)]

    def node(self, i: int, box: int) -> DrawnNode:
        """Return a node that is shown by its name; `box` is -1 if it is in none."""
        flow = self.traffic
        return DrawnNode(
            self.names[i],
            float(self.start[i]),
            float(self.stop[i]),
            None if flow is None else float(flow.events[i]),
            0.0 if flow is None else float(flow.share[i]),
            None if box < 0 else box,
            flow is not None and bool(flow.endless[i]),
        )

    def rare(self, members: Index, box: int, whole: bool) -> DrawnNode:
        """Return some nodes as one; `whole`: all rare ones of its box."""
        flow = self.traffic
        events = None if flow is None else float(flow.events[members].sum())
        return DrawnNode(
            f"{len(members):,} rare node{'s' * (len(members) > 1)}",
            float(self.start[members].sum()),
            0.0,
            events,
            0.0 if flow is None else float(flow.share[members].sum()),
            None if box < 0 else box,
            flow is not None and bool(flow.endless[members].all()),
            len(members),
            whole,
        )

    def chosen(
        self, sources: Index, targets: Index, free: int, pairs: frozenset[tuple[int, int]]
    ) -> tuple[list[Index], tuple[int, float | None]]:
        """Return the arrows that are drawn as one, each a list of their places, and what is left out."""
        at = np.flatnonzero(sources >= 0)
        size = int(max(sources.max(initial=0), targets.max(initial=0))) + 1
        code, which = np.unique(sources[at] * size + targets[at], return_inverse=True)
        weight = np.bincount(which, self.width[at], len(code))
        order = np.argsort(which, kind="stable")
        parts = np.split(at[order], np.cumsum(np.bincount(which, minlength=len(code)))[:-1]) if len(code) else []
        most = max(FEW, PER_NODE * size)
        wanted = np.isin(
            self.rows[at] * len(self.names) + self.columns[at], [i * len(self.names) + j for i, j in pairs]
        )
        forced = np.bincount(which, wanted, len(code)) > 0
        first = np.lexsort((code, -weight, ~forced))
        faint = self.faint(sources, targets, parts, free) if self.messages is not None else np.zeros(len(code), bool)
        first = np.append(first[~faint[first]], first[faint[first]])
        most = min(max(most, int(forced.sum())), len(first) - int(faint.sum()))
        left = first[most:]
        if not len(left):
            return parts, (0, None)
        share = None
        if self.messages is not None:
            sums = self.messages
            total = float(sums.sum())
            share = float(sum(sums[parts[k]].sum() for k in left)) / total if total else None
        return [parts[k] for k in np.sort(first[: len(first) - len(left)])], (len(left), share)

    def faint(self, sources: Index, targets: Index, parts: Sequence[Index], free: int) -> Mask:
        """Return which drawn arrows are from or to rare nodes outside of boxes, and little beside the node's events."""
        assert self.messages is not None
        assert self.traffic is not None
        found = np.zeros(len(parts), bool)
        for k, at in enumerate(parts):
            ends = sources[at[0]], targets[at[0]]
            if max(ends) >= free:
                near = self.rows[at] if ends[1] > ends[0] else self.columns[at]
                events = self.traffic.events[np.unique(near)].sum()
                found[k] = float(self.messages[at].sum()) < FAINT * events
        return found

    def arrow(self, at: Index, source: int, target: int, kept: Mask) -> DrawnArrow:
        """Return the arrows at some places, all from one drawn node to another, as one."""
        i, j = int(self.rows[at[0]]), int(self.columns[at[0]])
        messages = None if self.messages is None else float(self.messages[at].sum())
        width = None if self.messages is None else min(1.0, float(self.width[at].sum()))
        if not kept[i] or not kept[j]:
            # How much of what a node sends goes to rare ones is a share; from several nodes there is none.
            share = float(self.shares[at].sum()) if kept[i] and not self.apart else None
            return DrawnArrow(source, target, (), share, messages, width)
        known = float(self.shares[at[0]])
        share = None if np.isnan(known) else known
        keys = tuple(self.keys.get((i, j), ()))
        return DrawnArrow(source, target, keys, share, messages, width, self.apart, bool(self.undeclared[at[0]]))

    def component(self, component: Component, place: Index, kept: Mask) -> DrawnComponent | None:
        """Return a component, if any node that it is tied to is shown by its name."""
        owner = None if component.node is None else self.index[component.node]
        routes = [(self.index[r.target], "" if r.key == ANY_KEY else r.key or '""') for r in component.routes]
        if not any(kept[end] for end in [*([] if owner is None else [owner]), *(target for target, _ in routes)]):
            return None
        return DrawnComponent(
            shlex.join(component.command),
            int(place[owner]) if owner is not None and kept[owner] else None,
            tuple((int(place[target]), key) for target, key in routes if kept[target]),
        )
