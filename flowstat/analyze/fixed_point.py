"""Fixed points of the generating functions of an offspring law, with two-sided bounds.

With p_s the chance of send pattern s, and y_j the chance that a message to j brings something about, an event at i does
with `g_i(y) = sum_s p_s (1 - prod_j (1 - y_j)^m_sj)`: the complement of the generating function, in a form from which
nothing is subtracted. Newton's method goes from y = 1, which is where the generating functions are 0, monotonically to
the fixed point (Etessami and Yannakakis, Journal of the ACM 56 (2009); Esparza, Kiefer, Luttenberger, SIAM Journal on
Computing 39 (2010)). With J the derivatives at y, its step leads to `(I - J)^-1 h`, and `h = g(y) - J y` is a
chance too: that several messages bring something about, or one whose value is known does. So values of 1e-200 beside
others come out as well as those. What it finds is then proven: g grows with y, so that a box from a to b with `a <=
g(a)` and `g(b) <= b` has a fixed point in it (Brouwer), and the callers see to it that there is but one.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse, special

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.offspring import Offspring
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.shifted import DENSE, Factors, Plan
from flowstat.analyze.solve import Solved

__all__ = ["Functions", "fixed_point"]

LEAST = -1e4
"""A logarithm of 0."""

STEPS = 200
"""How many steps Newton's method has; halving the distance each time, at a critical point, it needs 55."""

FLOOR = -690.0
"""The least logarithm of a chance that is worked with where a derivative is looked for."""

NEAR, POLISHED = 1e-3, 12
"""From how small a change on, relatively, what is left is solved for, and how often at most."""

SLOW = 60
"""After how many steps Newton's method is left if it does not get nearer."""

TINY = 1e-300
"""The least value that is worked with."""

WIDENING = 40
"""How often a box is made twice as wide, if it can't be proven."""


class Functions:
    """The functions g of some nodes, the others having known values.

    Parameters
    ----------
    law
        An offspring law.
    some
        The positions of the nodes, ascending.
    """

    def __init__(self, law: Offspring, some: Index) -> None:
        self.law, self.some = law, some
        place = np.full(len(law.stop), -1)
        place[some] = np.arange(len(some))
        mine = place[law.node] >= 0
        self.sent = sparse.csr_array(law.sent[mine])
        self.chance = law.chance[mine]
        self.row = place[law.node[mine]]
        self.line = np.repeat(np.arange(len(self.row)), np.diff(self.sent.indptr))
        self.column = place[self.sent.indices]
        self.place = np.arange(len(self.line)) - self.sent.indptr[:-1].astype(np.int64)[self.line]
        most = int(np.bincount(self.row, minlength=1).max(initial=0))
        longest = int(np.diff(self.sent.indptr).max(initial=0))
        # 1 - exp(S) is off, relatively, by no more than S is: t e^-t <= 1 - e^-t.
        self.unit = 1.01 * (most + longest + 14) * UNIT

    def __call__(self, y: Vector) -> Vector:
        """Return g of the nodes, for the values of all, (n,) in [0, 1]."""
        with np.errstate(divide="ignore"):
            S = self.sent @ np.log1p(-y)
        terms = self.chance * -np.expm1(S)
        return np.bincount(self.row, weights=terms, minlength=len(self.some)).astype(np.float64)

    def derivative(self, y: Vector) -> sparse.csr_array:
        """Return the derivatives of g with respect to the nodes' own values, (k, k)."""
        with np.errstate(divide="ignore"):
            L = np.maximum(np.log1p(-y), FLOOR)
        S = self.sent @ L
        inner = self.column >= 0
        line = self.line[inner]
        # The product without one factor.
        data = self.chance[line] * self.sent.data[inner] * np.exp(S[line] - L[self.sent.indices[inner]])
        k = len(self.some)
        return sparse.csr_array((data, (self.row[line], self.column[inner])), shape=(k, k))

    def several(self, y: Vector) -> Vector:
        """Return `g - J y`, (k,): the chance that several messages bring something about, or one of a known value.

        It is added up over the messages of a pattern; nothing is subtracted.
        """
        number, value = self.sent.data, y[self.sent.indices]
        known = self.column < 0
        with np.errstate(divide="ignore", under="ignore"):
            L = np.maximum(np.log1p(-value), LEAST)
            none = np.exp(number * L)
            one = np.where(known, 0.0, number * value * np.exp((number - 1) * L))
            more = np.where(known, -np.expm1(number * L), 0.0)
        many = np.flatnonzero((number > 1) & ~known)
        more[many] = special.betainc(2.0, number[many] - 1, value[many])
        zero, single, rest = np.ones(len(self.row)), np.zeros(len(self.row)), np.zeros(len(self.row))
        by_place = np.argsort(self.place, kind="stable")
        for at in np.split(by_place, np.cumsum(np.bincount(self.place))[:-1]):
            k = self.line[at]
            rest[k] += single[k] * (one[at] + more[at]) + zero[k] * more[at]
            single[k] = single[k] * none[at] + zero[k] * one[at]
            zero[k] = zero[k] * none[at]
        return np.bincount(self.row, weights=self.chance * rest, minlength=len(self.some)).astype(np.float64)


