"""The columns of a diagram of flows: what follows what has no cycle, and what always comes together is one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

__all__ = ["Key", "Stop", "columns_of", "joined", "routes_of"]

Key = tuple[str, Hashable]
"""A kind, and what it is."""

Stop = tuple[tuple[Key, int], ...]
"""A node, or several that follow each other, each with its number: 0, or more where it is drawn again."""


def routes_of(paths: Sequence[Sequence[Key]]) -> list[tuple[Stop, ...]]:
    """Return the paths as stops, each key one stop as long as what follows what has no cycle.

    Examples
    --------
    >>> a, b = ("node", "a"), ("node", "b")
    >>> routes_of([[a, b], [b, a]])[1]
    (((('node', 'b'), 0),), ((('node', 'a'), 1),))
    """
    after: dict[Stop, set[Stop]] = defaultdict(set)

    def leads(source: Stop, target: Stop) -> bool:
        seen, work = {source}, [source]
        while work:
            now = work.pop()
            if now == target:
                return True
            more = after[now] - seen
            seen |= more
            work.extend(more)
        return False

    found = []
    for path in paths:
        route: list[Stop] = []
        for key in path:
            copy = 0
            stop: Stop = ((key, copy),)
            while route and stop not in after[route[-1]] and leads(stop, route[-1]):
                copy += 1
                stop = ((key, copy),)
            if route:
                after[route[-1]].add(stop)
            route.append(stop)
        found.append(tuple(route))
    return found


def columns_of(routes: Sequence[Sequence[Stop]]) -> dict[Stop, int]:
    """Return the column of each stop: the longest way there; what is last in a route is in the last one."""
    before: dict[Stop, set[Stop]] = defaultdict(set)
    order: dict[Stop, None] = {}
    for route in routes:
        for k, each in enumerate(route):
            order.setdefault(each)
            if k:
                before[each].add(route[k - 1])
    column: dict[Stop, int] = {}
    for each in order:
        work = [each]
        while work:
            now = work[-1]
            missing = [b for b in before[now] if b not in column]
            if missing:
                work.extend(missing)
            else:
                column[work.pop()] = max((column[b] + 1 for b in before[now]), default=0)
    end = max(max(column.values(), default=0), 1)
    return column | {route[-1]: end for route in routes}


def joined(routes: Sequence[Sequence[Stop]]) -> list[tuple[Stop, ...]]:
    """Return the routes with stops that all flows make one after the other as one; but for the last ones."""
    following: dict[Stop, set[Stop | None]] = defaultdict(set)
    leading: dict[Stop, set[Stop | None]] = defaultdict(set)
    last = {route[-1] for route in routes}
    for route in routes:
        for k, each in enumerate(route):
            following[each].add(route[k + 1] if k + 1 < len(route) else None)
            leading[each].add(route[k - 1] if k else None)
    found: list[tuple[Stop, ...]] = []
    for route in routes:
        made: list[Stop] = []
        previous: Stop | None = None
        for each in route:
            if previous and following[previous] == {each} and leading[each] == {previous} and each not in last:
                made[-1] += each
            else:
                made.append(each)
            previous = each
        found.append(tuple(made))
    return found
