"""The coarsest partition of a chain's states that its chances respect: states of a group lead alike to every group."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Vector

__all__ = ["clusters", "ranges", "refine"]

FEW = 12
"""Groups of so many states in all are looked at one by one, which takes less time than many at once."""

ARROWS = 60
"""And of no more arrows into them than this."""

Flags = npt.NDArray[np.bool_]


def ranges(begins: Index, lengths: Index) -> Index:
    """Return the numbers of some ranges, one after the other.

    Examples
    --------
    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(begins - before, lengths) + np.arange(int(lengths.sum()))


def clusters(values: Vector, apart: Flags, slack: Vector) -> Index:
    """Number the clusters of sorted values: in each, the last is no more than its slack above the first.

    Parameters
    ----------
    values : (m,)
        Sorted between the places where `apart` is true.
    apart
        Where a new cluster begins whatever the value.
    slack
        How far each value may be above the first of its cluster.

    Examples
    --------
    >>> clusters(np.array([1.0, 1.05, 1.1, 1.0]), np.array([True, False, False, True]), np.full(4, 0.07)).tolist()
    [0, 0, 1, 2]
    """
    new = apart.copy()
    new[1:] |= values[1:] - values[:-1] > slack[1:]
    begins = np.flatnonzero(new)
    ends = np.append(begins[1:], len(values))
    # Values that are each near the next may be far apart in all: such clusters are cut from their first value on.
    for k in np.flatnonzero(values[ends - 1] - values[begins] > slack[ends - 1]).tolist():
        first = values[begins[k]]
        for at in range(int(begins[k]), int(ends[k])):
            if values[at] - first > slack[at]:
                new[at], first = True, values[at]
    return np.cumsum(new) - 1


