"""Elimination without subtraction: exact to the rounding of each entry, however close to closed a class is.

Source: Grassmann, Taksar, Heyman, Operations Research 33 (1985), in the form for substochastic blocks of Alfa, Xue, Ye,
Mathematics of Computation 71 (2002). Cost: n^3/3 multiplications for a block of n states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowstat.errors import AnalysisError

__all__ = ["UNIT", "Eliminated", "divisor", "eliminate", "rounding"]

Vector = npt.NDArray[np.float64]

UNIT = float(np.finfo(np.float64).eps) / 2
"""The rounding unit u: a correctly rounded result is off by no more than this, relatively."""

SMALLEST = 1e-290
"""Smaller chances of leaving are refused: their reciprocals, or sums of these, are no floating-point numbers."""


def rounding(n: int) -> float:
    """Return a bound of the relative error of every entry that the elimination of n states gives.

    Eliminating one of k states adds, multiplies and divides nonnegative numbers only, and so changes no entry of what
    is left by more than (s + 3) u relatively, where s = min(k, 25) bounds the additions on the way of a pairwise sum.
    Changing every entry of a system of k states by e changes its answers by no more than 2 k e: they are ratios of sums
    of products of at most k entries (Freidlin and Wentzell's formula of trees; O'Cinneide, Numerische Mathematik 65
    (1993)). The sum over k, and (s + 2) u for each state in substituting back, is n (n + 2) (s + 3) u.

    Examples
    --------
    >>> rounding(1) < 2e-15 < rounding(60) < 2e-11
    True
    """
    return 1.01 * n * (n + 2) * (min(n, 25) + 3) * UNIT


@dataclass(frozen=True)
class Eliminated:
    """A block eliminated from its last state to its first.

    `pivots[k]` is the chance to leave the states 0..k for good, from k, once later states are censored
    out; `rounds` the chance to come back to state 0 within the block. `triangles` holds, left of the diagonal, the
    chances to move to earlier states, and above it the visits to later ones per visit to earlier ones.
    """

    pivots: Vector
    rounds: float
    triangles: Vector

    def visits(self, inflow: Vector) -> Vector:
        """Solve `v = inflow + v A`: expected visits from an inflow, (n,) or (n, m)."""
        v = inflow.astype(np.float64)
        for k in range(len(v) - 1, 0, -1):
            v[:k] += np.multiply.outer(self.triangles[k, :k], v[k] / self.pivots[k])
        v[0] /= self.pivots[0]
        for k in range(1, len(v)):
            v[k] = v[k] / self.pivots[k] + self.triangles[:k, k] @ v[:k]
        return v

    def backward(self, gain: Vector) -> Vector:
        """Solve `x = gain + A x`: expected gain collected from each state, (n,) or (n, m)."""
        x = gain.astype(np.float64)
        for k in range(len(x) - 1, 0, -1):
            x[:k] += np.multiply.outer(self.triangles[:k, k], x[k])
        x[0] /= self.pivots[0]
        for k in range(1, len(x)):
            x[k] = (x[k] + self.triangles[k, :k] @ x[:k]) / self.pivots[k]
        return x

    def censored(self, inflow: Vector, keep: int) -> Vector:
        """Return the inflow as it first arrives at the states 0..keep-1, others censored out."""
        a = inflow.astype(np.float64)
        for k in range(len(a) - 1, keep - 1, -1):
            a[:k] += a[k] / self.pivots[k] * self.triangles[k, :k]
        return a[:keep]


def eliminate(A: Vector, leaving: Vector) -> Eliminated:
    """Eliminate a block whose rows with `leaving` sum to 1; the diagonal is only used for `rounds`.

    Parameters
    ----------
    A : (n, n)
        Transition chances within the block.
    leaving : (n,)
        Chance of leaving the block from each state.

    Raises
    ------
    AnalysisError
        If a state is left with a chance that can't be told from never.
    """
    A = A.astype(np.float64)
    out = leaving.astype(np.float64)
    n = len(out)
    pivots = np.zeros(n)
    for k in range(n - 1, 0, -1):
        pivot = pivots[k] = divisor(A[k, :k].sum() + out[k])
        A[:k, k] /= pivot
        A[:k, :k] += np.multiply.outer(A[:k, k], A[k, :k])
        out[:k] += A[:k, k] * out[k]
    pivots[0] = divisor(out[0]) if leaving.any() else 0.0
    return Eliminated(pivots, float(A[0, 0]), A)


def divisor(chance: float) -> float:
    """Return a chance of leaving that is going to be divided by; raise AnalysisError if it is too small."""
    if chance < SMALLEST:
        raise AnalysisError(
            f"some nodes are left with a chance below {SMALLEST:g}: that can't be told from never. "
            "If they are meant to be a trap, set the shares that lead out of them to 0"
        )
    return chance
