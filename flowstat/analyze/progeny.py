"""Expected numbers of messages: `alpha (I - M)^-1` and `(I - M)^-1 b` of a mean matrix M, whose rows may exceed 1.

Where the roots of all classes are below 1 there is a v > 0 with `M v <= v`, and `v_i^-1 M_ij v_j` is a chain, which
`Solver` solves without subtraction and with its bounds. v is a product of two factors: within a class that spreads, of
which events send several messages to the class itself, the expected messages s of `positive`; between classes a power
of two, so that no node passes on more than what leaves it. What does not spread keeps its own chances of leaving: none
is 1 minus a sum. Where a node that its class is never left from passes something on, no power of two helps, and the
classes are solved one by one with what leaves them apart from what they pass on.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.offspring import EXACT, Offspring
from flowstat.analyze.positive import positive
from flowstat.analyze.search import Index, Mask, Vector
from flowstat.analyze.solve import Solved, Solver
from flowstat.errors import AnalysisError

__all__ = ["Means"]

CLOSE = 1e-11
"""From which doubt on a small class is taken apart in fractions."""

LOOSE, FINE = 0.05, 2e-11
"""How far rounding may move the answers of all spreading classes together, relatively; and from where on the residual
is looked at."""

ROUGH = 1e-4
"""How far answers may be off, relative to the largest one of a class: their bounds tell how far they are."""

LOST = 1e-300

TOO_CLOSE = "a class is too close to critical for its expected messages to be known"

DEEP = 900
"""By how many powers of two classes may multiply what they pass on."""


class Means:
    """Solves the mean system among some nodes, of which every class has a root below 1.

    Parameters
    ----------
    law
        An offspring law.
    keep : (n,)
        The nodes; classes are in it as a whole or not at all. Arrows that leave them are left out.

    Raises
    ------
    AnalysisError
        If a class is so close to critical, or so deep a tree of classes multiplies so much, that nothing can be said.
    """

    def __init__(self, law: Offspring, keep: Mask) -> None:
        self.n, self.states = len(keep), np.flatnonzero(keep)
        M = law.mean if keep.all() else sparse.csr_array(law.mean[self.states][:, self.states])
        label = law.order.label[self.states]
        rows = np.repeat(np.arange(len(self.states)), np.diff(M.indptr))
        across = label[rows] != label[M.indices]
        weight, exits, slack = self._classes(law, label, M)
        scaled = M.data * weight[M.indices] / weight[rows]
        found = _depths(rows, M.indices.astype(np.int64), label, across, scaled, exits, law.unit)
        depth = np.zeros(int(label.max()) + 1, np.int64) if found is None else found
        self.v = weight * np.exp2(-depth[label].astype(np.float64))
        scaled = scaled * np.exp2((depth[label[rows]] - depth[label[M.indices]]).astype(np.float64))
        passed = np.bincount(rows[across], weights=scaled[across], minlength=len(label))
        P = sparse.csr_array((scaled, M.indices, M.indptr), shape=M.shape)
        self.solver = Apart(P, exits) if found is None else Solver(P, np.maximum(exits - passed, 0.0), ROUGH)
        # Changing k chances of leaving by e changes every answer by no more than k e: see `elimination.rounding`.
        self.slack = 2.2 * slack + (0.0 if not law.fans_out else 8 * UNIT + 2 * self.solver.unit)
        self.unit, self._M = law.unit, M

    def _classes(self, law: Offspring, label: Index, M: sparse.csr_array) -> tuple[Vector, Vector, float]:
        """Return each node's weight in its class, its chance of leaving under it, and the doubt of the latter."""
        weight, exits = np.ones(len(label)), law.leaving[self.states].copy()
        slack = 0.0
        members = None
        for c in np.unique(label[law.spreading[label]]).tolist():
            if members is None:
                order = np.argsort(label, kind="stable")
                members = order, np.searchsorted(label[order], np.arange(len(law.order.offsets)))
            states = members[0][members[1][c] : members[1][c + 1]]
            found = positive(sparse.csr_array(M[states][:, states]), 0.0)
            doubt = np.inf if found is None else float(((found.s - found.A @ found.s) / found.least).max()) - 1
            if doubt > CLOSE and len(states) <= EXACT:
                s, left = exact_slack(law, self.states[states])
                weight[states], exits[states] = s / s.max(), left / s
                slack += 8 * len(states) * UNIT
                continue
            if found is None:
                raise AnalysisError(
                    f"a class of {len(states)} nodes is too close to critical for its expected messages to be known"
                )
            weight[states] = found.s / found.s.max()
            left = found.s - found.A @ found.s
            exits[states] = left / found.s
            slack += len(states) * (doubt + 8 * UNIT)
        return weight, exits, slack

    def backward(self, gain: Vector, doubt: Vector | float = 0.0) -> Solved:
        """Return `(I - M)^-1 gain`, of the kept nodes (k,) or (k, m); `gain` is at least 0 and off by up to `doubt`."""
        v = self.v if gain.ndim == 1 else self.v[:, None]

        def solve(right: Vector, off: Vector) -> Solved:
            x = self.solver.backward(right / v, gain_bound=off / v)
            return Solved(x.values * v, x.bound * v)

        return self._told(self._M, gain, np.broadcast_to(doubt, gain.shape), solve)

    def visits(self, start: Vector) -> Solved:
        """Return `start (I - M)^-1`, of the kept nodes, (k,) or (k, m)."""
        v = self.v if start.ndim == 1 else self.v[:, None]

        def solve(right: Vector, off: Vector) -> Solved:
            x, _ = self.solver.visits(right * v, off * v)
            return Solved(x.values / v, x.bound / v)

        return self._told(sparse.csr_array(self._M.T), start, np.zeros_like(start), solve)

    def _told(self, A: sparse.csr_array, right: Vector, doubt: Vector, solve: Callable[..., Solved]) -> Solved:
        """Return the solution of `x = right + A x`, with the smaller one of two bounds.

        One is that of the chain, and of how well its chances of leaving are known. The other one is e with
        `(I - A) e >= |r|`, r being the residual: there is no negative entry in the inverse.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                x = solve(right, doubt)
            except AnalysisError as error:
                raise AnalysisError(TOO_CLOSE) from error
            size = np.abs(x.values)
            bound = np.full_like(size, np.inf)
            if self.slack <= LOOSE:
                bound = 1.01 * (x.bound * (1 + self.slack) + self.slack * size + 4 * UNIT * size)
            if self.slack > FINE:
                unit = 1.01 * ((int(np.diff(A.indptr).max(initial=0)) + 6) * UNIT + self.unit)
                left = np.abs(right - (x.values - A @ x.values)) + unit * (right + size + A @ size) + doubt
                try:
                    e = 1.02 * solve(left, np.zeros_like(left)).values
                except AnalysisError:
                    e = np.zeros_like(left)
                inside = A @ e
                proven = ((e - inside) - unit * (e + inside) >= left).all(axis=0)
                # What is lost below the least numbers, 5e-324 an operation, adds up to less than LOST.
                lost = LOST * np.maximum(1.0, size.max(axis=0, initial=0.0))
                bound = np.where(proven, np.fmin(bound, e + lost), bound)
        if not np.isfinite(x.values).all():
            raise AnalysisError("there are more messages than can be counted: they multiply from class to class")
        if not np.isfinite(bound).all():
            raise AnalysisError(TOO_CLOSE)
        return Solved(x.values, bound)


class Apart(Solver):
    """A solver of which a class may pass on more than what leaves it; classes are solved one by one.

    `exits` are the chances to leave the class; the arrows between classes are not among them.
    """

    def __init__(self, P: sparse.csr_array, exits: Vector) -> None:
        super().__init__(P, exits, ROUGH)
        inner = np.where((self.label[self.rows] == self.label[P.indices]) & (self.rows != P.indices), P.data, 0.0)
        self.exits = exits
        self.moving = np.bincount(self.rows, weights=inner, minlength=self.n) + exits

    def _stretches(self, most: int = 0) -> list[tuple[int, int, bool]]:
        return [(0, len(self.classes), False)]


def exact_slack(law: Offspring, states: Index) -> tuple[Vector, Vector]:
    """Return a vector s > 0 of a small class, and `s - A s`, right to the last digit, by fractions; (k,) each.

    The root of the class must be below 1.
    """
    A = law.exact_block(states.tolist())
    k = len(A)
    rows = [[*((i == j) - A[i][j] for j in range(k)), Fraction(1)] for i in range(k)]
    for m in range(k):
        for i in range(k):
            if i != m and rows[i][m]:
                f = rows[i][m] / rows[m][m]
                rows[i] = [a - f * b if b else a for a, b in zip(rows[i], rows[m], strict=True)]
    whole = [float(rows[m][k] / rows[m][m]) for m in range(k)]
    s = [Fraction(value) for value in whole]
    left = [s[i] - sum((a * b for a, b in zip(A[i], s, strict=True)), Fraction(0)) for i in range(k)]
    if min(left) <= 0:
        raise AnalysisError(f"a class of {k} nodes is too close to critical for its expected messages to be known")
    return np.array(whole), np.array([float(value) for value in left])


def _depths(
    rows: Index, columns: Index, label: Index, across: Mask, scaled: Vector, exits: Vector, unit: float
) -> Index | None:
    """Return, for every class, by how many powers of two it is scaled down, so that no node passes on more than leaves.

    None if that takes too many.
    """
    classes = int(label.max(initial=-1)) + 1
    passed = np.bincount(rows[across], weights=scaled[across], minlength=len(label))
    degree = np.bincount(rows, minlength=len(label)) + 8
    over = passed > exits * (1 + unit + degree * UNIT)
    depth = np.zeros(classes, np.int64)
    if not over.any():
        return depth
    shift = np.zeros(classes, np.int64)
    with np.errstate(divide="ignore", over="ignore"):
        need = np.ceil(np.log2(passed[over] / exits[over]) + 1e-9)
    np.maximum.at(shift, label[over], np.minimum(need, 10.0 * DEEP).astype(np.int64))
    pairs = np.unique(np.stack([label[rows[across]], label[columns[across]]]), axis=1)
    deep, shifts = depth.tolist(), shift.tolist()
    for a, b in zip(*pairs.tolist(), strict=True):
        # In topological order a class's own depth is known before it passes it on.
        below = deep[a] + shifts[a]
        if below > deep[b]:
            deep[b] = below
    return np.array(deep, np.int64) if max(deep) <= DEEP else None
