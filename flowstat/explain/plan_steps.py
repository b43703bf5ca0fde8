"""What an event can do in a graph: emit a key, which goes along all arrows that match it; as a plan sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flowstat.estimate.chain import Chain
from flowstat.read.graph import Arrow
from flowstat.read.topics import ANY_KEY, matches

__all__ = ["Step", "Ways", "key_for", "ways_of"]

WORDS = ("x", "x1", "x2", "other", "any")
"""What stands for a `*` or `#` of a key, the first that no other arrow takes too."""


@dataclass(frozen=True)
class Step:
    """One emit of a node: its key, the arrows that take it (by position), and the nodes that get a copy, each one."""

    source: int
    key: str
    arrows: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Ways:
    """All steps of a graph that a plan chooses from.

    Attributes
    ----------
    arrows
        Source, key and target of each arrow.
    steps
        The steps of each node; each arrow is in one of them at least.
    ends
        Where a run may end.
    open
        Nodes of classes that nothing leaves and where nothing ends: a run that goes there is cut off.
    starts
        Where a run may start.
    """

    names: tuple[str, ...]
    arrows: tuple[Arrow, ...]
    steps: tuple[tuple[Step, ...], ...]
    ends: frozenset[int]
    open: frozenset[int]
    starts: tuple[int, ...]


def key_for(pattern: str, others: Iterable[str]) -> str:
    """Return a key that a pattern takes and as few as can be of some others do.

    Examples
    --------
    >>> key_for("retry.*", ["ok"]), key_for("#", ["ok", "x"]), key_for("eu.#", ["eu"])
    ('retry.x', '', 'eu.x')
    """
    if not _is_wild(pattern):
        return pattern
    others = list(others)
    words = pattern.split(".")
    tried = []
    for several in ((), *((word,) for word in WORDS)):
        for one in WORDS:
            filled = [w for word in words for w in (several if word == "#" else (one,) if word == "*" else (word,))]
            key = ".".join(filled)
            if matches(pattern, key):
                tried.append(key)
    return min(tried, key=lambda key: sum(matches(other, key) for other in others))


def _is_wild(pattern: str) -> bool:
    """Whether a pattern takes more than one key."""
    return any(word in ("*", "#") for word in pattern.split("."))


def ways_of(chain: Chain, starts: tuple[int, ...]) -> Ways:
    """Return what events can do in a chain's graph; of a chain without one, each pair is an arrow by itself."""
    index, graph = chain.index, chain.graph
    if graph is not None:
        arrows = graph.arrows
    else:
        rows, columns, _ = chain.arrows()
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        arrows = tuple(Arrow(chain.names[i], ANY_KEY, chain.names[j]) for i, j in pairs)
    own: list[list[int]] = [[] for _ in chain.names]
    for k, arrow in enumerate(arrows):
        own[index[arrow.source]].append(k)
    steps = [
        _steps(chain, i, arrows, mine) if graph is not None else _singly(chain, i, arrows, mine)
        for i, mine in enumerate(own)
    ]
    ends = frozenset(i for i, mine in enumerate(own) if not mine or chain.stop[i] > 0)
    shut = _never_ending(steps, ends)
    return Ways(chain.names, arrows, tuple(steps), ends, shut, starts)


def _steps(chain: Chain, i: int, arrows: tuple[Arrow, ...], mine: list[int]) -> tuple[Step, ...]:
    """Return the steps of a node: for each of its arrows one key, and what takes that."""
    plain: dict[str, list[int]] = {}
    wild = [k for k in mine if _is_wild(arrows[k].key)]
    for k in mine:
        plain.setdefault(arrows[k].key, []).append(k)
    others = [arrows[k].key for k in mine if not _is_wild(arrows[k].key)] if wild else []
    found: dict[tuple[int, ...], Step] = {}
    for pattern in plain:
        key = key_for(pattern, (*others, *(arrows[k].key for k in wild if arrows[k].key != pattern)))
        # Only what is a wildcard, or the key itself, can match.
        taken = tuple(sorted({*plain.get(key, ()), *(k for k in wild if matches(arrows[k].key, key))}))
        targets = tuple(dict.fromkeys(chain.index[arrows[k].target] for k in taken))
        found.setdefault(taken, Step(i, key, taken, targets))
    return tuple(found.values())


def _singly(chain: Chain, i: int, arrows: tuple[Arrow, ...], mine: list[int]) -> tuple[Step, ...]:
    """Return a step for each arrow, with the target's name for its key."""
    return tuple(Step(i, arrows[k].target, (k,), (chain.index[arrows[k].target],)) for k in mine)


def _never_ending(steps: list[tuple[Step, ...]], ends: frozenset[int]) -> frozenset[int]:
    """Return the nodes from which no run can end: those from which some step has no end at all of its targets."""
    into: dict[int, list[tuple[int, int]]] = {}
    waiting: dict[tuple[int, int], int] = {}
    for i, own in enumerate(steps):
        for s, step in enumerate(own):
            waiting[i, s] = len(step.targets)
            for j in step.targets:
                into.setdefault(j, []).append((i, s))
    able, queue = set(ends), list(ends)
    while queue:
        for i, s in into.get(queue.pop(), ()):
            waiting[i, s] -= 1
            if not waiting[i, s] and i not in able:
                able.add(i)
                queue.append(i)
    return frozenset(range(len(steps))) - able
