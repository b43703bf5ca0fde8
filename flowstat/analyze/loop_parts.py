"""Some loops of a chain with all that is at their nodes, so that many are worked with at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.bounded import exact, row_sums, times
from flowstat.analyze.loop_nest import Nest
from flowstat.analyze.loop_traffic import Traffic, entries
from flowstat.analyze.solve import Index, Solved, Vector

__all__ = ["Some", "some_loops"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Some:
    """Some loops of a nest, with all that is at their nodes: m loops, k nodes, the nodes of a loop together.

    Attributes
    ----------
    loops : (m,)
        Which ones.
    begins, sizes : (m,)
        The nodes of each.
    states, whose : (k,)
        The node, and its loop among these.
    rows, at, columns : (arrows,)
        Of the arrows from the nodes: the node, the entry of P, and to which node of the same loop it leads, or -1.
    leaving : (k,)
        The chance to leave the loop.
    flow : (k,)
        What comes in from outside; `into`, (k,), along how many arrows.
    back : (m,)
        What comes to the header from within.
    """

    loops: Index
    begins: Index
    sizes: Index
    states: Index
    whose: Index
    rows: Index
    at: Index
    columns: Index
    leaving: Vector
    flow: Solved
    into: Index
    back: Solved

    def block(self, data: Vector) -> sparse.csr_array:
        """Return the arrows within the loops as blocks of a matrix, (k, k); `data` are the entries of P."""
        inside = self.columns >= 0
        k = len(self.states)
        made = sparse.csr_array((data[self.at[inside]], (self.rows[inside], self.columns[inside])), shape=(k, k))
        made.sort_indices()
        return made

    def part(self, m: int) -> slice:
        """Return where the nodes of a loop are."""
        return slice(int(self.begins[m]), int(self.begins[m] + self.sizes[m]))


def some_loops(traffic: Traffic, nest: Nest, loops: Index) -> Some:
    """Take some loops with their arrows."""
    P, sizes, place = traffic.chain.P, nest.size[loops], nest.place
    begins = np.cumsum(sizes) - sizes
    whose = np.repeat(np.arange(len(loops)), sizes)
    states = nest.order[(nest.begin[loops] - begins)[whose] + np.arange(len(whose))]

    def inside(rows: Index, others: npt.NDArray[np.integer[Any]]) -> tuple[Index, Mask]:
        at = place[others] - nest.begin[loops][whose[rows]]
        within = (at >= 0) & (at < sizes[whose[rows]])
        return np.where(within, at + begins[whose[rows]], -1), within

    rows, at = entries(P, states)
    columns, within = inside(rows, P.indices[at])
    leaving = np.bincount(rows[~within], P.data[at[~within]], len(states)) + traffic.chain.stop[states]
    targets, arrows = entries(traffic.back, states)
    sources, within = inside(targets, traffic.back.indices[arrows])
    flow = traffic.inward(states, targets[~within], arrows[~within])
    outer = (nest.depth[loops] == 0)[whose]
    inflow = traffic.inflow.at(states)
    flow = Solved(np.where(outer, inflow.values, flow.values), np.where(outer, inflow.bound, flow.bound))
    into = np.bincount(targets[~within], minlength=len(states))
    home = within & (targets == begins[whose[targets]])
    came = times(traffic.weight.at(states[sources[home]]), exact(traffic.back.data[arrows[home]]))
    back = row_sums(whose[targets[home]], came, len(loops))
    return Some(loops, begins, sizes, states, whose, rows, at, columns, leaving, flow, into, back)
