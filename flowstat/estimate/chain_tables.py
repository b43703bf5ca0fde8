"""Chains as tables and graphs of other libraries: pandas frames and networkx graphs, in and out.

`Chain.from_matrix` takes numpy and scipy matrices; `chain.P` and `chain.closed()` give them back.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from flowstat.errors import ChainError
from flowstat.estimate.chain import END, Chain
from flowstat.read.words import is_storable, shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["chain_frame", "chain_from_frame", "chain_from_networkx"]

WHOLE = 2.0**53
"""From here on floats skip whole numbers, and so may be other nodes than those that were meant."""


def chain_frame(chain: Chain) -> pd.DataFrame:
    """Return a chain as a table: columns source, target, share.

    One row an arrow, by source; the target `(end)` is the stop; rows without a source are the start law, and come
    first. `chain_from_frame` reads it back as it was. Names that can't be encoded, for the half of a surrogate pair in
    them, are in columns of Python objects.

    Examples
    --------
    >>> frame = chain_frame(Chain.from_matrix([[0.25]], ["try"], stop=[0.75]))
    >>> frame.target.tolist(), frame.share.tolist()
    (['try', 'try', '(end)'], [1.0, 0.25, 0.75])
    """
    import pandas as pd

    rows, columns, values = chain.arrows()
    n = len(chain.names)
    begin, stops = np.flatnonzero(chain.start), np.flatnonzero(chain.stop)
    names = np.array([None, END, *chain.names], object)
    source = np.concatenate([np.full(len(begin), -2), rows, stops])
    target = np.concatenate([begin, columns, np.full(len(stops), n)])
    share = np.concatenate([chain.start[begin], values, chain.stop[stops]])
    by = np.lexsort((target, source))
    source, target, share = source[by], target[by], share[by]
    target = np.where(target == n, -1, target)
    kind = None if all(map(is_storable, chain.names)) else object
    ends = (pd.Series(names[at + 2], dtype=kind) for at in (source, target))
    return pd.DataFrame(dict(zip(("source", "target"), ends, strict=True)) | {"share": share})


def chain_from_frame(
    frame: pd.DataFrame, *, source: str = "source", target: str = "target", share: str = "share"
) -> Chain:
    """Make a chain of a table of arrows, or of a square one.

    Parameters
    ----------
    frame
        One row an arrow, as of `chain_frame`; or one row and one column a node, named alike, and perhaps a column
        `(end)`.
    source, target, share
        The columns of a table of arrows. Several rows of one arrow add up. A node that is a target only is where runs
        stop. Nodes that are no texts are named by what they are as text, and whole numbers alike whether they are
        floats or not: pandas makes floats of a column in which a number is missing.

    Raises
    ------
    ChainError
        If columns are missing, a row has no target, a share is no probability, two nodes are one as text or number (1
        and "1", 7 and "007"), or a row does not sum to 1 (it says by how much).

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame([["a", "b", 0.25], ["a", "(end)", 0.75]], columns=["source", "target", "share"])
    >>> chain_from_frame(table).stop
    array([0.75, 1.  ])
    """
    given = list(frame.columns)
    if all(column in given for column in (source, target, share)):
        start: dict[str, float] = {}
        arrows: list[tuple[str, str, float]] = []
        blank, lost = frame[source].isna().tolist(), np.flatnonzero(frame[target].isna().to_numpy())
        if len(lost):
            raise ChainError(
                f"row {lost[0] + 1} has no {target}: name a node, or {END} where runs stop (only a {source} may be "
                "missing, where runs start)"
            )
        sources, targets, shares = (frame[column].tolist() for column in (source, target, share))
        named = _named(a for a in (*sources, *targets) if not _missing(a))
        _apart(named)
        for nothing, a, b, p in zip(blank, sources, targets, shares, strict=True):
            value, into = _number(p, a, b), _text(b)
            if nothing:
                start[into] = start.get(into, 0.0) + value
            else:
                arrows.append((_text(a), into, value))
        names = [a for a, _, _ in arrows] + [b for _, b, _ in arrows if b != END] + list(start)
        return _chain(dict.fromkeys(names), arrows, {}, start)
    names_, columns_ = list(map(_text, frame.index)), list(map(_text, given))
    if set(columns_) - {END} != set(names_) or len(columns_) != len(set(columns_)) or len(names_) != len(set(names_)):
        raise ChainError(
            f"a chain is a table with the columns {source}, {target} and {share}, or one whose rows and columns are "
            f"the same nodes; this one has {len(names_)} rows and the columns {shown(', '.join(columns_), 80)}"
        )
    order = [columns_.index(name) for name in names_]
    try:
        values = frame.to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise ChainError(f"the table is not one of numbers: {error}") from None
    stop = values[:, columns_.index(END)] if END in columns_ else np.zeros(len(names_))
    return Chain.from_matrix(values[:, order], names_, stop=stop)


def chain_from_networkx(graph: Any, share: str = "share") -> Chain:
    """Make a chain of a directed graph of networkx, such as `Chain.to_networkx` gives.

    Parameters
    ----------
    graph
        A DiGraph or MultiDiGraph; arrows between the same two nodes add up. Node attributes `stop` and `start` are the
        chances to stop and to start there; a node without `stop` and arrows is where runs stop, and without any `start`
        runs start as `Chain.from_matrix` says. A node `(end)` is the stop itself.
    share
        The arrows' attribute that is their share.

    Raises
    ------
    ChainError
        If the graph is not directed, two nodes are one as text (1 and "1"), an arrow has no share, or a row does not
        sum to 1.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = nx.DiGraph()
    >>> graph.add_edge("a", "b", share=1)
    >>> chain_from_networkx(graph).stop
    array([0., 1.])
    """
    if not graph.is_directed():
        raise ChainError("a chain is a directed graph: this one is not")
    _named(graph)
    name = {node: _text(node) for node in graph}
    arrows = []
    for a, b, data in graph.edges(data=True):
        if share not in data:
            raise ChainError(f"the arrow {shown(name[a])} -> {shown(name[b])} has no attribute {share!r}")
        if name[a] != END:
            arrows.append((name[a], name[b], _number(data[share], a, b)))
    stop: dict[str, float] = {}
    start: dict[str, float] = {}
    for node, data in graph.nodes(data=True):
        for what, law in (("stop", stop), ("start", start)):
            if what in data and name[node] != END:
                law[name[node]] = _number(data[what], node, what)
    names = [each for each in name.values() if each != END]
    return _chain(names, arrows, stop, {node: p for node, p in start.items() if p})


def _missing(node: object) -> bool:
    """Return whether there is no node: None, or what does not equal itself (NaN, NaT), or pandas' NA."""
    return node is None or type(node).__name__ == "NAType" or bool(node != node)


