"""Chains as tables and graphs of other libraries: pandas frames and networkx graphs, in and out.

`Chain.from_matrix` takes numpy and scipy matrices; `chain.P` and `chain.closed()` give them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from flowstat.errors import ChainError
from flowstat.estimate.chain import END, Chain
from flowstat.read.words import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["chain_frame", "chain_from_frame", "chain_from_networkx"]


def chain_frame(chain: Chain) -> pd.DataFrame:
    """Return a chain as a table: columns source, target, share.

    One row an arrow, by source; the target `(end)` is the stop; rows without a source are the start law, and come
    first. `chain_from_frame` reads it back as it was.

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
    return pd.DataFrame({"source": names[source + 2], "target": names[target + 2], "share": share})


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
        The columns of a table of arrows. Several rows of one arrow add up.

    Raises
    ------
    ChainError
        If columns are missing, a share is no probability, or a row does not sum to 1 (it says by how much). A node that
        is a target only is where runs stop.

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
        blank = frame[source].isna().tolist()
        columns = (frame[source].tolist(), frame[target].tolist(), frame[share].tolist())
        for nothing, a, b, p in zip(blank, *columns, strict=True):
            value = _number(p, a, b)
            if nothing:
                start[str(b)] = start.get(str(b), 0.0) + value
            else:
                arrows.append((str(a), str(b), value))
        names = [a for a, _, _ in arrows] + [b for _, b, _ in arrows if b != END] + list(start)
        return _chain(dict.fromkeys(names), arrows, {}, start)
    names_ = [str(name) for name in frame.index]
    columns_ = [str(name) for name in given]
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
        If the graph is not directed, two nodes have one name, an arrow has no share, or a row does not sum to 1.

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
    name = {node: str(node) for node in graph}
    if len(set(name.values())) < len(name):
        raise ChainError("two nodes of the graph have the same name as text")
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
