"""One round of a loop: whether another follows, and what it visits, without subtraction and with bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from flowstat.analyze.bounded import dot, exact, plus, quotient, times
from flowstat.analyze.elimination import UNIT, eliminate, rounding
from flowstat.analyze.solve import Solved, Solver, Vector

__all__ = ["Body", "by_elimination", "by_solver"]


@dataclass(frozen=True)
class Body:
    """What a loop does from its header, which is its first node.

    `again` is the chance to come back to it within the loop, `leave` to leave the loop before; `visits` (k,) the
    expected events at each node each time it is entered (empty if nothing leaves it).
    """

    again: Solved
    leave: Solved
    visits: Solved


def by_elimination(block: sparse.csr_array, leaving: Vector, entry: Solved) -> Body:
    """Solve a loop of k nodes densely: `block` (k, k) within it, `leaving` (k,) out of it, `entry` (k,) into it."""
    k = len(leaving)
    gone = eliminate(block.toarray(), leaving)
    # Chances of leaving are sums of as many terms as there are arrows.
    off = rounding(k) + 1.01 * (k + 6) * UNIT
    again, leave = gone.rounds, float(gone.pivots[0])
    known = Solved(np.asarray(again), np.asarray(off * again)), Solved(np.asarray(leave), np.asarray(off * leave))
    if not leaving.any():
        return Body(*known, exact(np.zeros(0)))
    inner = gone.visits(entry.values)
    doubt = gone.visits(np.asarray(entry.bound)) if np.any(entry.bound) else np.zeros(k)
    return Body(*known, Solved(inner, (1 + 2 * off) * doubt + off * inner))


def by_solver(block: sparse.csr_array, leaving: Vector, entry: Solved) -> Body:
    """Solve a loop class by class of its body: as `by_elimination`, for loops of any size."""
    back = np.asarray(block[:, [0]].todense()).ravel()
    onward = np.asarray(block[[0]].todense()).ravel()[1:]
    rest = sparse.csr_array(block[1:][:, 1:])
    solver = Solver(rest, leaving[1:] + back[1:])
    x = solver.backward(np.stack([back[1:], leaving[1:]], axis=1))
    returns, leaves = (Solved(x.values[:, c], x.bound[:, c]) for c in (0, 1))
    again = plus(exact(back[0]), dot(exact(onward), returns))
    leave = plus(exact(leaving[0]), dot(exact(onward), leaves))
    if not leaving.any():
        return Body(again, exact(0.0), exact(np.zeros(0)))
    elsewhere = Solved(entry.values[1:], entry.bound[1:])
    arrivals = plus(Solved(entry.values[0], entry.bound[0]), dot(elsewhere, returns))
    header = quotient(arrivals, leave)
    inflow = plus(elsewhere, times(header, exact(onward)))
    visited, _ = solver.visits(inflow.values, inflow.bound)
    values = np.concatenate([[header.values], visited.values])
    return Body(again, leave, Solved(values, np.concatenate([[header.bound], visited.bound])))
