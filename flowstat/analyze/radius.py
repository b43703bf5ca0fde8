"""The spectral radius of every class of an offspring law, enclosed: does the class dampen, or multiply, its messages?

For any x > 0 the quotients `(A x)_i / x_i` enclose the Perron root of an irreducible A (Collatz and Wielandt; Berman
and Plemmons, Nonnegative Matrices in the Mathematical Sciences (1994), section 2.1). x is found by Noda's iteration,
`x <- (largest quotient - A)^-1 x`, which keeps x positive and converges quadratically (Noda, Numerische Mathematik 17
(1971); Elsner, Linear Algebra and its Applications 15 (1976)). In a class of which no event sends several messages to
the class itself, `1 - root` is the chance to leave it, of which nothing is lost: see `flowstat.analyze.perron`.

Where the enclosure does not tell the root from 1, and the class is small, fractions do: `I - A` has positive pivots up
to the last one, which is positive, zero or negative as the root is below, at or above 1. Of a large class they do where
a Perron vector is made of simple fractions: where each event sends one message on average, for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf, log
from typing import Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.offspring import EXACT, Offspring
from flowstat.analyze.perron import part_of
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.shifted import DENSE, Factors, Plan
from flowstat.analyze.solve import Solver
from flowstat.errors import AnalysisError

__all__ = ["Radius", "Verdict", "enclose", "radii", "sign_by_fractions"]

Verdict = Literal["dampens", "critical", "multiplies", "can't tell"]

POWERS = 3000
"""How many steps there are at most; of Noda's iteration a few do."""

LOOKED, ENOUGH = 32, 400
"""After how many products with a large class it is asked how many more are needed, and how many are too many."""

NARROW = 1e-13
"""An enclosure this narrow, relatively, is left to products."""

SIMPLE, WIDE = 1000, 1e6
"""Up to which denominator fractions are simple, and how far apart they may be."""

TINY = 1e-280
"""Entries of a vector are kept above this."""


@dataclass(frozen=True, eq=False)
class Radius:
    """The Perron root of one class.

    Attributes
    ----------
    label
        The position of the class in `Offspring.order`.
    states : (k,)
    block : (k, k) sparse
        Mean numbers of messages within the class.
    rho, bound
        The root, and how far it may be off.
    margin, margin_bound
        `1 - rho`, where that is known better.
    verdict
        Whether rho is below, at or above 1, proven.
    for_ever
        Whether each event sends just one message to the class itself: a message that comes there never ends.
    left, right : (k,)
        Perron vectors, of which nothing is proven.
    residual
        The largest of `|A right - rho right| / (rho right)` and the same of `left`.
    """

    label: int
    states: Index
    block: sparse.csr_array
    rho: float
    bound: float
    margin: float
    margin_bound: float
    verdict: Verdict
    for_ever: bool
    left: Vector
    right: Vector
    residual: float


def radii(law: Offspring) -> list[Radius]:
    """Return the radius of every class that has a cycle, in the order of the classes.

    Raises
    ------
    AnalysisError
        If a class is too large and too close to closed.

    Notes
    -----
    Cost: some factorisations of each class up to 400 states; of a larger one products with it, and factorisations (see
    `flowstat.analyze.shifted`) where it mixes so slowly that products would take too many.
    """
    members = law.order.members()
    found = []
    diagonal = law.mean.diagonal()
    for c in np.flatnonzero(law.cyclic).tolist():
        states = members[c]
        if len(states) == 1:
            found.append(_single(law, c, states, float(diagonal[states[0]])))
            continue
        block = sparse.csr_array(law.mean[states][:, states])
        found.append(_spreading(law, c, states, block) if law.spreading[c] else _chain(law, c, states, block))
    return found


def _single(law: Offspring, c: int, states: Index, rho: float) -> Radius:
    ones = np.ones(1)
    leave = float(law.leaving[states[0]])
    block = sparse.csr_array(np.array([[rho]]))
    if not law.spreading[c]:
        bound = (law.unit + 8 * UNIT) * leave
        verdict: Verdict = "dampens" if leave > 0 else "critical"
        off = law.unit * rho if leave > 0 else 0.0
        return Radius(
            c, states, block, rho if leave > 0 else 1.0, off, leave, bound, verdict, leave == 0, ones, ones, 0
        )
    off = law.unit * rho
    verdict, rho, off = _decided(law, states, rho, off)
    margin = 1 - rho
    return Radius(c, states, block, rho, off, margin, off + UNIT * abs(margin), verdict, False, ones, ones, 0.0)


def _chain(law: Offspring, c: int, states: Index, block: sparse.csr_array) -> Radius:
    """Return the root of a class whose events send one message at most to the class."""
    exits = law.leaving[states]
    part = part_of(Solver(block, exits), 0)
    if part.closed:
        residual = _residual(block, 1.0, part.left, part.right)
        return Radius(c, states, block, 1.0, 0.0, 0.0, 0.0, "critical", True, part.left, part.right, residual)
    rho = part.root
    # Chances of leaving are at least the smallest of their kind, whatever the enclosure says.
    verdict: Verdict = "dampens"
    off = part.leave_bound + 2 * UNIT
    residual = _residual(block, rho, part.left, part.right)
    return Radius(
        c, states, block, rho, off, part.leave, part.leave_bound, verdict, False, part.left, part.right, residual
    )


