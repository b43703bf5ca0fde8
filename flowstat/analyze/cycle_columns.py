"""Determinants of cycles in a large class, and the chances to come to them, by columns of `N = (I - P)^-1`.

A column tells how often a node is visited from every state; of a cycle c those of its nodes give `N[c, c]`, and with e
the chances to come to the class at each state, `P(hit c) = e N[:, c] N[c, c]^-1 1`. Differences cancel where a class is
close to closed, or a cycle is long: the bound of the error says so, and the cycle is left to elimination.
"""

from __future__ import annotations

import numpy as np

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solved, Solver, Vector
from flowstat.errors import AnalysisError

__all__ = ["ByColumns"]

Path = tuple[int, ...]
Size = tuple[float, float, float]

SETTLED = 1e-9
"""How far an answer may be off relatively."""

SHORT = 60
"""Up to how many nodes a cycle may have."""

WIDTH = 16
"""How many columns are solved for at once, where they have no more than `CELLS` numbers."""

CELLS = 1_000_000

KEPT = 20_000_000
"""How many numbers of columns are kept."""


class ByColumns:
    """Columns of a transient class of a solver, solved for when they are needed.

    Parameters
    ----------
    solver, states
        The class.
    entered : (n,)
        First inflow of runs.
    """

    def __init__(self, solver: Solver, states: Index, entered: Solved) -> None:
        self.states = states
        self.inner = Solver(solver.P[states][:, states], solver.exits[states], solver.tolerance)
        self.entered = entered.at(states)
        self.known: dict[int, tuple[Vector, Vector, float, float]] = {}
        self.made: dict[Path, Size | None] = {}
        self.refused = False

    def sizes(self, paths: list[Path]) -> list[Size | None]:
        """Return for each cycle its determinant, the chance to come to it, and how far both may be off relatively.

        None where that is more than `SETTLED`.
        """
        fresh = [path for path in paths if path not in self.made and len(path) <= SHORT]
        for begin in range(0, len(fresh), WIDTH):
            some = [np.searchsorted(self.states, path) for path in fresh[begin : begin + WIDTH]]
            self._solve(some)
            self.made.update(zip(fresh[begin : begin + WIDTH], map(self._size, some), strict=True))
        return [self.made.get(path) for path in paths]

    def _solve(self, places: list[Index]) -> None:
        """Solve for the columns of some nodes."""
        n = len(self.states)
        if 2 * n * len(self.known) > KEPT:
            self.known.clear()
        wanted = sorted({i for place in places for i in place.tolist()} - set(self.known))
        width = max(1, min(WIDTH, CELLS // n))
        for begin in range(0, len(wanted), width):
            some = wanted[begin : begin + width]
            unit = np.zeros((n, len(some)))
            unit[some, np.arange(len(some))] = 1.0
            try:
                x = self.inner.backward(unit) if not self.refused else None
            except AnalysisError:
                x = None
            if x is None:
                self.refused = True
                return
            visits = self.entered.values @ x.values
            doubt = self.entered.values @ x.bound + self.entered.bound @ (x.values + x.bound) + (n + 4) * UNIT * visits
            for k, i in enumerate(some):
                values, bound = np.ascontiguousarray(x.values[:, k]), np.ascontiguousarray(x.bound[:, k])
                self.known[i] = values, bound, float(visits[k]), float(doubt[k])

    def _size(self, place: Index) -> Size | None:
        """Return the determinant of a cycle, the chance to come to it, and how far both may be off."""
        if self.refused:
            return None
        columns = [self.known[i] for i in place.tolist()]
        N, off = np.stack([c[0][place] for c in columns], axis=1), np.stack([c[1][place] for c in columns], axis=1)
        visits, doubt = (np.array([c[k] for c in columns]) for k in (2, 3))
        k = len(place)
        try:
            X = np.linalg.inv(N)
        except np.linalg.LinAlgError:
            return None
        size = np.abs(X)
        # With I - X M small for all M that N may be, their inverses are off X by no more than r |X| / (1 - r).
        rest = np.abs(np.eye(k) - X @ N) + (k + 2) * UNIT * (size @ np.abs(N) + 1) + size @ off
        r = float(rest.sum(axis=1).max())
        hit = float(visits @ X.sum(axis=1))
        if not (r < 1e-3 and hit > 0):
            return None
        largest = float(size.sum(axis=1).max())
        lost = float(doubt.sum() * largest + visits.sum() * largest * (1.01 * r + (k + 4) * UNIT))
        # The determinant of what is off by a factor E with rows that sum to no more than r: (1 + r)^k at most.
        wrong = 1.1 * k * r + 1.1 * lost / hit + 4 * k * k * UNIT
        return (float(np.linalg.det(N)), hit, wrong) if wrong <= SETTLED else None