def fixed_point(law: Offspring, known: Vector, *, single: bool = False) -> Solved:
    """Return the largest fixed point of g with the known values, (n,), and its bound.

    Parameters
    ----------
    law
        An offspring law.
    known : (n,)
        The values that are known; `nan` where one is looked for.
    single
        Whether there is one fixed point at all; else there must be one that is positive at all unknown nodes.

    Returns
    -------
    Solved
        Where the box can't be proven the bound is 1.

    Notes
    -----
    Cost: a solution of the unknown nodes' system for every step (see `flowstat.analyze.shifted`), of which there are
    some ten, and some fifty where a class is within 1e-15 of critical.
    """
    y = known.copy()
    some = np.flatnonzero(np.isnan(known))
    if not len(some):
        return Solved(y, np.zeros(len(y)))
    g = Functions(law, some)
    y[some] = 1.0
    plan: Plan | None = None
    best = np.inf
    for k in range(STEPS):
        _halve(g, y)
        J = g.derivative(y)
        plan = Plan(J) if plan is None and len(some) > DENSE else plan
        # From above y itself is a vector with J y <= g(y) <= y: g is concave, and not negative at 0.
        new = Factors(J, near=y[some], plan=plan).solve(g.several(y))
        if new is None:
            break
        new = np.clip(new, TINY, 1.0)
        moved = _apart(new, y[some])
        y[some] = new
        if moved <= NEAR or (moved >= best / 2 and k > SLOW):
            break
        best = min(best, moved)
    _polish(g, y, plan)
    return _proven(g, y, plan, single)


def _apart(new: Vector, old: Vector) -> float:
    """Return how much values have changed at most, relatively."""
    return float((np.abs(new - old) / new).max())


def _polish(g: Functions, y: Vector, plan: Plan | None) -> None:
    """Solve for what is left, which mends what the way of solving did to y as a whole, while that gets less."""
    best, stalled = np.inf, 0
    for _ in range(POLISHED):
        at = y[g.some]
        step = Factors(g.derivative(y), near=at, plan=plan).solve(at - g(y))
        if step is None:
            return
        new = np.clip(at - step, TINY, 1.0)
        moved = _apart(new, at)
        if moved > max(best, NEAR):
            return
        y[g.some] = new
        stalled = stalled + 1 if moved >= best / 2 else 0
        best = min(best, moved)
        if moved <= 4 * UNIT or stalled > 1:
            return


def _halve(g: Functions, y: Vector) -> None:
    """Halve all unknown values while that keeps them above the fixed point: next to critical it is far below 1."""
    lower = y.copy()
    while True:
        lower[g.some] /= 2
        if not (lower[g.some].min() > 1e-290 and (g(lower) <= lower[g.some]).all()):
            return
        y[g.some] = lower[g.some]


def _proven(g: Functions, y: Vector, plan: Plan | None, single: bool) -> Solved:
    """Return a box around y that a fixed point is in, as values and bound."""
    some, n = g.some, len(y)
    at = y[some]
    # What is lost below the least numbers is less than TINY.
    wrong = np.abs(at - g(y)) + 2 * g.unit * at + TINY
    off = Factors(g.derivative(y), near=at, plan=plan).solve(wrong)
    bound = np.zeros(n)
    if off is not None:
        e = np.maximum(np.abs(off), wrong)
        low, high = y.copy(), y.copy()
        below = above = False
        for _ in range(WIDENING):
            if not below:
                low[some] = np.maximum(at - e, 0.0 if single else at / 1024)
                below = bool((g(low) * (1 - g.unit) >= low[some]).all())
            if not above:
                high[some] = np.minimum(at + e, 1.0)
                reached = g(high) * (1 + g.unit)
                above = bool(((reached <= high[some]) | (high[some] == 1.0)).all())
            if below and above:
                bound[some] = 1.01 * np.maximum(high[some] - at, at - low[some]) + UNIT * at
                return Solved(y, bound)
            e = 2 * e
    bound[some] = 1.0
    return Solved(y, bound)
