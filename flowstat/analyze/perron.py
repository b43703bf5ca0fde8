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

__all__ = ["Part", "part_of"]

SQUARED = 300
"""Up to how many states the powers of N are worked out whole."""

SQUARINGS = 14
"""How often they are squared at most."""

ROUNDS = 300
"""How often a larger class's vectors are multiplied with N at most."""

WINDOW, GAIN = 20, 0.7
"""They are no more where so many times did not make them so much better."""

TIGHT = 1e-13
"""How narrow, relatively, the enclosure of `1 - root` is to be."""

PLAIN, ENOUGH = 1024, 1e-11
"""How often a larger class's vectors are multiplied with P first, and how narrow an enclosure from that will do."""


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


def _quasi_stationary(inner: Solver) -> tuple[float, float, Vector, Vector]:
    """Return the chance to leave and its bound, the quasi-stationary law, and the right vector (largest entry 1)."""
    n = inner.n
    whole = n <= SQUARED
    power = np.asarray(inner.visits(np.eye(n))[0].values.T if whole else np.zeros((0, 0)))
    y, x, best = np.full(n, 1 / n), np.ones(n), (1.0, np.inf, np.full(n, 1 / n))
    if not whole:
        y, _ = _powered(sparse.csr_array(inner.P.T))
        x, _ = _powered(inner.P)
        best = _enclosed_by_products(inner, y / y.sum())
        if best[1] <= ENOUGH * best[0]:
            return best[0], best[1], best[2], x
    sizes = []
    for _ in range(SQUARINGS if whole else ROUNDS):
        if whole:
            # No entry is negative, so that squaring loses nothing but a few units of each.
            power = power / power.max()
            y, x = power.sum(axis=0), power.sum(axis=1)
            power = power @ power
        found = _enclosed(inner, y / y.sum())
        y = found[2]
        best = min(best, found, key=lambda each: each[1])
        sizes.append(best[1])
        if best[1] <= TIGHT * best[0] or _stalls(sizes):
            break
    changes = []
    for _ in range(2 if whole else ROUNDS):
        x = x / x.max()
        longer = inner.backward(x).values
        longer = longer / longer.max()
        changes.append(float(np.abs(longer - x).max()))
        x = longer
        if changes[-1] <= 8 * UNIT or _stalls(changes):
            break
    return best[0], best[1], best[2], x


def _stalls(sizes: list[float]) -> bool:
    """Whether what is to get small does not any more, or hardly."""
    return len(sizes) > WINDOW and min(sizes[-WINDOW:]) > GAIN * sizes[-WINDOW - 1]


def _powered(matrix: sparse.csr_array) -> tuple[Vector, float]:
    """Return nearly the Perron vector of an irreducible matrix, and how far its quotients spread, relatively.

    Products with the matrix, half of them put off for a turn, since it may be periodic.
    """
    x = np.ones(matrix.shape[0])
    spread = np.inf
    for k in range(PLAIN):
        y = (x + matrix @ x) / 2
        if k % 32 == 31:
            before, quotient = spread, y / x
            spread = float(quotient.max() / quotient.min() - 1)
            if spread <= 64 * UNIT or (k > 64 and spread > GAIN * before):
                break
        x = np.maximum(y / y.max(), 1e-250)
    return x, spread


def _enclosed_by_products(inner: Solver, y: Vector) -> tuple[float, float, Vector]:
    """Return `1 - root` and its bound by the quotients of `y P` and y, and y: good where runs leave soon enough."""
    quotient = np.asarray(inner.P.T @ y) / y
    low = 1 - float(quotient.max()) * (1 + inner.inward) - UNIT
    high = 1 - float(quotient.min()) * (1 - inner.inward) + UNIT
    middle = min(max(float(y @ inner.exits), low, 0.0), high)
    return middle, 1.01 * max(high - middle, middle - max(low, 0.0)) + 4 * UNIT * high, y


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
