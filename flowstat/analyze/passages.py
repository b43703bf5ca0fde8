"""What passes between two sets of nodes: the numbers that committors and reactive flows are made of.

Two ensembles. If runs visit A a finite number of times, it is that of the runs: every number is one per run, by
expected visits. If A is in a closed class, runs pass there for ever, and it is the stationary one: numbers are per
step, by the limiting law. In both, w_i is how often the chain is at i and was in A last, of A and B: on A it is
the visits (or the law) itself, and outside `w = w_A P_A. (I - P)^-1` among the states of neither: time is never
reversed and nothing subtracted. The backward committor is w_i by all visits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solved, Solver, total
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.read.words import shown

__all__ = ["Ensemble", "Nodes", "Passages", "passages"]

Ensemble = Literal["runs", "stationary"]
Nodes = str | Iterable[str]


@dataclass(frozen=True)
class Passages:
    """What passes from A to B, by state, (n,) with bounds: what committors and flows are made of.

    `weights` is how often the chain is there with A the last of both (0 in B), `forward` the chance to go on to B
    (1 in B, 0 in A), `visits` how often it is there at all.
    """

    chain: Chain
    a: Index
    b: Index
    ensemble: Ensemble
    visits: Solved
    weights: Solved
    forward: Solved

    @cached_property
    def gross(self) -> Solved:
        """The flow along each arrow of `chain.arrows()` on passages: `w_i p_ij q_j`."""
        rows, columns, p = self.chain.arrows()
        w, q = self.weights, self.forward
        # Where nothing goes on to B, it does not matter how often (perhaps for ever) the chain is.
        live = (q.values[columns] + q.bound[columns] > 0) & (w.values[rows] + w.bound[rows] > 0)
        some = rows[live], columns[live], p[live]
        flow, bound = np.zeros(len(p)), np.zeros(len(p))
        flow[live] = w.values[some[0]] * some[2] * q.values[some[1]]
        wrong = w.bound[some[0]] * (q.values + q.bound)[some[1]] + w.values[some[0]] * q.bound[some[1]]
        bound[live] = 1.01 * (some[2] * wrong + 3 * UNIT * flow[live])
        return Solved(flow, bound)

    @cached_property
    def flux(self) -> Solved:
        """The expected number of passages, with its bound: what leaves A for good."""
        leaving = np.isin(self.chain.arrows()[0], self.a)
        return total(Solved(self.gross.values[leaving], self.gross.bound[leaving]))


def passages(chain: Chain, a: Nodes, b: Nodes, start: Start = None) -> Passages:
    """Solve for what passes from a to b; parameters and errors are those of `committor`."""
    A, B = _positions(chain, a), _positions(chain, b)
    both = np.intersect1d(A, B)
    if len(both):
        raise ChainError(f"{shown(chain.names[both[0]])!r} is in both sets: a passage leads from one to the other")
    law = start_law(chain, start)
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(law)
    ensemble: Ensemble = "runs"
    if not np.isfinite(visited.values[A]).all():
        ensemble, visited = "stationary", _limit(solver, entered)
    n = len(law)
    on = np.zeros(n, bool)
    on[A] = on[B] = True
    rest = ~on
    rows, _, p = chain.arrows()
    # Runs are cut where they come to either set: nothing is summed up that the solver does not know of.
    kept = rest[rows]
    cut = sparse.csr_array((p[kept], (rows[kept], chain.P.indices[kept])), shape=(n, n))
    between = Solver(cut, np.where(on, 1.0, chain.stop))
    into = np.zeros(n)
    into[B] = 1.0
    q = between.backward(into)
    forward = Solved(np.where(on, into, np.minimum(q.values, 1.0)), np.where(on, 0.0, q.bound))
    weights = Solved(np.zeros(n), np.zeros(n))
    weights.values[A], weights.bound[A] = visited.values[A], visited.bound[A]
    away = sparse.csr_array(chain.P[A].T)
    begin, doubt = (np.where(rest, away @ each[A], 0.0) for each in (visited.values, visited.bound))
    # What is wrong with the start goes the ways of the start: it is no fault of the solution.
    w, _ = between.visits(np.stack([begin, 1.01 * (doubt + solver.unit * begin)], axis=1))
    weights.values[rest] = w.values[rest, 0]
    off = 1.01 * (w.bound.sum(axis=1) + w.values[:, 1])
    weights.bound[rest] = np.where(np.isfinite(w.values[:, 0]), off, 0.0)[rest]
    return Passages(chain, A, B, ensemble, visited, weights, forward)


def _limit(solver: Solver, entered: Solved) -> Solved:
    """Return the limiting law: the stationary laws of the closed classes, by the chance to be trapped there."""
    law, bound = np.zeros(solver.n), np.zeros(solver.n)
    for states in solver.closed:
        chance = total(Solved(entered.values[states], entered.bound[states]))
        if chance.values > 0:
            pi = solver.stationary(states)
            law[states] = chance.values * pi.values
            bound[states] = chance.bound * (pi.values + pi.bound) + chance.values * pi.bound + UNIT * law[states]
    return Solved(law, 1.01 * bound)


def _positions(chain: Chain, nodes: Nodes) -> npt.NDArray[np.int64]:
    names = [nodes] if isinstance(nodes, str) else list(nodes)
    for name in names:
        if name not in chain.index:
            few = ", ".join(map(shown, chain.names[:8]))
            raise ChainError(f"no node is called {shown(name)!r}: name some of {few}{', ...' * (len(chain.names) > 8)}")
    if not names:
        raise AnalysisError("name at least one node on each side")
    return np.array(sorted({chain.index[name] for name in names}), np.int64)
