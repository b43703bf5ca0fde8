"""The share of its steps that a run spends at some states in the long run, from every state; and what it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from flowstat.analyze.bounded import closed_states, dot, exact
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Mask, Vector, backwards
from flowstat.analyze.solve import Index, Solved, Solver
from flowstat.estimate.chain import Chain

__all__ = ["Lasting"]


@dataclass(frozen=True)
class Lasting:
    """The long-run share of steps at some states: those of closed classes, each with the chance to be trapped there.

    Attributes
    ----------
    chain
        A chain that no run ends in: see `flowstat.analyze.closing.closed_chain`.
    inside : (n,)
        The states.
    """

    chain: Chain
    inside: Mask

    @cached_property
    def _solver(self) -> Solver:
        return Solver(self.chain.P, self.chain.stop)

    @cached_property
    def _closed(self) -> Mask:
        return closed_states(self._solver)

    @cached_property
    def _worth(self) -> tuple[Solved, Solved]:
        """What each closed class is worth, and what is left of that to 1, at its states; 0 elsewhere. Both (n,)."""
        solver, n = self._solver, len(self.inside)
        both = []
        for inside in (self.inside, ~self.inside):
            worth = Solved(np.zeros(n), np.zeros(n))
            for states in solver.closed:
                here = inside[states].astype(np.float64)
                if here.all():
                    worth.values[states] = 1.0
                elif here.any():
                    share = dot(self._law(states), exact(here))
                    worth.values[states], worth.bound[states] = share.values, share.bound
            both.append(worth)
        return both[0], both[1]

    def _law(self, states: Index) -> Solved:
        return self._solver.stationary(states) if len(states) > 1 else exact(np.ones(1))

    def _from(self, worth: Solved) -> Solved:
        """Return the expected worth of the class that traps a run, from every state."""
        solver = self._solver
        gain = solver.P @ worth.values
        doubt = solver.P @ worth.bound + solver.unit * gain
        found = solver.backward(np.where(self._closed, 0.0, gain), gain_bound=np.where(self._closed, 0.0, doubt))
        return Solved(
            np.where(self._closed, worth.values, found.values), np.where(self._closed, worth.bound, found.bound)
        )

    @cached_property
    def solved(self) -> Solved:
        """The share from every state, with its bound; (n,)."""
        return self._from(self._worth[0])

    @cached_property
    def other(self) -> Solved:
        """The share of the steps elsewhere, (n,)."""
        return self._from(self._worth[1])

    @cached_property
    def never(self) -> Mask:
        """The states from which the share is 0, by the graph; (n,)."""
        return ~backwards(self.chain.P, self._closed & self._classes_with(self.inside)).inside

    @cached_property
    def always(self) -> Mask:
        """The states from which the share is 1, by the graph; (n,)."""
        return ~backwards(self.chain.P, self._closed & self._classes_with(~self.inside)).inside

    def _classes_with(self, some: Mask) -> Mask:
        """Return the states of the classes that have any of some states."""
        label = self._solver.label
        marked = np.zeros(int(label.max(initial=0)) + 1, bool)
        marked[label[some]] = True
        found: Mask = marked[label]
        return found

    def gradient(self, law: Vector) -> Vector:
        """Return the derivative of the share from a start law with respect to each arrow's share of its node, (m,).

        As `flowstat.analyze.until.Until.gradient`, an estimate: on the way to a closed class `v_i x_j`; within one
        `c pi_i g_j`, with c the chance to be trapped there, pi its law and g the bias, `(I - P) g = f - pi f`.
        """
        rows, columns, _ = self.chain.arrows()
        solver, x = self._solver, self.solved.values
        visits, entered = solver.visits(law)
        weight = np.where(self._closed, 0.0, np.where(np.isfinite(visits.values), visits.values, 0.0))
        worth = x.copy()
        made = weight[rows] * worth[columns]
        for states in solver.closed:
            chance = float(entered.values[states].sum())
            here = self.inside[states].astype(np.float64)
            if len(states) == 1 or not chance or not here.any() or here.all():
                continue
            pi = self._law(states).values
            bias = np.zeros(len(here))
            block = sparse.csr_array(self.chain.P[states][:, states])
            # Relative to the first state: its row and column go.
            back = np.asarray(block[1:, [0]].todense()).ravel()
            inner = Solver(sparse.csr_array(block[1:, 1:]), back)
            bias[1:] = inner.backward(here[1:] - float(pi @ here), gain_bound=UNIT).values
            place = np.full(len(self.inside), -1)
            place[states] = np.arange(len(states))
            own = np.flatnonzero(place[rows] >= 0)
            made[own] = chance * pi[place[rows[own]]] * bias[place[columns[own]]]
        return made