def _spreading(law: Offspring, c: int, states: Index, block: sparse.csr_array) -> Radius:
    low, high, right = enclose(block, law.unit)
    lowest, highest, left = enclose(sparse.csr_array(block.T), law.unit, high)
    low, high = max(low, lowest), min(high, highest)
    rho = (low + high) / 2
    off = 1.01 * max(high - rho, rho - low) + UNIT * rho
    if high < 1:
        verdict: Verdict = "dampens"
    elif low > 1:
        verdict = "multiplies"
    else:
        verdict, rho, off = _decided(law, states, rho, off, (right, left))
    margin = 1 - rho
    residual = _residual(block, rho, left, right)
    return Radius(c, states, block, rho, off, margin, off + UNIT * abs(margin), verdict, False, left, right, residual)


def _decided(
    law: Offspring, states: Index, rho: float, off: float, vectors: tuple[Vector, ...] = ()
) -> tuple[Verdict, float, float]:
    """Return the verdict, and the root and its bound, which are exact where the root is 1."""
    if abs(rho - 1) > off:
        return ("dampens" if rho < 1 else "multiplies"), rho, off
    sign = sign_by_fractions(law, states) if len(states) <= EXACT else _sign_by_vectors(law, states, vectors)
    if sign is None:
        return "can't tell", rho, off
    if sign == 0:
        return "critical", 1.0, 0.0
    return ("dampens" if sign > 0 else "multiplies"), rho, off


def _sign_by_vectors(law: Offspring, states: Index, vectors: tuple[Vector, ...]) -> int | None:
    """Return the sign of `1 - root` of a large class, where simple fractions near a Perron vector prove it.

    `A x = x` with x > 0 proves the root 1, `A x <= x` with one entry less a smaller one, `A x >= x` a larger one
    (Berman and Plemmons (1994), section 2.1); and so do rows `x A`.
    """
    members = states.tolist()
    place = {i: k for k, i in enumerate(members)}
    rows = [[(place[j], p) for j, p in law.exact_mean(i).items() if j in place] for i in members]
    for transposed, vector in enumerate(vectors):
        if not vector.max() <= WIDE * vector.min():
            continue
        x = [Fraction(value).limit_denominator(SIMPLE) for value in (vector / vector.min()).tolist()]
        made = [Fraction(0)] * len(x)
        for i, row in enumerate(rows):
            for j, p in row:
                if transposed:
                    made[j] += x[i] * p
                else:
                    made[i] += p * x[j]
        less, more = (any(side) for side in zip(*((a < b, a > b) for a, b in zip(made, x, strict=True)), strict=True))
        if not (less and more):
            return int(less) - int(more)
    return None


def sign_by_fractions(law: Offspring, states: Index) -> int:
    """Return the sign of `1 - root`, by elimination in fractions."""
    A = law.exact_block(states.tolist())
    k = len(A)
    M = [[(i == j) - A[i][j] for j in range(k)] for i in range(k)]
    for m in range(k):
        pivot = M[m][m]
        if pivot <= 0:
            # A part of an irreducible matrix has a smaller root: only the last pivot can be zero at the root 1.
            return 0 if pivot == 0 and m == k - 1 else -1
        for i in range(m + 1, k):
            if M[i][m]:
                f = M[i][m] / pivot
                M[i] = [a - f * b if b else a for a, b in zip(M[i], M[m], strict=True)]
    return 1


def enclose(A: sparse.csr_array, unit: float, most: float = inf) -> tuple[float, float, Vector]:
    """Return a lower and an upper bound of the Perron root of an irreducible matrix, and its vector, (n,), largest 1.

    Parameters
    ----------
    A : (n, n) sparse
        At least 0.
    unit
        How far its entries may be off, relatively.
    most
        What the root is at most, where that is known: the vector is found sooner.

    Examples
    --------
    >>> low, high, x = enclose(sparse.csr_array([[0.0, 2.0], [0.5, 0.0]]), 0.0)
    >>> low <= 1 <= high, round(high - low, 14), x
    (True, 0.0, array([1. , 0.5]))
    """
    n = A.shape[0]
    rounded = 1.01 * (unit + (int(np.diff(A.indptr).max(initial=0)) + 4) * UNIT)
    x = np.ones(n)
    best = (0.0, inf, x)
    # Of a large class products may be enough, and cost less.
    factored, stalled, before = n <= DENSE, 0, inf
    plan: Plan | None = None
    for step in range(POWERS):
        y = A @ x
        quotient = y / x
        low, high = float(quotient.min()), float(quotient.max())
        if not np.isfinite(high):
            raise AnalysisError("the mean numbers of messages of a class are too far apart to be worked with")
        stalled += 1
        if high - low < best[1] - best[0]:
            best, stalled = (low, high, x), 0
        if high - low <= 4 * UNIT * high or stalled > (4 if factored else LOOKED):
            break
        if not factored and step % LOOKED == LOOKED - 1:
            spread = (high - low) / high
            with np.errstate(divide="ignore"):
                factored = spread > NARROW and LOOKED * log(spread / UNIT) > ENOUGH * log(before / spread)
            before = spread
        new = None
        if factored:
            plan = Plan(A) if plan is None and n > DENSE else plan
            # A little above the largest quotient the matrix is not singular.
            shift = min(high * (1 + 8 * UNIT), most * (1 + 64 * UNIT))
            new = Factors(A, shift, plan=plan, relaxes=False).solve(x)
        new = np.abs(y + high * x if new is None else new)
        x = np.maximum(new / new.max(), TINY)
    low, high, x = best
    return max(0.0, low * (1 - rounded)), high * (1 + rounded), x


def _residual(block: sparse.csr_array, rho: float, left: Vector, right: Vector) -> float:
    worst = 0.0
    for matrix, x in ((block, right), (sparse.csr_array(block.T), left)):
        some = x > 0
        with np.errstate(all="ignore"):
            apart = np.abs((matrix @ x)[some] / (rho * x[some]) - 1)
        worst = max(worst, float(apart.max(initial=0.0)))
    return worst
