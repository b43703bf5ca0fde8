"""How runs come to the loops of a chain, and how they go round in each: of all loops together.

Of the visits v of a chain's start law, what comes to a loop from outside, F in all, and `v_i p_ih` within it are sums
of which nothing is lost. A run that comes in visits node i of the loop `v_i / F` times. If all come in by the header h,
it is left for good from h with the chance `F / v_h`, and come back to with `sum v_i p_ih / v_h`. Else, and where no run
comes, one round of the loop is solved (`flowstat.analyze.loop_body`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.bounded import dot, exact, plus, quotient, row_sums, times
from flowstat.analyze.elimination import rounding
from flowstat.analyze.loop_body import Blocks, eliminated, first_at, from_header, from_nowhere, in_blocks, returns
from flowstat.analyze.loop_nest import Nest
from flowstat.analyze.loop_parts import Some
from flowstat.analyze.loop_traffic import Traffic
from flowstat.analyze.solve import DENSE, Index, Solved, Solver, total

__all__ = ["Rounds"]

Mask = npt.NDArray[np.bool_]

FAINT = 1e-250
"""Loops that fewer runs come to are as if none came."""

CLOSE = 1e-9
"""How well a chance has to be known from visits, relatively: else the loop is solved by itself."""


class Rounds:
    """What is known of the rounds of every loop; all numbers are (M,), with bounds where they have any.

    Attributes
    ----------
    again, leave
        The chance to come back to the header within the loop, and not to.
    gap
        The chance never to come back to the header at all.
    reached, arrived
        The chance that a run comes to the loop, and to its header.
    coming
        What comes in from outside.
    entries
        By how many nodes runs come in.
    endless
        Whether nothing leaves it.
    lost
        Whether no runs come to it, or too few for any number.
    visits
        Of loops that are lost: the visits from the header, in the order of the nest.
    """

    def __init__(self, traffic: Traffic, nest: Nest) -> None:
        M = len(nest.header)
        self.traffic, self.nest = traffic, nest
        self.again, self.leave, self.gap, self.reached, self.arrived, self.coming = (
            Solved(np.zeros(M), np.zeros(M)) for _ in range(6)
        )
        self.entries = np.zeros(M, np.int64)
        self.endless = np.zeros(M, bool)
        self.lost = np.zeros(M, bool)
        self.visits: dict[int, Solved] = {}
        self._unknown = np.zeros(M, bool)

    def look(self, some: Some) -> None:
        """See what the visits tell of some loops."""
        traffic, k, header = self.traffic, some.loops, some.states[some.begins]
        m = len(k)
        self.endless[k] = ~np.logical_or.reduceat(some.leaving > 0, some.begins)
        self.entries[k] = np.bincount(some.whose[some.flow.values > 0], minlength=m)
        coming = row_sums(some.whose, some.flow, m)
        _put(self.coming, k, coming)
        self.lost[k] = ~((coming.values > FAINT) & (2 * coming.bound < coming.values))
        weight = traffic.weight.at(header)
        again, leave = quotient(some.back, weight), quotient(coming, weight)
        # A loop of one node needs no visits.
        single = some.sizes == 1
        own = exact(traffic.chain.P.diagonal()[header])
        left = exact(some.leaving[some.begins])
        left = Solved(left.values, traffic.solver.unit * left.values)
        endless = self.endless[k]
        close = (again.bound <= CLOSE * again.values) & (leave.bound <= CLOSE * leave.values)
        again = Solved(np.minimum(again.values, 1.0), again.bound)
        _put(self.again, k, _where(endless, exact(np.ones(m)), _where(single, own, again)))
        _put(self.leave, k, _where(endless, exact(np.zeros(m)), _where(single, left, leave)))
        self._unknown[k] = ~endless & ~single & ((self.entries[k] != 1) | self.lost[k] | ~close)

    def solve(self) -> None:
        """Solve what the visits don't tell, of the loops of classes of up to `DENSE` nodes; then what follows of all.

        Raises
        ------
        AnalysisError
            If a node is left with a chance that can't be told from never.
        """
        nest, traffic, solver = self.nest, self.traffic, self.traffic.solver
        offsets, label = solver.order.offsets, solver.label[nest.header]
        sizes = np.diff(offsets)
        large = sizes[label] > DENSE
        asked = self._unknown & ~large
        for blocks in in_blocks(traffic.chain.P, solver.exits, nest.order, offsets, np.unique(label[asked])):
            again, leave = eliminated(blocks)
            some, slot = self._of(asked, blocks)
            at = nest.begin[some] - offsets[label[some]]
            off = rounding(again.shape[1]) + solver.unit
            for known, values in ((self.again, again[slot, at]), (self.leave, leave[slot, at])):
                _put(known, some, Solved(np.minimum(values, 1.0), off * values))
            lost = self.lost[some]
            for k, q, p in zip(some[lost].tolist(), slot[lost].tolist(), at[lost].tolist(), strict=True):
                span = slice(p, p + int(nest.size[k]))
                visits = from_header(blocks.A[q, span, span], leave[q, span])
                self.visits[k] = Solved(visits, 2 * off * visits)
        # How runs come to the loops.
        closed = traffic.closed[nest.header]
        outer = closed | (nest.depth == 0)
        entered = row_sums(solver.label, traffic.inflow, len(sizes)).at(label)
        nested = np.zeros(solver.n, bool)
        nested[nest.header[~outer]] = True
        gaps = solver.return_gaps(nested) if nested.any() else exact(np.zeros(solver.n))
        self.gap = _where(closed, exact(np.zeros(len(closed))), _where(outer, self.leave, gaps.at(nest.header)))
        visited = traffic.visited.at(nest.header)
        finite = _where(closed, exact(np.zeros(len(closed))), visited)
        self.arrived = _where(closed, entered, times(finite, self.gap))
        self.reached = _where(outer, entered, self.arrived)
        # By several nodes into a loop within another: the first that a run sees of it counts.
        several = ~outer & (nest.size > 1) & (self.entries > 1)
        last = several & ~large & (nest.begin + nest.size == offsets[label + 1])
        for blocks in in_blocks(traffic.chain.P, solver.exits, nest.order, offsets, np.unique(label[last]), True):
            some, slot = self._of(last, blocks)
            _put(self.reached, some, self._ever(blocks, slot, nest.size[some]))
        # Those that don't end with their class are brought there; of each class one at a time.
        others = np.flatnonzero(several & ~last & ~large)
        others = others[np.argsort(label[others], kind="stable")]
        turn = np.arange(len(others)) - np.searchsorted(label[others], label[others])
        for now in range(int(turn.max(initial=-1)) + 1):
            some = others[turn == now]
            spans = [self._span(k) for k in some.tolist()]
            order = np.concatenate([states for pair in spans for states in pair])
            ends = np.cumsum([0] + [len(inside) + len(rest) for inside, rest in spans])
            for blocks in in_blocks(traffic.chain.P, solver.exits, order, ends, np.arange(len(some))):
                few = some[blocks.classes]
                _put(self.reached, few, self._ever(blocks, np.arange(len(few)), nest.size[few]))
        for k in np.flatnonzero(several & large).tolist():
            inside, rest = self._span(k)
            P = traffic.chain.P[rest]
            into = np.asarray(P[:, inside].sum(axis=1), np.float64).ravel()
            x = Solver(sparse.csr_array(P[:, rest]), solver.exits[rest] + into).backward(into)
            ever = plus(total(traffic.inflow.at(inside)), total(times(traffic.inflow.at(rest), x)))
            _put(self.reached, np.array([k]), ever)

    def _ever(self, blocks: Blocks, slot: Index, size: Index) -> Solved:
        """Return the chances that runs ever come to the first states, so many, of some blocks."""
        first = self.traffic.inflow.at(blocks.states)
        inflow = np.zeros((*blocks.out.shape, 2))
        inflow[blocks.slot, blocks.at] = np.stack([first.values, first.bound], axis=1)
        came, doubt = first_at(blocks, inflow)[slot, size - 1].T
        off = rounding(blocks.out.shape[1]) + self.traffic.solver.unit
        return Solved(came, (1 + 2 * off) * doubt + off * came)

    def _span(self, k: int) -> tuple[Index, Index]:
        """Return the nodes of a loop, and the others of its class."""
        nest, solver = self.nest, self.traffic.solver
        c = int(solver.label[nest.header[k]])
        begin, end = int(nest.begin[k]), int(nest.begin[k] + nest.size[k])
        before, after = nest.order[solver.order.offsets[c] : begin], nest.order[end : solver.order.offsets[c + 1]]
        return nest.order[begin:end], np.concatenate([before, after])

    def _of(self, asked: Mask, blocks: Blocks) -> tuple[Index, Index]:
        """Return the loops that are in some blocks, of those that are asked for, and in which block each is."""
        solver = self.traffic.solver
        slot = np.full(len(solver.classes), -1)
        slot[blocks.classes] = np.arange(len(blocks.classes))
        label = solver.label[self.nest.header]
        some = np.flatnonzero(asked & (slot[label] >= 0))
        return some, slot[label[some]]

    def alone(self, some: Some) -> None:
        """Solve one by one those of some loops that the visits don't tell, in classes of more than `DENSE` nodes."""
        nest, solver = self.nest, self.traffic.solver
        sizes = np.diff(solver.order.offsets)[solver.label[nest.header[some.loops]]]
        hard = np.flatnonzero(self._unknown[some.loops] & (sizes > DENSE))
        if not len(hard):
            return
        matrix = some.block(self.traffic.chain.P.data)
        for m in hard.tolist():
            k, part = some.loops[[m]], some.part(m)
            block, leaving = sparse.csr_array(matrix[part][:, part]), some.leaving[part]
            x, rest = returns(block, leaving)
            row = slice(block.indptr[0], block.indptr[1])
            _put(self.again, k, dot(exact(block.data[row]), x.at(block.indices[row].astype(np.int64))))
            if not self.lost[k]:
                flow = Solved(some.flow.values[part], some.flow.bound[part])
                leave = quotient(dot(flow, x), self.traffic.weight.at(some.states[part.start]))
            else:
                leave, self.visits[int(k[0])] = from_nowhere(block, leaving, rest)
            _put(self.leave, k, leave)

    def taken(self, k: Index) -> tuple[Solved, Solved, Solved]:
        """Return of loops k the chance to go round at all, the mean rounds of those who do, and those per arrival."""
        again, leave, gap = self.again.at(k), self.leave.at(k), self.gap.at(k)
        never = exact(np.full(len(k), np.inf))
        some = again.values > 0
        per_arrival = _where(leave.values > 0, quotient(again, leave), never)
        entered = times(self.arrived.at(k), quotient(again, plus(gap, again)))
        rounds = plus(exact(np.ones(len(k))), quotient(again, gap))
        return (
            _where(some, entered, exact(np.zeros(len(k)))),
            _where(gap.values > 0, rounds, never),
            per_arrival,
        )

    def inner(self, some: Some) -> Solved:
        """Return the expected events at every node of some loops each time that one is entered, (k,)."""
        coming = self.coming.at(some.loops).at(some.whose)
        found = quotient(self.traffic.weight.at(some.states), coming)
        values, bound = found.values.copy(), found.bound.copy()
        once = quotient(exact(np.ones(len(some.loops))), self.leave.at(some.loops))
        single = np.flatnonzero(some.sizes == 1)
        values[some.begins[single]], bound[some.begins[single]] = once.values[single], once.bound[single]
        for m, k in enumerate(some.loops.tolist() if self.visits else ()):
            if k in self.visits:
                values[some.part(m)], bound[some.part(m)] = self.visits[k].values, self.visits[k].bound
        return Solved(values, bound)


def _put(into: Solved, some: Index, values: Solved) -> None:
    into.values[some], into.bound[some] = values.values, values.bound


def _where(mask: Mask, yes: Solved, no: Solved) -> Solved:
    return Solved(np.where(mask, yes.values, no.values), np.where(mask, yes.bound, no.bound))