def _text(node: object) -> str:
    """Return the name of a node; whole numbers alike, whether they are floats or not."""
    if isinstance(node, str):
        return str(node)
    if _missing(node):
        raise ChainError("a node without a name: None, NaN and NA name none")
    if isinstance(node, float | np.floating) and float(node).is_integer():
        if abs(float(node)) >= WHOLE:
            raise ChainError(f"the node {float(node)!r} is a float that may be several numbers: name it by a text")
        return str(int(node))
    return str(node)


def _named(nodes: Iterable[Hashable]) -> dict[str, object]:
    """Return the nodes by their names, or raise a ChainError for two of one name."""
    found: dict[str, object] = {}
    for node in nodes:
        text = _text(node)
        other = found.setdefault(text, node)
        if other is not node and other != node:
            raise ChainError(
                f"two nodes are the same as text: {shown(repr(other))} and {shown(repr(node))}: make texts of all, or "
                "numbers"
            )
    return found


def _apart(named: Mapping[str, object]) -> None:
    """Raise a ChainError for a text and a number that are the same number: columns may have been read unlike."""
    numbers = {text for text, node in named.items() if not isinstance(node, str)}
    if not numbers:
        return
    for text, node in named.items():
        if not isinstance(node, str):
            continue
        try:
            same = _text(float(text))
        except (ValueError, ChainError):
            continue
        if same in numbers:
            raise ChainError(
                f"a node is {shown(repr(named[same]))}, a number, and another is {shown(repr(text))}, a text: read "
                "both columns as texts (dtype=str), or both as numbers"
            )


def _number(value: Any, source: object, target: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ChainError(
            f"the share of {shown(str(source))} -> {shown(str(target))} is no number: {shown(repr(value))}"
        ) from None


def _chain(
    names: Iterable[str],
    arrows: Iterable[tuple[str, str, float]],
    stop: Mapping[str, float],
    start: Mapping[str, float],
) -> Chain:
    """Return a chain; arrows to `(end)` are stops, and nodes that nothing is said of are where runs stop."""
    index = {name: k for k, name in enumerate(names)}
    if END in index:
        raise ChainError(f"no node can be called {END!r}: that is where runs stop")
    ends = np.zeros(len(index))
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    silent = np.ones(len(index), bool)
    for name, p in stop.items():
        ends[index[name]] += p
        silent[index[name]] = False
    for a, b, p in arrows:
        silent[index[a]] = False
        if b == END:
            ends[index[a]] += p
        else:
            rows.append(index[a])
            columns.append(index[b])
            values.append(p)
    ends[silent] = 1.0
    n = len(index)
    P = sparse.csr_array(
        (np.array(values, np.float64), (np.array(rows, np.int64), np.array(columns, np.int64))), (n, n)
    )
    return Chain.from_matrix(P, list(index), dict(start) or None, stop=ends)
