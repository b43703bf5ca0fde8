"""A chain as it is seen on some of its nodes only: the others are passed through unseen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.derived import MOST, Derived, law_of, positions
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law

__all__ = ["restrict"]

SLICE = 32
"""How many columns are solved for at once: what they hold is that many numbers a node."""


def restrict(chain: Chain, nodes: Iterable[str], start: Start = None) -> Derived:
    """Watch a chain on some nodes only (the censored chain, or stochastic complement).

    A run goes from one watched node to the next one it comes to, whatever is between; it stops where it is
    seen last, whether it stops unseen or is trapped unseen.

    Parameters
    ----------
    chain
        A chain.
    nodes
        Those that are watched.
    start
        A node or a law over nodes, watched or not; the chain's start law if not given.

    Returns
    -------
    Derived
        Over the watched nodes, in the chain's order. It starts where a run is first seen, among the runs that are
        seen at all: `chance` is their share. Visits of it, times `chance`, are visits of the chain.

    Raises
    ------
    ChainError
        If a node is not there or none is named, or the start is no law over the nodes.
    AnalysisError
        If no run comes to the nodes, a class of the others is too large and too close to closed to be solved, or there
        would be more than 50 million arrows.

    Notes
    -----
    `P_KK + P_KC (I - P_CC)^-1 P_CK` for watched nodes K and others C; the rest of a row is `stop_K + P_KC x` with the
    chance x never to come to K, solved for without subtraction. Source: Meyer, SIAM Review 31 (1989), section 2; Kemeny
    and Snell, Finite Markov Chains (1960), section 6.1. Parts of C that do not touch are solved together. The cost is
    that of one solution (see `flowstat.analyze.solve`) for every node of K that the widest part leads to, or that leads
    into it, whichever are fewer; the memory, the new arrows.

    Examples
    --------
    >>> shop = Chain.from_matrix(
    ...     [[0, 1, 0], [.25, 0, .5], [0, 0, 0]], ["cart", "pay", "ship"], "cart", stop=[0, .25, 1])
    >>> seen = restrict(shop, ["cart", "ship"])
    >>> seen.P.toarray(), seen.stop
    (array([[0.25, 0.5 ],
           [0.  , 0.  ]]), array([0.25, 1.  ]))
    """
    keep = positions(chain, nodes)
    law = start_law(chain, start)
    inner = _Inner.of(chain, keep)
    m = len(keep)
    # The start is one row more: it is as if a watched node led there.
    begin = sparse.csr_array(law[None, :])
    begin.eliminate_zeros()
    rows = sparse.csr_array(sparse.vstack([chain.P[keep], begin], format="csr"))
    near, far = sparse.csr_array(rows[:, keep]), sparse.csr_array(rows[:, inner.others])
    never = inner.never()
    P, bound = inner.through(far)
    terms = 1.01 * (int(np.diff(rows.indptr).max(initial=0)) + 4) * UNIT
    P = sparse.csr_array(near + P)
    bound = sparse.csr_array(bound + terms * P)
    ends = np.concatenate([chain.stop[keep], [0.0]]) + far @ never[0]
    ends_bound = far @ never[1] + terms * ends
    refusal = "no run comes to any of these nodes: start elsewhere, or watch others"
    first, doubt, chance, off = law_of(_row(P, m), _row(bound, m), refusal)
    entries = sparse.csr_array(P[:m])
    entries.eliminate_zeros()
    entries.sort_indices()
    worst = max(float(part.max(initial=0.0)) for part in (sparse.csr_array(bound[:m]).data, ends_bound[:m], doubt))
    return Derived(
        tuple(chain.names[i] for i in keep),
        entries,
        ends[:m],
        first,
        error_bound=1.01 * worst,
        chance=chance,
        chance_bound=off,
    )


def _row(matrix: sparse.csr_array, i: int) -> Vector:
    return np.asarray(matrix[[i]].toarray()).ravel()


@dataclass(frozen=True)
class _Inner:
    """The nodes that are passed through, in a chain whose watched nodes are ends."""

    keep: Index
    others: Index
    solver: Solver
    part: Index
    """Which of the parts that do not touch each of the others is in."""

    @classmethod
    def of(cls, chain: Chain, keep: Index) -> _Inner:
        n = len(chain.names)
        watched = np.zeros(n, bool)
        watched[keep] = True
        others = np.flatnonzero(~watched)
        rows, columns, values = chain.arrows()
        values = np.where(watched[rows], 0.0, values)
        inner = sparse.csr_array((values, (rows, columns)), shape=(n, n))
        inner.eliminate_zeros()
        between = chain.P[others][:, others]
        _, part = csgraph.connected_components(between, directed=True, connection="weak")
        solver = Solver(inner, np.where(watched, 1.0, chain.stop))
        return cls(keep, others, solver, part.astype(np.int64))

    def never(self) -> tuple[Vector, Vector]:
        """Return the chance never to come to a watched node from each of the others, and its bound."""
        gain = self.solver.leaving.copy()
        gain[self.keep] = 0.0
        found = self.solver.backward(gain, closed=1.0)
        return found.values[self.others], found.bound[self.others]

    def through(self, far: sparse.csr_array) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return `far (I - P_CC)^-1 P_CK` and a bound of its error."""
        out = _Arrows.of(self.solver.P[self.others][:, self.keep])
        into = _Arrows.of(far)
        if not len(out.values) or not len(into.values):
            return sparse.csr_array((far.shape[0], len(self.keep))), sparse.csr_array((far.shape[0], len(self.keep)))
        targets = _Columns(self.part[out.rows], out.columns)
        sources = _Columns(self.part[into.columns], into.rows)
        if _fewer(targets.width, sources.width):
            used = np.unique(into.columns)
            x, doubt = self._arriving(out, targets, used)
            some = sparse.csr_array(far[:, used])
            most = int(np.bincount(into.rows).max())
            return _product(some, sparse.csr_array(some.shape), x, doubt, (most + 3) * UNIT)
        v, doubt = self._visited(into, sources, far.shape[0])
        last = sparse.csr_array(self.solver.P[self.others][:, self.keep])
        most = int(np.bincount(out.columns).max())
        return _product(v, doubt, last, sparse.csr_array(last.shape), (most + 3) * UNIT)

    def _arriving(self, out: _Arrows, columns: _Columns, used: Index) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return the chance to come first to each watched node from some of the others, and its bound."""
        n, shape = self.solver.n, (len(used), len(self.keep))
        found: list[tuple[Index, Index, Vector, Vector]] = []
        for begin, end in columns.slices():
            gain = np.zeros((n, end - begin))
            inside = (columns.place >= begin) & (columns.place < end)
            gain[self.others[out.rows[inside]], columns.place[inside] - begin] = out.values[inside]
            solved = self.solver.backward(gain)
            x, bound = solved.values[self.others[used]], solved.bound[self.others[used]]
            i, k = np.nonzero((x > 0) | (bound > 0))
            known, node = columns.find(self.part[used[i]], k + begin)
            i, k = i[known], k[known]
            found.append((i, node, x[i, k], bound[i, k]))
            _limited(found)
        return _assembled(found, shape)

    def _visited(self, into: _Arrows, columns: _Columns, rows: int) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return expected visits of the others between two watched nodes, from each row, and their bound."""
        n, shape = self.solver.n, (rows, len(self.others))
        found: list[tuple[Index, Index, Vector, Vector]] = []
        for begin, end in columns.slices():
            start = np.zeros((n, end - begin))
            inside = (columns.place >= begin) & (columns.place < end)
            start[self.others[into.columns[inside]], columns.place[inside] - begin] = into.values[inside]
            visited, _ = self.solver.visits(start)
            v, bound = visited.values[self.others], visited.bound[self.others]
            # Nothing leads out of where a run is for ever.
            i, k = np.nonzero(np.isfinite(v) & ((v > 0) | (bound > 0)))
            known, row = columns.find(self.part[i], k + begin)
            i, k = i[known], k[known]
            found.append((row, i, v[i, k], bound[i, k]))
            _limited(found)
        return _assembled(found, shape)


