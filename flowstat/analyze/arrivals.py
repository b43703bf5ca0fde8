"""At which turn of its period a run comes to a closed class: the chain and a clock, taken together."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from flowstat.analyze.bounded import MARGIN
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solved, Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain

__all__ = ["Arrivals"]

MOST = 2_000_000
"""Up to how many pairs of a state and a turn of the clock are solved for."""


class Arrivals:
    """Finds for closed classes the law of the turn at which runs come there.

    Parameters
    ----------
    chain
        A chain.
    law : (n,)
        Where runs start.
    visited
        Expected visits, (n,).
    """

    def __init__(self, chain: Chain, law: Vector, visited: Solved) -> None:
        self.P = chain.P
        self.law = law
        self.passed = np.flatnonzero(np.isfinite(visited.values) & (visited.values > 0))
        inner = chain.P[self.passed]
        self.inner = sparse.csr_array(inner[:, self.passed])
        away = np.ones(len(law), bool)
        away[self.passed] = False
        self.out = np.asarray(inner[:, away].sum(axis=1)).ravel() + chain.stop[self.passed]
        self._solved: dict[int, Solved | None] = {}

    def phases(self, states: Index, turns: Index, period: int) -> Solved | None:
        """Return the chance to be trapped in a class and be at turn r of it at late multiples of the period, (period,).

        None if too many pairs of a state and a turn lead there, or they can't be solved for.
        """
        # Whoever comes to turn r at time t is at turn r - t when time is a multiple of the period.
        values: Vector = np.bincount(turns, self.law[states], period).astype(np.float64)
        bound, terms = np.zeros(period), np.bincount(turns, minlength=period)
        into = sparse.coo_array(self.P[self.passed][:, states])
        if into.nnz:
            visits = self._visits(period)
            if visits is None:
                return None
            # Arrivals by time modulo the period, and arrow.
            at = ((turns[into.col] - 1)[None, :] - np.arange(period)[:, None]) % period
            v, off = visits.values[:, into.row], visits.bound[:, into.row]
            values += np.bincount(at.ravel(), (v * into.data).ravel(), period)
            bound += np.bincount(at.ravel(), ((off + 2 * UNIT * v) * into.data).ravel(), period)
            terms += np.bincount(at.ravel(), minlength=period)
        return Solved(values, MARGIN * (bound + (terms + 2) * UNIT * values))

    def _visits(self, period: int) -> Solved | None:
        """Return the expected visits by time modulo the period and passed state."""
        if period not in self._solved:
            self._solved[period] = self._solve(period)
        return self._solved[period]

    def _solve(self, period: int) -> Solved | None:
        n = len(self.passed)
        if n * period > MOST:
            return None
        clock = sparse.csr_array((np.ones(period), np.roll(np.arange(period), -1), np.arange(period + 1)))
        both = sparse.csr_array(sparse.kron(clock, self.inner, format="csr"))
        start = np.zeros((period, n))
        start[0] = self.law[self.passed]
        try:
            found, _ = Solver(both, np.tile(self.out, period)).visits(start.ravel())
        except AnalysisError:
            return None
        return Solved(found.values.reshape(period, n), found.bound.reshape(period, n))
