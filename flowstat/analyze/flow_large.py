"""A large class without the nodes that a flow has passed: by columns of its fundamental matrix, solved for once."""

from __future__ import annotations

import numpy as np

from flowstat.analyze.column_steps import Steps
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solved, Solver, Vector

__all__ = ["Columns", "Without"]

SETTLED = 1e-9
"""What may be wrong with a chance before it is not taken."""


ROUGH = 1e-6
"""What may be wrong with all visits together before they are not taken."""


class Without:
    """What is left of a class of k states without some of them, A, in terms of N = (I - P)^-1 of the class.

    `never` is the diagonal of `N_AA^-1`: from each state of A the chance never to come to A again; `wrong` by how much
    any row sum of that inverse may be off. Differences cancel where the class is close to closed, and `wrong` says so.

    Of N the columns of A are kept, of all states or of some rows.
    """

    def __init__(self, columns: Columns, states: Index, rows: Index | None = None) -> None:
        found = [columns.column(a) for a in states.tolist()]
        m = len(states)
        some = slice(None) if rows is None else np.concatenate([states, rows])
        self.N = np.stack([each.values[some] for each in found], axis=1)
        self.doubt = np.stack([each.bound[some] for each in found], axis=1)
        own = states if rows is None else slice(0, m)
        M, off = self.N[own], self.doubt[own]
        try:
            X = np.linalg.inv(M)
        except np.linalg.LinAlgError:
            X = np.zeros((m, m))
        self.inverse = X
        size = float(np.abs(X).sum(axis=1).max())
        left = np.abs(np.eye(m) - X @ M) + (m + 2) * UNIT * (np.abs(X) @ M + 1)
        # An inverse X of what is known, with I - X M small, is off by no more than |X| r / (1 - r).
        r = float((left + np.abs(X) @ off).sum(axis=1).max())
        self.wrong = 1.01 * size * r / (1 - r) if r < 0.5 else np.inf  # never of an inverse that failed: there r is 1

    def never(self, which: int) -> float:
        """Return from one of the states the chance never to come to any of them again."""
        return float(self.inverse[which, which])

    def ends(self) -> Vector:
        """Return upper bounds of the chance never to come to any of the states, from each row of N."""
        c = self.inverse.sum(axis=1)
        slack = self.doubt.sum(axis=1) + (np.abs(self.N).sum(axis=1)) * (self.wrong + 8 * len(c) * UNIT)
        upper: Vector = np.clip(1 - self.N @ c + slack, 0.0, 1.0)
        return upper


class Columns:
    """Columns and rows of `(I - P)^-1` of a transient class, solved for when they are needed, and kept."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver
        self.back, self.forth = Steps(solver), Steps(solver, transposed=True)
        self.columns: dict[int, Solved] = {}
        self.rows: dict[int, Solved] = {}

    def column(self, a: int) -> Solved:
        """Return the expected visits to a state from each, (k,)."""
        if a not in self.columns:
            found = self.back.columns(self._unit(a), slice(None))
            self.columns[a] = self.solver.backward(self._unit(a)) if found is None else found
        return self.columns[a]

    def row(self, a: int) -> Solved:
        """Return the expected visits from a state to each, (k,)."""
        if a not in self.rows:
            found = self.forth.columns(self._unit(a), slice(None))
            self.rows[a] = self.solver.visits(self._unit(a))[0] if found is None else found
        return self.rows[a]

    def _unit(self, a: int) -> Vector:
        unit = np.zeros(self.solver.n)
        unit[a] = 1.0
        return unit

    def step(self, at: int, earlier: Index, targets: Index) -> tuple[float, float, Vector] | None:
        """Return the chance to leave or come to an earlier state before coming back, its error, and upper ends.

        The latter are the chances, from some targets, never to come to any of these states.
        """
        out = Without(self, np.append(earlier, at), targets)
        if not out.wrong <= SETTLED * abs(out.never(-1)):
            return None
        return out.never(-1), out.wrong, out.ends()[len(earlier) + 1 :]

    def around(self, at: int, earlier: Index) -> tuple[Vector, Vector, float, float] | None:
        """Return visits of each state from one, between its returns, without earlier ones, and chances to come back.

        Both (k,), with what all visits together and each chance may be off by.
        """
        column, row = self.column(at), self.row(at)
        v, f = row.values.copy(), column.values.copy()
        off_v, off_f = float(row.bound.sum()), float(column.bound.max())
        if len(earlier):
            out = Without(self, earlier)
            if not out.wrong <= SETTLED:
                return None
            rows = [self.row(a) for a in earlier.tolist()]
            R = np.stack([each.values for each in rows])
            from_at = out.inverse.T @ out.N[at]
            to_at = out.inverse @ f[earlier]
            v = v - from_at @ R
            f = f - out.N @ to_at
            most_r, most_n = float(R.sum(axis=1).max()), float(out.N.sum(axis=1).max())
            doubt_r = float(sum(each.bound.sum() for each in rows))
            size = float(np.abs(out.inverse).sum())
            m = len(earlier)
            wrong = m * out.wrong + 8 * m * UNIT * size
            off_v += np.abs(from_at).max() * doubt_r + m * most_r * (
                wrong * out.N[at].max() + size * float(out.doubt[at].max())
            )
            off_f += np.abs(to_at).sum() * float(out.doubt.max()) + most_n * (
                wrong * column.values[earlier].max() + size * float(column.bound[earlier].max())
            )
            off_v += 4 * UNIT * float(row.values.sum())
            off_f += 4 * UNIT * float(column.values.max())
        again = f[at]
        if not max(off_v, off_f) <= ROUGH * again:
            return None
        v, f = np.maximum(v, 0.0) / again, np.maximum(f, 0.0) / again
        v[earlier] = f[earlier] = 0.0
        # Both are quotients of what is known so well and of visits of at least 1.
        lost_v = 1.02 * (off_v + off_f * float(v.sum())) / again + 4 * UNIT * float(v.sum())
        lost_f = 1.02 * (off_f + off_f) / again + 4 * UNIT
        return v, f, float(lost_v), float(lost_f)
