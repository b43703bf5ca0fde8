"""Determinants of cycles in a large class, and the chances to come to them, by columns of `N = (I - P)^-1`.

With v the visits of the states, a cycle c is come to with `P(hit c) = v_c N[c, c]^-1 1`. Columns are found by steps
back in time (`flowstat.analyze.column_steps`), and where the class mixes slowly they are solved for. A closed class is
cut at one state, its home: what runs do between two visits there.

Differences cancel where a cycle is long, or a class is close to closed: the bound of the error says so, and the cycle
is left to elimination.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import sparse

from flowstat.analyze.column_steps import Steps
from flowstat.analyze.cycle_order import first
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

NODES = 1_000
"""How many nodes cycles that are looked at together have between them, at most."""

WIDTH = 16
"""How many columns are taken at once, where they have no more than `CELLS` numbers."""

CELLS = 1_000_000


class ByColumns:
    """A class, transient or cut at its home, in positions of the chain.

    Parameters
    ----------
    states, P, exits
        The states, chances among them, and those to leave them.
    start
        Chance to come first to each, of runs or from the home.
    tolerance
        As for `flowstat.analyze.solve.Solver`.
    home
        The state that the class is cut at; -1 if it is not.
    """

    def __init__(
        self, states: Index, P: sparse.csr_array, exits: Vector, start: Solved, tolerance: float, home: int = -1
    ) -> None:
        self.states, self.home, self.start = states, home, start
        self.inner = Solver(P, exits, tolerance)
        self.steps = Steps(self.inner)
        self.made: dict[Path, Size | None] = {}

    @staticmethod
    def of(solver: Solver, c: int, entered: Solved) -> ByColumns:
        """Return a class of a solver; cut at the state that most arrows of it lead to, if it is closed."""
        states = solver.classes[c].states
        block = sparse.csr_array(solver.P[states][:, states])
        if not solver.classes[c].closed:
            return ByColumns(states, block, solver.exits[states], entered.at(states), solver.tolerance)
        home = int(np.argmax(np.bincount(block.indices, minlength=len(states))))
        others = np.delete(np.arange(len(states)), home)
        back, out = (
            np.asarray(part.todense()).ravel() for part in (block[others][:, [home]], block[[home]][:, others])
        )
        start = Solved(out, np.zeros(len(out)))
        inner = sparse.csr_array(block[others][:, others])
        return ByColumns(states[others], inner, back, start, solver.tolerance, int(states[home]))

    @cached_property
    def visits(self) -> Solved:
        """How often the states are visited by runs, or between two visits of the home."""
        return self.inner.visits(self.start.values, self.start.bound)[0]

    @cached_property
    def stay(self) -> Solved:
        """How long runs stay from each state on."""
        return self.inner.backward(np.ones(len(self.states)))

    def sizes(self, paths: list[Path]) -> list[Size | None]:
        """Return for each cycle its determinant, the chance to come to it, and how far both may be off relatively.

        None where that is more than `SETTLED`. In a class that is cut the determinant is without the home.
        """
        paths = [first(path) for path in paths]
        fresh = [path for path in dict.fromkeys(paths) if path not in self.made and len(path) <= SHORT]
        begin = 0
        while begin < len(fresh):
            end, nodes = begin, set[int]()
            while end < len(fresh) and (end == begin or len(nodes | set(fresh[end])) <= NODES):
                nodes.update(fresh[end])
                end += 1
            self._together(fresh[begin:end], np.array(sorted(nodes - {self.home}), np.int64))
            begin = end
        return [self.made.get(path) for path in paths]

    def _together(self, paths: list[Path], nodes: Index) -> None:
        """Work out some cycles that have these nodes between them."""
        try:
            N, off = self.among(np.searchsorted(self.states, nodes))
            v = self.visits.at(np.searchsorted(self.states, nodes))
        except AnalysisError:
            self.made.update(dict.fromkeys(paths))
            return
        for path in paths:
            at = np.searchsorted(nodes, [i for i in path if i != self.home])
            own = np.ix_(at, at)
            self.made[path] = _size(N[own], off[own], v.at(at), self.home in path)

    def among(self, places: Index) -> tuple[Vector, Vector]:
        """Return the entries of N among some states, given by their places, and how far they may be off."""
        k, u = len(self.states), len(places)
        N, off = np.zeros((u, u)), np.zeros((u, u))
        width = max(1, min(WIDTH, CELLS // max(k, 1)))
        for begin in range(0, u, width):
            some = slice(begin, begin + width)
            unit = np.zeros((k, len(places[some])))
            unit[places[some], np.arange(unit.shape[1])] = 1.0
            found = self.steps.columns(unit, places) or self.inner.backward(unit).at(places)
            N[:, some], off[:, some] = found.values, found.bound
        return N, off


def _size(N: Vector, off: Vector, v: Solved, begun: bool) -> Size | None:
    """Return the determinant of a cycle, the chance to come to it (1 if it is `begun`), and how far both may be off."""
    k = len(N)
    if not k:
        return 1.0, 1.0, 0.0
    try:
        X = np.linalg.inv(N)
    except np.linalg.LinAlgError:
        return None
    size = np.abs(X)
    # With I - X M small for all M that N may be, their inverses are off X by no more than r |X| / (1 - r).
    rest = np.abs(np.eye(k) - X @ N) + (k + 2) * UNIT * (size @ np.abs(N) + 1) + size @ off
    r = float(rest.sum(axis=1).max())
    hit = 1.0 if begun else float(v.values @ X.sum(axis=1))
    if not (r < 1e-3 and hit > 0):
        return None
    # The determinant of what is off by a factor E with rows that sum to no more than r: (1 + r)^k at most.
    wrong = 1.1 * k * r + 4 * k * k * UNIT
    if not begun:
        largest = float(size.sum(axis=1).max())
        lost = float(v.bound.sum() * largest + v.values.sum() * largest * (1.01 * r + (k + 4) * UNIT))
        wrong += 1.1 * lost / hit
    return (float(np.linalg.det(N)), hit, wrong) if wrong <= SETTLED else None