def refine(P: sparse.csr_array, groups: Index, tolerance: float) -> Index:
    """Refine a partition until all states of a group have the same chances to move to each group.

    Parameters
    ----------
    P : (n, n)
        Transition chances.
    groups : (n,)
        The group of each state at first, numbered from 0 without gaps.
    tolerance
        Chances are the same that differ by no more than this share of the larger one; those to stay in the group, by
        no more than this.

    Returns
    -------
    (n,)
        The group of each state, numbered in the order of their first states.

    Notes
    -----
    Groups that were split are looked at from all others, but for the largest of their parts (Derisavi, Hermanns,
    Sanders, Information Processing Letters 87 (2003)); all that wait are looked at together, and the chances compared
    by sorting: O(m log^2 n) for m arrows, in at most n rounds. A round takes some 150 microseconds, and some 10 where
    only a few states wait: of a line of n states, which takes n rounds, all but the first are such. What the parts left
    out may hide, being rounded, is found in a last round that looks at all of them.
    """
    work = _Partition(P, groups, tolerance)
    while True:
        waiting = np.arange(work.number)
        settled = True
        while len(waiting):
            waiting, split = work.split(waiting)
            settled &= not split
        if settled:
            break
    _, first, named = np.unique(work.label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[named]


class _Partition:
    """A partition being refined: the states of a group stand together in `order`."""

    def __init__(self, P: sparse.csr_array, groups: Index, tolerance: float) -> None:
        n = len(groups)
        into = sparse.csc_array(P)
        self.indptr, self.sources, self.values = into.indptr.astype(np.int64), into.indices, into.data
        self.tolerance = tolerance
        self.label = groups.astype(np.int64)
        self.number = int(groups.max()) + 1
        self.order = np.argsort(groups, kind="stable")
        self.place = np.empty(n, np.int64)
        self.place[self.order] = np.arange(n)
        self.size, self.begin = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.size[: self.number] = np.bincount(groups)
        self.begin[: self.number] = np.cumsum(self.size[: self.number]) - self.size[: self.number]
        self.touched = np.zeros(n, bool)
        self.random = np.random.default_rng(2003)

    def split(self, splitters: Index) -> tuple[Index, bool]:
        """Split all groups by their chances to move to each of some; return which to look at next."""
        members = self._few(splitters)
        if members:
            spans = [(self.indptr.item(m), self.indptr.item(m + 1)) for m in members]
            if sum(last - first for first, last in spans) <= ARROWS:
                return self._split_few(members, spans)
        states, marks = self._signed(splitters)
        if not len(states):
            return np.zeros(0, np.int64), False
        group = self.label[states]
        by = np.lexsort((marks, group))
        states, marks, group = states[by], marks[by], group[by]
        new = np.concatenate([[True], (group[1:] != group[:-1]) | (marks[1:] != marks[:-1])])
        # The states of a group that none of the chances is for are its rest.
        head = np.concatenate([[True], group[1:] != group[:-1]])
        which = np.cumsum(head) - 1
        touched = np.bincount(which)
        rest = self.size[group[head]] - touched
        parts = np.bincount(which[new])
        kept = ((rest > 0) | (parts > 1))[which]
        if not kept.any():
            return np.zeros(0, np.int64), False
        return self._divide(states[kept], new[kept], head[kept]), True

    def _signed(self, splitters: Index) -> tuple[Index, npt.NDArray[np.uint64]]:
        """Return the states that move to any of some groups, each with a mark of its chances: like marks, alike."""
        members = self.order[ranges(self.begin[splitters], self.size[splitters])]
        lengths = self.indptr[members + 1] - self.indptr[members]
        arrow = ranges(self.indptr[members], lengths)
        source, target = self.sources[arrow].astype(np.int64), np.repeat(self.label[members], lengths)
        if not len(source):
            return source, np.zeros(0, np.uint64)
        pair = source * self.number + target
        by = np.argsort(pair, kind="stable")
        pair = pair[by]
        first = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]]))
        chance = np.add.reduceat(self.values[arrow][by], first)
        source, target = pair[first] // self.number, pair[first] % self.number
        most = int(np.diff(np.append(first, len(pair))).max())
        tolerance = self.tolerance + 2 * most * UNIT
        group = self.label[source]
        # What stays in the group is what the other chances leave, and no more exact than these.
        own = group == target
        kept = ~own | (chance > tolerance)
        source, target, chance, group, own = (each[kept] for each in (source, target, chance, group, own))
        if not len(source):
            return source, np.zeros(0, np.uint64)
        by = np.lexsort((chance, target, group))
        apart = np.concatenate([[True], (group[by][1:] != group[by][:-1]) | (target[by][1:] != target[by][:-1])])
        cluster = np.empty(len(source), np.int64)
        cluster[by] = clusters(chance[by], apart, np.where(own[by], tolerance, tolerance * chance[by]))
        # A sum of random numbers tells sets apart; that it might not, once in 10^19, the last round would find.
        number = self.random.integers(0, 2**64, int(cluster.max()) + 1, np.uint64)
        first = np.flatnonzero(np.concatenate([[True], source[1:] != source[:-1]]))
        return source[first], np.add.reduceat(number[cluster], first)

    def _few(self, splitters: Index) -> list[int]:
        """Return the states of some groups; none if they are many."""
        if len(splitters) > FEW:
            return []
        begins = [(self.begin.item(group), self.size.item(group)) for group in splitters.tolist()]
        if sum(size for _, size in begins) > FEW:
            return []
        return [self.order.item(at) for begin, size in begins for at in range(begin, begin + size)]

    def _split_few(self, members: list[int], spans: list[tuple[int, int]]) -> tuple[Index, bool]:
        """Do as `split` does, state by state: for groups of some members, and the arrows into these."""
        chances: dict[tuple[int, int], list[float]] = {}
        for member, (first, last) in zip(members, spans, strict=True):
            target = self.label.item(member)
            for at in range(first, last):
                chances.setdefault((self.sources.item(at), target), []).append(self.values.item(at))
        tolerance = self.tolerance + 2 * max(map(len, chances.values()), default=1) * UNIT
        into: dict[tuple[int, int], list[tuple[float, int]]] = {}
        for (source, target), parts in chances.items():
            group, chance = self.label.item(source), sum(parts)
            if group != target or chance > tolerance:
                into.setdefault((group, target), []).append((chance, source))
        # A state's mark is its clusters, one for each group that it moves to, in the order of these.
        marks: dict[int, dict[int, list[int]]] = {}
        cluster = 0
        for group, target in sorted(into):
            least = -1.0
            for chance, source in sorted(into[group, target]):
                if chance - least > (tolerance if group == target else tolerance * chance):
                    cluster, least = cluster + 1, chance
                marks.setdefault(group, {}).setdefault(source, []).append(cluster)
        waiting: list[int] = []
        for group, of in marks.items():
            parts_: dict[tuple[int, ...], list[int]] = {}
            for source in sorted(of):
                parts_.setdefault(tuple(of[source]), []).append(source)
            if len(parts_) > 1 or len(of) < self.size.item(group):
                waiting += self._divide_few(group, list(parts_.values()), len(of))
        return np.array(waiting, np.int64), bool(waiting)

    def _divide_few(self, group: int, parts: list[list[int]], touched: int) -> list[int]:
        """Do as `_divide` does, for one group."""
        rest = self.size.item(group) - touched
        parts.sort(key=len)
        numbers = []
        end = self.begin.item(group) + self.size.item(group)
        self.size[group] = rest
        for k, part in enumerate(parts):
            for state in part:
                end -= 1
                here, other = self.place.item(state), self.order.item(end)
                self.order[here], self.place[other] = other, here
                self.order[end], self.place[state] = state, end
            if rest or k + 1 < len(parts):
                number, self.number = self.number, self.number + 1
                self.label[part] = number
            else:
                number = group
            self.size[number], self.begin[number] = len(part), end
            numbers.append(number)
        # All but the largest part are looked at next; the largest may be the rest.
        if rest > len(parts[-1]):
            return numbers
        return numbers[:-1] + ([group] if rest else [])

    def _divide(self, states: Index, new: Flags, head: Flags) -> Index:
        """Make parts of groups: of states by group and part, where `new` begins a part and `head` a group."""
        group = self.label[states[head]]
        which = np.cumsum(head) - 1
        touched = np.bincount(which)
        rest = self.size[group] - touched
        tail = self.begin[group] + rest
        slots = ranges(tail, touched)
        self.touched[states] = True
        displaced = self.order[slots][~self.touched[self.order[slots]]]
        vacated = self.place[states][self.place[states] < tail[which]]
        self.touched[states] = False
        self.order[vacated], self.place[displaced] = displaced, vacated
        self.order[slots], self.place[states] = states, slots
        # Every part gets a number; where nothing is left of a group, its largest part has the group's.
        at = np.flatnonzero(new)
        sizes = np.diff(np.append(at, len(states)))
        of = which[at]
        by = np.lexsort((-sizes, of))
        largest = by[np.concatenate([[True], of[by][1:] != of[by][:-1]])]
        heir = np.zeros(len(at), bool)
        heir[largest[rest == 0]] = True
        numbers = np.where(heir, group[of], 0)
        numbers[~heir] = self.number + np.arange(int((~heir).sum()))
        self.number += int((~heir).sum())
        self.size[group], self.begin[group] = rest, self.begin[group]
        self.size[numbers], self.begin[numbers] = sizes, slots[at]
        self.label[states] = np.repeat(numbers, sizes)
        # All but the largest part are looked at next; the largest may be the rest.
        outweighed = rest > sizes[largest]
        wait = np.ones(len(at), bool)
        wait[largest[~outweighed]] = False
        smaller = group[(rest > 0) & ~outweighed]
        return np.concatenate([numbers[wait], smaller])