def _fewer(targets: int, sources: int) -> bool:
    """Return whether to solve for the watched nodes that are come to, and not for those that lead out."""
    return targets <= sources


@dataclass(frozen=True)
class _Arrows:
    """The entries of a matrix."""

    rows: Index
    columns: Index
    values: Vector

    @classmethod
    def of(cls, matrix: sparse.csr_array) -> _Arrows:
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        return cls(rows, matrix.indices.astype(np.int64), matrix.data)


class _Columns:
    """Which column of a system stands for which node, in each part: parts that do not touch share the columns."""

    def __init__(self, parts: Index, nodes: Index) -> None:
        pairs, self._at = np.unique(np.stack([parts, nodes]), axis=1, return_inverse=True)
        first = np.searchsorted(pairs[0], pairs[0])
        self._place = np.arange(pairs.shape[1]) - first
        self._begins = np.searchsorted(pairs[0], np.arange(int(pairs[0].max(initial=-1)) + 2))
        self._nodes = pairs[1]
        self.place = self._place[self._at.ravel()]
        """The column of each (part, node) that was given."""
        self.width = int(self._place.max(initial=-1)) + 1

    def slices(self) -> Iterator[tuple[int, int]]:
        for begin in range(0, self.width, SLICE):
            yield begin, min(begin + SLICE, self.width)

    def find(self, parts: Index, places: Index) -> tuple[Index, Index]:
        """Return which of some (part, column) stand for a node, and for which."""
        inside = parts < len(self._begins) - 1
        at = np.where(inside, self._begins[np.minimum(parts, len(self._begins) - 2)] + places, 0)
        inside &= at < self._begins[np.minimum(parts + 1, len(self._begins) - 1)]
        return np.flatnonzero(inside), self._nodes[at[inside]]


def _limited(found: list[tuple[Index, Index, Vector, Vector]]) -> None:
    """Raise an AnalysisError where what was found so far would fill the memory."""
    if sum(len(rows) for rows, *_ in found) > MOST:
        raise AnalysisError(
            f"between these nodes and the others there are more than {MOST:,} ways: watch fewer nodes, or more"
        )


def _assembled(
    found: list[tuple[Index, Index, Vector, Vector]], shape: tuple[int, int]
) -> tuple[sparse.csr_array, sparse.csr_array]:
    rows, columns, values, bounds = (np.concatenate(column) for column in zip(*found, strict=True))
    return tuple(sparse.csr_array((each, (rows, columns)), shape=shape) for each in (values, bounds))  # type: ignore[return-value]


def _product(
    a: sparse.csr_array, a_bound: sparse.csr_array, b: sparse.csr_array, b_bound: sparse.csr_array, terms: float
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return a product of two matrices, and a bound of its error; a sum of it loses `terms` of its size."""
    if min(int(np.diff(b.indptr)[a.indices].sum()), a.shape[0] * b.shape[1]) > MOST:
        raise AnalysisError(f"seen on these nodes, the chain may have more than {MOST:,} arrows: watch fewer nodes")
    product = sparse.csr_array(a @ b)
    bound = a @ b_bound + a_bound @ (b + b_bound) + terms * product
    return product, sparse.csr_array(1.01 * bound)
