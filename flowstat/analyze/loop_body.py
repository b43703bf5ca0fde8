"""One round of a loop: whether another follows, without subtraction and with bounds, of all loops of a class at once.

A class is eliminated from its last state to its first, in an order in which the nodes of every loop are together, its
header first. Once all that comes after a header is eliminated, what is left of its row is the chance to come back to
it, and that to leave its loop before: other loops after it lead back to this one by nodes before the header only. So
one elimination serves all loops of a class. From the first state to the last it gives how runs first come to every loop
that ends with the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from flowstat.analyze.bounded import dot, exact, plus, quotient, times
from flowstat.analyze.elimination import divisor
from flowstat.analyze.solve import Index, Solved, Solver, Vector

__all__ = ["Blocks", "eliminated", "first_at", "from_header", "from_nowhere", "in_blocks", "returns"]

NUMBERS = 2_000_000
"""How many numbers blocks have together that are eliminated at once, if they are several."""


@dataclass(frozen=True)
class Blocks:
    """Some classes of up to K states, as dense blocks: q of them.

    Attributes
    ----------
    A : (q, K, K)
        Chances within each; from its own size on there are states that nothing leads to or leaves.
    out : (q, K)
        Chances to leave it.
    classes : (q,)
        Which ones they are.
    states, slot, at : (k,)
        Every state that is there, and where: in which block, at which place.
    """

    A: Vector
    out: Vector
    classes: Index
    states: Index
    slot: Index
    at: Index


def in_blocks(
    P: sparse.csr_array, leaving: Vector, order: Index, offsets: Index, classes: Index, backwards: bool = False
) -> Iterator[Blocks]:
    """Yield some classes in blocks of about one size.

    Class c has the states `order[offsets[c]:offsets[c + 1]]`, in this order, or from its last one to its first.
    """
    place = np.full(P.shape[0], -1)
    size = np.diff(offsets)[classes]
    # Sizes go up by a third or a half, so that there are few kinds and no block has many states too much.
    widths = np.unique(np.concatenate([2 ** np.arange(1, 32), 3 * 2 ** np.arange(30)]))
    width = widths[np.searchsorted(widths, size)]
    for K in np.unique(width).tolist():
        alike = np.flatnonzero(width == K)
        K = int(size[alike].max())
        several = max(1, NUMBERS // K**2)
        for a in range(0, len(alike), several):
            which = alike[a : a + several]
            A, out = np.zeros((len(which), K, K)), np.ones((len(which), K))
            counts = size[which]
            slot = np.repeat(np.arange(len(which)), counts)
            at = np.arange(len(slot)) - np.repeat(np.cumsum(counts) - counts, counts)
            begin, end = offsets[classes[which]][slot], offsets[classes[which] + 1][slot]
            states = order[end - 1 - at if backwards else begin + at]
            place[states] = slot * K + at
            out[slot, at] = leaving[states]
            part = P[states]
            rows = np.repeat(np.arange(len(states)), np.diff(part.indptr))
            target = place[part.indices]
            inside = (target >= 0) & (target // K == slot[rows])
            A[slot[rows[inside]], at[rows[inside]], target[inside] % K] = part.data[inside]
            place[states] = -1
            yield Blocks(A, out, classes[which], states, slot, at)


def eliminated(blocks: Blocks) -> tuple[Vector, Vector]:
    """Eliminate blocks in place, each from its last state to its first; see `flowstat.analyze.elimination`.

    Returns
    -------
    again, leave : (q, K)
        Of each state the chance to come back to it without those before it, and that not to.

    Raises
    ------
    AnalysisError
        If a state is left with a chance that can't be told from never.
    """
    A, out = blocks.A, blocks.out
    q, K = out.shape
    again, leave = np.zeros((q, K)), np.zeros((q, K))
    for k in range(K - 1, -1, -1):
        again[:, k] = A[:, k, k]
        if not k:
            leave[:, 0] = out[:, 0]
            break
        pivot = leave[:, k] = A[:, k, :k].sum(axis=1) + out[:, k]
        divisor(float(pivot.min()))
        A[:, :k, k] /= pivot[:, None]
        f = A[:, :k, k]
        A[:, :k, :k] += f[:, :, None] * A[:, None, k, :k]
        out[:, :k] += f * out[:, k, None]
    return again, leave


def first_at(blocks: Blocks, inflow: Vector) -> Vector:
    """Return how much of an inflow ever comes to the states up to k, (q, K, m), by a block eliminated from its last.

    `inflow` is (q, K, m).
    """
    A, (_, leave) = blocks.A, eliminated(blocks)
    arrived = np.array(inflow, np.float64)
    ever = np.zeros_like(arrived)
    for k in range(arrived.shape[1] - 1, -1, -1):
        ever[:, k] = arrived[:, : k + 1].sum(axis=1)
        if k:
            share = A[:, k, :k] / leave[:, k, None]
            arrived[:, :k] += share[:, :, None] * arrived[:, k, None]
    return ever


def from_header(A: Vector, leave: Vector) -> Vector:
    """Return the visits, (k,), of a loop from its header, by its eliminated part of a block."""
    first = np.zeros(len(leave))
    first[0] = 1 / divisor(float(leave[0]))
    if len(leave) == 1:
        return first
    upper = -np.triu(A, 1).T
    # What a state gives to later ones is there per visit.
    return np.asarray(solve_triangular(upper, first, lower=True, unit_diagonal=True), np.float64)


def returns(block: sparse.csr_array, leaving: Vector) -> tuple[Solved, Solver]:
    """Return the chance to come to the header of a loop from each node, (k,), for the header itself 1, within the loop.

    `block` (k, k) are the chances within it, `leaving` (k,) those to leave it. What solves the loop without its header
    comes with it.
    """
    back = np.asarray(block[1:, [0]].todense()).ravel()
    solver = Solver(sparse.csr_array(block[1:][:, 1:]), leaving[1:] + back)
    x = solver.backward(back)
    return Solved(np.append(1.0, x.values), np.append(0.0, x.bound)), solver


def from_nowhere(block: sparse.csr_array, leaving: Vector, rest: Solver) -> tuple[Solved, Solved]:
    """Return the chance to leave a loop before its header comes again, and the visits, (k,), from the header on."""
    onward = np.asarray(block[[0]].todense()).ravel()[1:]
    leave = plus(exact(leaving[0]), dot(exact(onward), rest.backward(leaving[1:])))
    header = quotient(exact(1.0), leave)
    inflow = times(header, exact(onward))
    visited, _ = rest.visits(inflow.values, inflow.bound)
    values = np.append(header.values, visited.values)
    return leave, Solved(values, np.append(header.bound, visited.bound))
