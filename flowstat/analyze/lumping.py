"""Groups of nodes as the states of a smaller chain, where that is exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from scipy import sparse

from flowstat.analyze.derived import Derived, positions
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.partition import clusters, refine
from flowstat.analyze.solve import Index, Vector
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from flowstat.read.words import shown

__all__ = ["Groups", "Lumped", "coarsest", "lump"]

TOLERANCE = 1e-12
"""Chances are the same that differ by no more than this share of the larger one: sums of decimals are rounded."""

NAMED = 8
"""How many nodes a group's name lists at most."""

Groups = Mapping[str, Iterable[str]] | Iterable[Iterable[str]]
"""Name -> nodes, or just the nodes of each group."""


@dataclass(frozen=True, eq=False)
class Lumped(Derived):
    """A chain whose states are groups of another's nodes; `groups` are their nodes, in the order of `names`."""

    groups: tuple[tuple[str, ...], ...] = field(default=())


def lump(chain: Chain, groups: Groups, tolerance: float = TOLERANCE) -> Lumped:
    """Make groups of nodes the states of a chain, if that loses nothing.

    Groups are a Markov chain, wherever runs start, exactly if all nodes of a group have the same chances to move to
    each other group, and to stop. That is tested.

    Parameters
    ----------
    chain
        A chain.
    groups
        Name -> nodes, or just the nodes of each group. Nodes in none stay alone.
    tolerance
        Chances are taken to be the same that differ by no more than this share of the larger one, in [0, 1).

    Returns
    -------
    Lumped
        With the mean of the nodes' chances; `error_bound` is how far any node is off it, and rounding.

    Raises
    ------
    ChainError
        If a node is not there or in two groups, a group is empty, or two have one name.
    AnalysisError
        If the groups are no chain: it names the two nodes that differ most, and where they lead to.

    Notes
    -----
    Source: Kemeny and Snell, Finite Markov Chains (1960), theorem 6.3.2. Sorts the arrows once.

    Examples
    --------
    >>> twins = Chain.from_matrix(
    ...     [[0, .5, .5, 0], [0, 0, 0, .5], [0, 0, 0, .5], [0] * 4], ["in", "eu", "us", "out"], stop=[0, .5, .5, 1])
    >>> small = lump(twins, {"regions": ["eu", "us"]})
    >>> small.names, small.P.toarray()[0].tolist()
    (('in', 'regions', 'out'), [0.0, 1.0, 0.0])
    """
    label, names = _labelled(chain, groups)
    return _quotient(chain, label, names, _checked(tolerance))


def coarsest(chain: Chain, initial: Groups | None = None, tolerance: float = TOLERANCE) -> Lumped:
    """Find the fewest groups of nodes that are exactly a chain (see `lump`).

    Parameters
    ----------
    chain
        A chain.
    initial
        Groups to keep apart: no group that is found has nodes of two of them; all nodes in none are one group more. If
        not given, nodes are told apart by nothing but their chances to stop, and what follows from these.
    tolerance
        As for `lump`.

    Returns
    -------
    Lumped
        Its `groups` are in the order of their first nodes.

    Raises
    ------
    ChainError
        If a node is not there or in two groups, a group is empty, or two have one name.

    Notes
    -----
    See `flowstat.analyze.partition.refine`: O(m log^2 n) for m arrows, about a second for a million of them.

    Examples
    --------
    >>> ring = Chain.from_matrix(
    ...     [[0, .5, 0, .25], [.5, 0, .25, 0], [0, .5, 0, .25], [.5, 0, .25, 0]], ["a", "b", "c", "d"], stop=[.25] * 4)
    >>> coarsest(ring).groups
    (('a', 'b', 'c', 'd'),)
    >>> coarsest(ring, [["a"]]).groups
    (('a',), ('b', 'd'), ('c',))
    """
    tolerance = _checked(tolerance)
    n = len(chain.names)
    label, names = np.zeros(n, np.int64), [""]
    if initial is not None:
        label, names = _labelled(chain, initial, together=True)
    by = np.lexsort((chain.stop, label))
    stop = chain.stop[by]
    apart = np.concatenate([[True], (label[by][1:] != label[by][:-1]) | ((stop[1:] > 0) != (stop[:-1] > 0))])
    first = np.empty(n, np.int64)
    first[by] = clusters(stop, apart, tolerance * stop)
    found = refine(chain.P, first, tolerance)
    order = np.argsort(found, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(found))[:-1])
    whole = np.bincount(label)
    called = [
        names[label[m[0]]] if names[label[m[0]]] and whole[label[m[0]]] == len(m) else _called(chain, m)
        for m in members
    ]
    # Groups that agree one with the next may not agree all: then they are a chain to within their spread.
    return _quotient(chain, found, called, 4 * tolerance)


def _checked(tolerance: float) -> float:
    if not (isfinite(tolerance) and 0 <= tolerance < 1):
        raise AnalysisError(f"a tolerance is a share in [0, 1), not {tolerance}")
    return tolerance


