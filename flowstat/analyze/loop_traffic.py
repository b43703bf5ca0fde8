"""What comes to the loops of a chain and what is done in them, by the visits of its start law."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.arrow_times import ArrowTimes, Latencies, arrow_times
from flowstat.analyze.bounded import closed_states, exact, plus, quotient, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.loop_body import Body
from flowstat.analyze.solve import Index, Solved, Solver, Vector, total
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain

__all__ = ["Traffic"]

TIE = 1e-9
"""Entries whose flows differ by less, relatively, are equally used."""


class Traffic:
    """The numbers of a chain that its loops share; `local` numbers the nodes of the loop in hand, -1 outside."""

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
        self.spread = self.after_fan_out()
        self.local = np.full(solver.n, -1)
        self.parts: dict[int, Solver] = {}
        self.timeless = ""
        self.latency = self.latencies(latencies)

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

    def latencies(self, stated: Latencies | None) -> ArrowTimes | None:
        """Return the latencies of all arrows that runs take from nodes of loops; None if some are not known."""
        recorded = self.chain.counts is not None and self.chain.counts.latencies
        if not stated and not recorded:
            self.timeless = "no latencies are known"
            return None
        label, (rows, columns, _) = self.solver.label, self.chain.arrows()
        cyclic = np.zeros(len(self.solver.classes), bool)
        cyclic[label[rows[label[rows] == label[columns]]]] = True
        try:
            return arrow_times(self.chain, stated, cyclic[label[rows]] & (self.visited.values[rows] > 0))
        except AnalysisError as error:
            if stated:
                raise
            self.timeless = str(error)
            return None

    def incoming(self, states: Index, depth: int) -> Solved:
        """Return how much comes in at each node from outside the loop."""
        if depth == 0:
            return Solved(self.inflow.values[states], self.inflow.bound[states])
        into = self.back[states]
        rows = np.repeat(np.arange(len(states)), np.diff(into.indptr))
        outside = self.local[into.indices] < 0
        rows, sources, share = rows[outside], into.indices[outside], into.data[outside]
        part = times(Solved(self.weight.values[sources], self.weight.bound[sources]), exact(share))
        flow: Vector = np.bincount(rows, part.values, len(states)).astype(np.float64)
        bound = np.bincount(rows, part.bound, len(states)) + 1.01 * (len(rows) + 2) * UNIT * flow
        # In a closed class the long run forgets where runs came in.
        if not (self.closed[states[0]] and np.isinf(self.visited.values[states]).any()):
            flow = flow + self.law[states]
            bound = bound + 2 * UNIT * flow
        return Solved(flow, bound)

    def header(self, states: Index, flow: Solved) -> int:
        """Return which of the nodes most runs come in by; of equals the alphabetically first."""
        # Equal flows differ in their last digits; by name, the choice does not depend on the chain's order.
        most = np.flatnonzero(flow.values >= flow.values.max() * (1 - TIE))
        return int(min(most.tolist(), key=lambda k: self.chain.names[states[k]]))

    def gap(self, header: int, body: Body, depth: int) -> Solved:
        """Return the chance never to come back to a header."""
        if self.closed[header]:
            return exact(0.0)
        if depth == 0:
            return body.leave
        c = int(self.solver.label[header])
        states = self.solver.classes[c].states
        if c not in self.parts:
            # Kept with its factors: every header nested in the class is one more right side.
            block = sparse.csr_array(self.chain.P[states][:, states])
            self.parts[c] = Solver(block, self.solver.exits[states])
        at = int(np.searchsorted(states, header))
        unit = np.zeros(len(states))
        unit[at] = 1.0
        visits = self.parts[c].backward(unit)
        return quotient(exact(1.0), Solved(visits.values[at], visits.bound[at]))

    def reach(self, header: int, gap: Solved) -> Solved:
        """Return the chance that a run comes to a header."""
        if self.closed[header]:
            states = self.solver.classes[int(self.solver.label[header])].states
            return total(Solved(self.inflow.values[states], self.inflow.bound[states]))
        return times(Solved(self.visited.values[header], self.visited.bound[header]), gap)

    def reached(self, states: Index, flow: Solved, depth: int, arrived: Solved) -> Solved:
        """Return the chance that a run comes to any of the nodes."""
        inflow = self.inflow
        if depth == 0:
            return total(Solved(inflow.values[states], inflow.bound[states]))
        if (flow.values > 0).sum() <= 1 or self.closed[states[0]]:
            return arrived
        # Several entries: a run enters the class once, and the first it sees of the loop counts.
        part = self.solver.classes[int(self.solver.label[states[0]])].states
        rest = part[self.local[part] < 0]
        first = total(Solved(inflow.values[states], inflow.bound[states]))
        if not len(rest):
            return first
        P = self.chain.P[rest]
        into = np.asarray(P[:, states].sum(axis=1), np.float64).ravel()
        x = Solver(sparse.csr_array(P[:, rest]), self.solver.exits[rest] + into).backward(into)
        return plus(first, total(times(Solved(inflow.values[rest], inflow.bound[rest]), x)))

    def share(self, states: Index) -> Solved:
        """Return the share of all events."""
        if self.endless and not self.closed[states[0]]:
            # What a run does before it is trapped is nothing beside what follows.
            return exact(0.0)
        return quotient(total(Solved(self.weight.values[states], self.weight.bound[states])), self.total)

    def time(self, states: Index, rows: Index, out: sparse.csr_array) -> Solved | None:
        """Return the expected time per run from events at the nodes to what follows them."""
        if self.latency is None:
            return None
        v = Solved(self.visited.values[states], self.visited.bound[states])
        if not np.isfinite(v.values).all():
            return exact(np.inf)
        indptr = self.chain.P.indptr
        at = np.repeat(indptr[states] - out.indptr[:-1], np.diff(out.indptr)) + np.arange(len(out.indices))
        each = self.chain.stop[states] * self.latency.end_mean[states]
        each = each + np.bincount(rows, out.data * self.latency.mean[at], len(states))
        wrong = 1.01 * (np.diff(out.indptr) + 12) * UNIT * each
        return total(times(v, Solved(each, wrong)))
