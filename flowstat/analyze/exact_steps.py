"""Quantiles that floats can't tell: a share that is, but for rounding, the chance to get there by some step.

The shares of a chain are numbers of 53 bits: its steps are taken in whole numbers, exactly, and compared with the share
as it is stored. That is only done for as many steps as are soon taken so.
"""

from __future__ import annotations

from fractions import Fraction
from math import inf, isqrt
from typing import NamedTuple

import numpy as np

from flowstat.analyze.aim import Aim
from flowstat.analyze.search import Vector, reachable

__all__ = ["settled"]

ADDED = 200_000
"""How many products are taken at most."""

BITS = 2e9
"""How many bits they may have together."""

SOLVED = 20
"""Of up to how many states the chance ever to get there is found exactly."""


class _Whole(NamedTuple):
    """The states on the way, as whole numbers of 2^-scale."""

    scale: int
    x: dict[int, int]
    at_once: int
    rows: dict[int, list[tuple[int, int]]]
    last: dict[int, int]


def settled(
    aim: Aim, law: Vector, bracket: tuple[float, float], share: float, limit: float = inf
) -> tuple[float, float]:
    """Return between which numbers of steps a quantile is, exactly the same one if it is found; inf if there is none.

    Parameters
    ----------
    law : (n,)
        Where runs start.
    bracket
        Between which numbers of steps it is known to be.
    share
        Which share of the runs, as it is stored.
    limit
        Up to how many steps are taken.
    """
    low, high = bracket
    whole = _whole(aim, law)
    arrows = sum(map(len, whole.rows.values())) + len(whole.rows) + 1
    most = min(ADDED // arrows, isqrt(int(BITS) // (arrows * (whole.scale + 1))))
    most = int(min(limit, most))
    if low > most:
        return bracket
    asked = Fraction(share)
    x, together, one = whole.x, whole.at_once, 1 << whole.scale
    t, unit = 0, one
    while t <= min(most, high):
        if together * asked.denominator >= asked.numerator * unit:
            return t, t
        if not x:
            return inf, inf
        arriving, onward = 0, dict[int, int]()
        for i, size in x.items():
            arriving += size * whole.last.get(i, 0)
            for j, share_of in whole.rows[i]:
                onward[j] = onward.get(j, 0) + size * share_of
        together = together * one + arriving
        x, t, unit = onward, t + 1, unit * one
    if high == inf and len(whole.rows) <= SOLVED and _ever(whole, Fraction(together, unit), x, unit) <= asked:
        # Some runs are always on their way: so many are there after no number of steps.
        return inf, inf
    return max(low, t), high


def _whole(aim: Aim, law: Vector) -> _Whole:
    """Return the arrows on the way, the chances to arrive with a step, and the start."""
    live = np.flatnonzero(reachable(aim.arrows, law > 0) & aim.able & ~aim.inside).tolist()
    P, inside, among = aim.chain.P, aim.inside.tolist(), set(live)
    shares: dict[int, list[tuple[int, float]]] = {}
    for i in live:
        begin, end = P.indptr[i], P.indptr[i + 1]
        shares[i] = list(zip(P.indices[begin:end].tolist(), P.data[begin:end].tolist(), strict=True))
    stops = aim.chain.stop.tolist()
    start = {i: law[i] for i in np.flatnonzero(law).tolist()}
    every = [p for row in shares.values() for _, p in row] + [stops[i] for i in live] + list(start.values())
    scale = max(float(p).as_integer_ratio()[1].bit_length() - 1 for p in every)

    def counted(p: float) -> int:
        over, under = float(p).as_integer_ratio()
        return over << (scale + 1 - under.bit_length())

    rows = {i: [(j, counted(p)) for j, p in row if j in among and p] for i, row in shares.items()}
    if aim.ends:
        last = {i: counted(stops[i]) for i in live}
    else:
        last = {i: sum(counted(p) for j, p in row if inside[j]) for i, row in shares.items()}
    x = {i: counted(p) for i, p in start.items() if i in among}
    return _Whole(scale, x, sum(counted(p) for i, p in start.items() if inside[i]), rows, last)


def _ever(whole: _Whole, arrived: Fraction, x: dict[int, int], unit: int) -> Fraction:
    """Return the chance ever to get there, from what has arrived and where the others are."""
    one, states = Fraction(1, 1 << whole.scale), list(whole.rows)
    place = {i: k for k, i in enumerate(states)}
    A = [[Fraction(0)] * len(states) for _ in states]
    right = [whole.last.get(i, 0) * one for i in states]
    for i in states:
        A[place[i]][place[i]] += 1
        for j, share in whole.rows[i]:
            A[place[i]][place[j]] -= share * one
    for m in range(len(states) - 1, -1, -1):
        if A[m][m] <= 0:
            return Fraction(2)  # rows that sum to more than 1: nothing is said
        for i in range(m):
            f = A[i][m] / A[m][m]
            if f:
                right[i] -= f * right[m]
                A[i] = [a - f * b for a, b in zip(A[i][:m], A[m][:m], strict=True)]
    h: list[Fraction] = []
    for m in range(len(states)):
        h.append((right[m] - sum((A[m][k] * h[k] for k in range(m)), Fraction(0))) / A[m][m])
    return arrived + sum((Fraction(size, unit) * h[place[i]] for i, size in x.items()), Fraction(0))