def _called(chain: Chain, members: Index) -> str:
    """Return what a group is called: its node, or its nodes in braces."""
    names = [chain.names[i] for i in members[:NAMED]]
    if len(members) == 1:
        return str(names[0])
    more = len(members) - NAMED
    return "{" + ", ".join(names) + (f" and {more} more" if more > 0 else "") + "}"


def _labelled(chain: Chain, groups: Groups, together: bool = False) -> tuple[Index, list[str]]:
    """Return the group of each node, and the groups' names, in the order of their first nodes."""
    if isinstance(groups, str):
        raise ChainError("groups are name -> nodes, or a list of lists of nodes")
    named = list(groups.items()) if isinstance(groups, Mapping) else [("", nodes) for nodes in groups]
    group = np.full(len(chain.names), -1, np.int64)
    for k, (name, nodes) in enumerate(named):
        members = positions(chain, nodes)
        if (group[members] >= 0).any():
            twice = chain.names[members[group[members] >= 0][0]]
            raise ChainError(f"the node {shown(twice)!r} is in two groups")
        group[members] = k
        if name == END:
            raise ChainError(f"no group can be called {END!r}: that is where runs stop")
        if not name and not together:
            named[k] = _called(chain, members), nodes
    alone = np.flatnonzero(group < 0)
    group[alone] = len(named) if together else len(named) + np.arange(len(alone))
    names = [name for name, _ in named] + ([""] if together else [chain.names[i] for i in alone])
    _, first, label = np.unique(group, return_index=True, return_inverse=True)
    used = group[np.sort(first)]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[label], [names[k] for k in used]


def _quotient(chain: Chain, label: Index, names: list[str], tolerance: float) -> Lumped:
    """Return the chain of groups, or raise an AnalysisError if they are none."""
    g = len(names)
    size = np.bincount(label, minlength=g)
    rows, columns, values = chain.arrows()
    # The end is one group more.
    stopping = np.flatnonzero(chain.stop > 0)
    rows = np.concatenate([rows, stopping])
    target = np.concatenate([label[columns], np.full(len(stopping), g)])
    values = np.concatenate([values, chain.stop[stopping]])
    state, toward, chance, terms = _added(rows, target, values, g + 1)
    by = np.lexsort((chance, toward, label[state]))
    state, toward, chance = state[by], toward[by], chance[by]
    source = label[state]
    first = np.flatnonzero(
        np.concatenate([[True], (source[1:] != source[:-1]) | (toward[1:] != toward[:-1])]) if len(source) else []
    )
    last = np.append(first[1:], len(source)) - 1
    missing = size[source[first]] > last - first + 1
    low = np.where(missing, 0.0, chance[first])
    high = chance[last]
    slack = (tolerance + 2 * terms * UNIT) * high
    # What stays in the group is what the other chances leave of 1: it agrees where they do.
    violation = np.where(source[first] == toward[first], 0.0, high - low - slack)
    if len(first) and violation.max() > 0:
        worst = int(np.argmax(np.where(violation > 0, high - low, 0.0)))
        ends = first[worst], last[worst]
        small = _without(chain, label, state, ends) if missing[worst] else int(state[ends[0]])
        where = END if toward[ends[0]] == g else names[toward[ends[0]]]
        raise AnalysisError(
            f"these groups are no Markov chain: of {shown(names[source[ends[0]]])!r}, the node "
            f"{shown(chain.names[state[ends[1]]])!r} leads to {shown(where)!r} with {high[worst]:.6g} and "
            f"{shown(chain.names[small])!r} with {low[worst]:.6g}. `coarsest` finds groups that are one"
        )
    mean = np.add.reduceat(chance, first) / size[source[first]] if len(first) else np.zeros(0)
    spread = float((high - low).max(initial=0.0))
    into = toward[first]
    inner = into < g
    P = sparse.csr_array((mean[inner], (source[first][inner], into[inner])), shape=(g, g))
    P.sort_indices()
    stop = np.zeros(g)
    stop[source[first][~inner]] = mean[~inner]
    start = np.bincount(label, weights=chain.start, minlength=g).astype(np.float64)
    rounded = 1.01 * (terms + int(size.max()) + 4) * UNIT
    order = np.argsort(label, kind="stable")
    groups = tuple(tuple(chain.names[i] for i in members.tolist()) for members in np.split(order, np.cumsum(size)[:-1]))
    return Lumped(tuple(names), P, stop, start, error_bound=spread + rounded, groups=groups)


def _added(rows: Index, targets: Index, values: Vector, width: int) -> tuple[Index, Index, Vector, int]:
    """Add up the chances of each state to each group; return how many were added at most, too."""
    pair = rows * width + targets
    by = np.argsort(pair, kind="stable")
    pair = pair[by]
    first = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]])) if len(pair) else np.zeros(0, np.int64)
    sums = np.add.reduceat(values[by], first) if len(pair) else values
    most = int(np.diff(np.append(first, len(pair))).max(initial=0))
    return pair[first] // width, pair[first] % width, sums, most


def _without(chain: Chain, label: Index, state: Index, ends: tuple[int, int]) -> int:
    """Return a node of a group that is not among the states of a stretch."""
    members = np.flatnonzero(label == label[state[ends[0]]])
    return int(np.setdiff1d(members, state[ends[0] : ends[1] + 1])[0])
