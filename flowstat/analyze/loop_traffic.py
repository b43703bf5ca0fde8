"""What comes to the loops of a chain and what is done in them, by the visits of its start law."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.arrow_times import Latencies, arrow_times
from flowstat.analyze.bounded import closed_states, exact, plus, row_sums, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solved, Solver, Vector, total
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain

__all__ = ["Traffic", "entries"]

FAINT = 1e-30
"""What a run does before it is trapped weighs this much beside what follows."""


class Traffic:
    """The numbers of a chain that its loops share.

    Attributes
    ----------
    visited, inflow : (n,)
        Expected events at each node, and how runs enter its class.
    weight, total
        What a node's share of all events is made of, (n,), and their sum: visits or, where runs are trapped, the long
        run.
    key : (n,)
        What loops are ranked by.
    spread : (n,)
        Which nodes several lineages of one run can come to.
    spent, timeless
        The mean time from an event at each node to what follows it, (n,), or why that is not known.
    """

    def __init__(self, chain: Chain, law: Vector, latencies: Latencies | None) -> None:
        self.chain = chain
        self.law = law
        self.solver = solver = Solver(chain.P, chain.stop)
        self.visited, self.inflow = solver.visits(law)
        self.back = sparse.csr_array(chain.P.T)
        self.closed = closed_states(solver)
        weight, off = self.visited.values.copy(), self.visited.bound.copy()
        trapped = exact(0.0)
        for states in solver.closed:
            chance = total(Solved(self.inflow.values[states], self.inflow.bound[states]))
            if chance.values > 0:
                # Long-run law: what a trapped run's events look like.
                trapped = plus(trapped, chance)
                part = times(solver.stationary(states), chance)
                weight[states], off[states] = part.values, part.bound
        self.weight = Solved(weight, off)
        self.endless = bool(trapped.values > 0)
        self.total = trapped if self.endless else total(self.visited)
        self.key = np.where(self.closed, 1.0, FAINT) * weight if self.endless else weight
        self.spread = self.after_fan_out()
        self.timeless = ""
        self.spent = self.time_spent(latencies)

    def after_fan_out(self) -> npt.NDArray[np.bool_]:
        """Return which nodes several lineages of one run can come to."""
        chain = self.chain
        spread = np.zeros(self.solver.n, bool)
        waiting = [chain.index[node] for node in chain.counts.fanning] if chain.counts is not None else []
        while waiting:
            i = waiting.pop()
            targets = chain.P.indices[chain.P.indptr[i] : chain.P.indptr[i + 1]]
            fresh = targets[~spread[targets]]
            spread[fresh] = True
            waiting += fresh.tolist()
        return spread

    def time_spent(self, stated: Latencies | None) -> Solved | None:
        """Return the mean time from an event at each node to what follows it, (n,); None if it is not known of all.

        It has to be known of all arrows that runs take from nodes of loops.
        """
        recorded = self.chain.counts is not None and self.chain.counts.latencies
        if not stated and not recorded:
            self.timeless = "no latencies are known"
            return None
        label, (rows, columns, _) = self.solver.label, self.chain.arrows()
        cyclic = np.zeros(len(self.solver.classes), bool)
        cyclic[label[rows[label[rows] == label[columns]]]] = True
        try:
            latency = arrow_times(self.chain, stated, cyclic[label[rows]] & (self.visited.values[rows] > 0))
        except AnalysisError as error:
            if stated:
                raise
            self.timeless = str(error)
            return None
        P, stop = self.chain.P, self.chain.stop
        each = stop * latency.end_mean + np.bincount(rows, P.data * latency.mean, self.solver.n)
        return Solved(each, 1.01 * (np.diff(P.indptr) + 12) * UNIT * each)

    def incoming(self, states: Index, around: Index, loop: Index) -> Solved:
        """Return how much comes in at each of some nodes from outside of its loop, (k,).

        Node k is one of loop `loop[k]`, which are the nodes that `around`, (n,), says so of.
        """
        rows, at = entries(self.back, states)
        outside = around[self.back.indices[at]] != loop[rows]
        return self.inward(states, rows[outside], at[outside])

    def inward(self, states: Index, rows: Index, at: Index) -> Solved:
        """Return what comes along some arrows to some nodes, with the runs that start there; `at` is in `back`."""
        sources = self.back.indices[at].astype(np.int64)
        # In a closed class the long run forgets where runs came in.
        ever = self.closed[states] & np.isinf(self.visited.values[states])
        still = ~ever[rows] | self.closed[sources]
        came = times(self.weight.at(sources[still]), exact(self.back.data[at[still]]))
        flow = row_sums(rows[still], came, len(states))
        begun = np.where(ever, 0.0, self.law[states])
        return plus(flow, exact(begun))


def entries(M: sparse.csr_array, rows: Index) -> tuple[Index, Index]:
    """Return the entries of some rows: of each the position of its row among them, and its own in the matrix."""
    counts = np.diff(M.indptr)[rows]
    whose = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(counts) - counts
    return whose, np.arange(len(whose)) + (M.indptr[rows] - before)[whose]
