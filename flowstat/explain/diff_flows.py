"""The most probable flows of both sides of a comparison: their chances, each with its variance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.flow_search import Search
from flowstat.analyze.flows import flows
from flowstat.analyze.solve import Index
from flowstat.explain.diff_sides import AnswerKind, Known, Side

__all__ = ["flows_of"]

ROOM = 20_000_000
"""How many numbers solving for all nodes of flows together may take."""

Path = tuple[tuple[str, ...], str, str]
"""Nodes, how the flow ends, and its outcome."""


def flows_of(sides: tuple[Side, Side], top: int) -> Iterator[tuple[AnswerKind, str, Known, Known]]:
    """Yield the chances of the most probable flows of either side, on both."""
    names: dict[Path, float] = {}
    for side in sides:
        for f in flows(side.chain, top).flows:
            key: Path = (f.nodes, f.kind, f.outcome)
            names[key] = max(names.get(key, 0.0), f.probability)
    told = [_flows(side, names) for side in sides]
    for key in sorted(names, key=lambda each: (-names[each], each)):
        nodes, kind, outcome = key
        yield "flow", " -> ".join((*nodes, *((outcome,) if kind == "trap" else ()))), told[0][key], told[1][key]


def _flows(side: Side, wanted: Iterable[Path]) -> dict[Path, Known]:
    """Return the chances of flows with their variances."""
    search, wide = Search(side.chain, side.chain.start), Search(side.wide.chain, side.wide.chain.start)
    paths = {key: tuple(side.chain.index[node] for node in key[0]) for key in wanted}
    solved = _Through(side.wide, paths.values())
    found = {}
    for key, path in paths.items():
        chance, wrong, _ = _chance(search, path, key[1] == "trap", key[2])
        near, _, into = _chance(wide, path, key[1] == "trap", key[2])
        variance = None
        if near > 0 and path:
            variance = solved.variance(path, near, into)
        elif near > 0:
            begin = np.where(wide.trap == wide.traps.index(key[2]), 1.0, 0.0)
            variance = float(side.wide.variance(np.zeros(side.wide.chain.P.nnz + side.n), begin))
        found[key] = Known(chance, wrong, variance)
    return found


def _chance(search: Search, path: tuple[int, ...], trapped: bool, outcome: str) -> tuple[float, float, Index | None]:
    """Return the chance of a flow, its bound, and the positions of the arrows by which it comes to its trap."""
    nothing = 0.0, 0.0, None
    if trapped and outcome not in search.traps:
        return nothing
    trap = search.traps.index(outcome) if trapped else -1
    if not path:
        p = float(search.law[search.trap == trap].sum())
        return p, len(search.law) * UNIT * p, None
    if any(search.trap[i] >= 0 for i in path):
        return nothing
    P, stop = search.chain.P, search.chain.stop
    weight, wrong = float(search.law[path[0]]), 4 * UNIT
    for k, i in enumerate(path):
        if not weight:
            return nothing
        step = search.step(path[: k + 1])
        wrong += 1.01 * step.wrong + 8 * UNIT
        span = slice(int(P.indptr[i]), int(P.indptr[i + 1]))
        if k + 1 < len(path):
            onward = P.data[span][P.indices[span] == path[k + 1]]
        elif trapped:
            onward = P.data[span][search.trap[P.indices[span]] == trap]
        else:
            onward = stop[[i]]
        weight = weight / step.never * float(onward.sum())
    into = np.flatnonzero(search.trap[P.indices[span]] == trap) + int(P.indptr[i]) if trapped else None
    return weight, 1.01 * wrong * weight, into


class _Through:
    """Expected visits from and to the nodes of some flows, for the variances of their chances.

    `pi = law(first) prod p stop(last) det N[f, f]`, and `d log det N[f, f] / d p_ij` is the sum of `N_jb M_ba N_ai`
    over the nodes a, b of the flow, with M the inverse of N[f, f] (Jacobi's formula).
    """

    def __init__(self, side: Side, paths: Iterable[tuple[int, ...]]) -> None:
        self.side = side
        through = sorted({i for path in paths for i in path if not side.closed[i]})
        self.place = {i: k for k, i in enumerate(through)}
        self.known = len(through) * (side.n + side.chain.P.nnz) <= ROOM
        if self.known and through:
            unit = np.zeros((side.n, len(through)))
            unit[through, np.arange(len(through))] = 1.0
            self.back = side.solver.backward(unit).values
            forth = side.solver.visits(unit)[0].values
            self.forth = np.where(np.isfinite(forth), forth, 0.0)

    def variance(self, path: tuple[int, ...], chance: float, into: Index | None) -> float | None:
        """Return the variance of the chance of a flow; None where solving would take too much."""
        if not self.known:
            return None
        side, P = self.side, self.side.chain.P
        at = [self.place[i] for i in path]
        worth = self.back[:, at] @ np.linalg.inv(self.back[np.ix_(path, at)])
        forth = self.forth[:, at]
        gradient = np.zeros(P.nnz + side.n)
        for a in range(len(path)):
            gradient[: P.nnz] += worth[side.columns, a] * forth[side.rows, a]
        for i, j in pairwise(path):
            span = slice(int(P.indptr[i]), int(P.indptr[i + 1]))
            k = span.start + int(np.flatnonzero(P.indices[span] == j)[0])
            gradient[k] += 1 / side.shares[k]
        if into is not None:
            gradient[into] += 1 / side.shares[into].sum()
        else:
            gradient[P.nnz + path[-1]] += 1 / side.chain.stop[path[-1]]
        begin = np.zeros(side.n)
        begin[path[0]] = 1 / side.chain.start[path[0]]
        return float(side.variance(chance * gradient, chance * begin))
