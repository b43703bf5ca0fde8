"""A communicating class as a matrix: its Perron root with its vectors, and its period.

Nothing is subtracted: of a class that is left, `1 - root` is the chance to leave it under its quasi-stationary law.
With N = (I - P)^-1, which elimination gives to each entry, and y > 0, Collatz and Wielandt's quotients enclose it:
`min y_i / (y N)_i <= 1 - root <= max y_i / (y N)_i` (Berman and Plemmons, Nonnegative Matrices in the Mathematical
Sciences (1994), section 2.1; Alfa, Xue, Ye, Mathematics of Computation 71 (2002), for the accuracy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.periods import phases
from flowstat.analyze.solve import Index, Solver, Vector

__all__ = ["Part", "by_root", "part_of"]

SQUARED = 300
"""Up to how many states the powers of N are worked out whole."""

SQUARINGS = 14
"""How often they are squared at most."""

ROUNDS = 300
"""How often a larger class's vectors are multiplied with N."""

TIGHT = 1e-13
"""How narrow, relatively, the enclosure of `1 - root` is to be."""


SWEEPS = 40
"""Products with the whole matrix that enclose the Perron roots of all classes at once."""


@dataclass(frozen=True)
class Part:
    """A communicating class of k states.

    Attributes
    ----------
    states : (k,)
        Its states in the chain.
    off : (k, k) sparse
        Chances between different states.
    loops : (k,)
        Whether the state leads to itself.
    moving, exits : (k,)
        Chance to leave the state, and the class.
    closed
        Whether nothing leaves the class.
    period, phase : int, (k,)
        Its period (0 for one state that does not lead to itself), and each state's place in it.
    leave, leave_bound
        `1 - root`, the chance to leave the class under `left`, and how far it may be off.
    left, right : (k,)
        The Perron vectors: the stationary or quasi-stationary law, and the one of how much longer it lasts from each.
    left_doubt
        How far the entries of the stationary law may be off, relatively; `inf` of a class that is left.
    doubt : (k,)
        How far `P right - root right` may be off by rounding.
    """

    states: Index
    off: sparse.csr_array
    loops: npt.NDArray[np.bool_]
    moving: Vector
    exits: Vector
    closed: bool
    period: int
    phase: Index
    leave: float
    leave_bound: float
    left: Vector
    right: Vector
    left_doubt: float
    doubt: Vector

    @property
    def root(self) -> float:
        """The Perron root."""
        return 1 - self.leave

    def matrix(self) -> sparse.csr_array:
        """Return the class's block: on the diagonal, where a state leads to itself, what moving leaves."""
        return sparse.csr_array(self.off + sparse.diags_array(np.where(self.loops, 1 - self.moving, 0.0)))


def part_of(solver: Solver, c: int) -> Part:
    """Return class c of a solver, with its Perron root; the cost is that of some solves of the class.

    Examples
    --------
    >>> P = sparse.csr_array([[0.5, 0.25], [0.5, 0.25]])
    >>> part = part_of(Solver(P, np.array([0.25, 0.25])), 0)
    >>> part.leave, part.left.round(12), part.right, part.period
    (0.25, array([0.66666667, 0.33333333]), array([1., 1.]), 1)
    """
    states, closed = solver.classes[c].states, solver.classes[c].closed
    block = sparse.csr_array(solver.P[states][:, states])
    off = sparse.csr_array(block - sparse.diags_array(block.diagonal()))
    off.eliminate_zeros()
    periods, phase = phases(block, [np.arange(len(states))])
    exits, moving = solver.exits[states], solver.moving[states]
    left_doubt = np.inf
    if closed:
        law = solver.stationary(states)
        left, right, leave, bound = law.values, np.ones(len(states)), 0.0, 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            left_doubt = float(np.where(law.bound > 0, law.bound / left, 0.0).max())
    elif len(states) == 1:
        left = right = np.ones(1)
        leave, bound = float(moving[0]), solver.unit * float(moving[0])
    else:
        inner = Solver(block, exits, solver.tolerance)
        leave, bound, left, right = _quasi_stationary(inner)
    degree = np.diff(block.indptr) + 4
    doubt = degree * UNIT * (block @ right + 2 * right)
    loops, period = block.diagonal() > 0, int(periods[0])
    return Part(states, off, loops, moving, exits, closed, period, phase, leave, bound, left, right, left_doubt, doubt)


def by_root(solver: Solver) -> list[tuple[int, float]]:
    """Return the classes that have an eigenvalue but 0 with upper bounds of their roots, the largest first.

    For any positive x the largest of `(P x)_i / x_i` in a class is one (Collatz and Wielandt).
    """
    P, label = solver.P, solver.label
    data = np.where(label[solver.rows] == label[P.indices], P.data, 0.0)
    within = sparse.csr_array((data, P.indices, P.indptr), shape=P.shape)
    number = len(solver.classes)
    x = np.ones(solver.n)
    best = np.ones(number)
    for _ in range(SWEEPS):
        y = np.asarray(within @ x)
        quotient = np.zeros(number)
        np.maximum.at(quotient, label, y / x)
        best = np.minimum(best, (1 + 1e-12) * quotient)
        x = np.maximum((x + y) / 2, 1e-250)
    closed = np.array([part.closed for part in solver.classes])
    best[closed] = 1.0
    cyclic = np.bincount(label[solver.rows], weights=data, minlength=number) > 0
    order = np.flatnonzero(cyclic)
    order = order[np.lexsort((order, -best[order], ~closed[order]))]
    return [(int(c), float(best[c])) for c in order]


def _quasi_stationary(inner: Solver) -> tuple[float, float, Vector, Vector]:
    """Return the chance to leave and its bound, the quasi-stationary law, and the right vector (largest entry 1)."""
    n = inner.n
    whole = n <= SQUARED
    power = np.asarray(inner.visits(np.eye(n))[0].values.T if whole else np.zeros((0, 0)))
    y, x = np.full(n, 1 / n), np.ones(n)
    best = (1.0, np.inf, y)
    for _ in range(SQUARINGS if whole else ROUNDS):
        if whole:
            # No entry is negative, so that squaring loses nothing but a few units of each.
            power = power / power.max()
            y, x = power.sum(axis=0), power.sum(axis=1)
            power = power @ power
        found = _enclosed(inner, y / y.sum())
        y = found[2]
        best = min(best, found, key=lambda each: each[1])
        if best[1] <= TIGHT * best[0]:
            break
    for _ in range(2 if whole else ROUNDS):
        x = x / x.max()
        longer = inner.backward(x).values
        longer = longer / longer.max()
        settled = np.abs(longer - x).max() <= 8 * UNIT
        x = longer
        if settled:
            break
    return best[0], best[1], best[2], x


def _enclosed(inner: Solver, y: Vector) -> tuple[float, float, Vector]:
    """Return `1 - root` and its bound by the enclosure that y gives, and a law nearer to the quasi-stationary one."""
    visited, _ = inner.visits(y)
    some = y > 0
    with np.errstate(over="ignore"):
        low = float((y / (visited.values + visited.bound)).min())
        less = (visited.values - visited.bound)[some]
        high = float((y[some] / less).max()) if (less > 0).all() else 1.0
    law = visited.values / visited.values.sum()
    middle = min(max(float(law @ inner.exits), low), high)
    return middle, 1.01 * max(high - middle, middle - low) + 4 * UNIT * high, law
