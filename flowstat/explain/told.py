"""Numbers held against bounds: what is told by the numbers as they are known, and by the data behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite, sqrt
from typing import Literal

import numpy as np

from flowstat.analyze.aim import weighted
from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.collected import Collected
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.lasting import Lasting
from flowstat.analyze.search import Vector
from flowstat.analyze.solve import Solved
from flowstat.analyze.spread import Spread, data_factor, interval
from flowstat.analyze.until import Until
from flowstat.analyze.until_time import TimedUntil
from flowstat.estimate.chain import Chain
from flowstat.explain.property import Bound

__all__ = ["Numbers", "Point", "point_at", "point_in_time", "point_of", "satisfied"]

Numbers = Until | Lasting | Collected
"""What has a number for every state."""

CLOSE = 1e-12
"""A number that is known this well, relatively, and may be the bound itself, counts as equal to it."""


@dataclass(frozen=True)
class Point:
    """A number with what is known of it.

    Attributes
    ----------
    value, bound
        The number, and how far it may be off.
    rest, rest_bound
        What is left of a chance to 1, where that is known on its own.
    exact
        0, 1 or infinity, where the graph alone says so.
    deviation
        The posterior standard deviation; 0 without data.
    """

    kind: Literal["chance", "amount"]
    value: float
    bound: float = 0.0
    rest: float | None = None
    rest_bound: float = 0.0
    exact: float | None = None
    deviation: float = 0.0
    by_graph: bool = True
    """Whether the graph says where a chance is 0 or 1: then it is neither elsewhere."""

    def side(self, than: Fraction) -> int | None:
        """Return 1 above a bound, -1 below, 0 where it counts as equal, None where that is not known."""
        if self.exact is not None:
            return 1 if self.exact == inf else (self.exact > than) - (self.exact < than)
        if self._plain(than):
            return 1 if than == 0 else -1
        sides = [(self.value, self.bound, float(than), 1)]
        if self.rest is not None:
            sides.append((self.rest, self.rest_bound, float(1 - than), -1))
        near = True
        for value, bound, against, sign in sides:
            off = bound + 4 * UNIT * max(abs(value), abs(against))
            if abs(value - against) > off:
                return sign if value > against else -sign
            near = near and bound <= CLOSE * abs(against)
        return 0 if near else None

    def _plain(self, than: Fraction) -> bool:
        """Whether it is the graph that decides on a bound."""
        return self.exact is not None or (self.by_graph and self.kind == "chance" and than in (0, 1))

    def range(self, level: float) -> tuple[float, float]:
        """Return the credible interval, with what rounding may add; the number itself without data."""
        if self.exact is not None or not isfinite(self.value):
            return self.value, self.value
        low, high = interval(self.value, self.deviation, level, self.kind)
        most = 1.0 if self.kind == "chance" else inf
        return max(0.0, low - self.bound), min(most, high + self.bound)

    def told(self, than: Fraction, level: float) -> int | None:
        """Return the side of a bound that the data tell at a level."""
        if not self.deviation or self._plain(than):
            return self.side(than)
        low, high = self.range(level)
        return 1 if _less(than, low) else -1 if _less(-than, -high) else None

    def factor(self, than: Fraction, level: float) -> float:
        """Return how many times the data would tell; inf where none would."""
        if self.side(than) in (0, None):
            return inf
        return data_factor(self.value, self.deviation, float(than), level, self.kind)


def _less(than: Fraction, value: float) -> bool:
    return value == inf or (isfinite(value) and than < Fraction(value))


def satisfied(bound: Bound, side: int | None) -> bool | None:
    """Return whether a number on this side of a bound satisfies it; None where the side is not known."""
    if side is None:
        return None
    if side == 0:
        return bound.compare in (">=", "<=")
    return (side > 0) == (bound.compare in (">=", ">"))


def point_at(numbers: Numbers, law: Vector, spread: Spread | None) -> Point:
    """Return the number of runs that start by a law, (n,) over all states; `point_of` is about one state."""
    some = law > 0
    if isinstance(numbers, Collected):
        if numbers.infinite[some].any():
            return Point("amount", inf, exact=inf)
        if numbers.goal[some].all():
            return Point("amount", 0.0, exact=0.0)
        value, bound = weighted(law, numbers.solved)
        return Point("amount", value, bound, deviation=_deviation(numbers, law, spread))
    for mask, exact in ((numbers.never, 0.0), (numbers.always, 1.0)):
        if mask[some].all():
            return Point("chance", exact, exact=exact)
    value, bound = weighted(law, numbers.solved)
    other: Solved | None = numbers.other
    rest, rest_bound = weighted(law, other) if other is not None else (None, 0.0)
    return Point("chance", min(1.0, value), bound, rest, rest_bound, deviation=_deviation(numbers, law, spread))


def point_of(numbers: Numbers, state: int, spread: Spread | None) -> Point:
    """Return the number of runs from a state on."""
    value, bound = (float(each[state]) for each in (numbers.solved.values, numbers.solved.bound))
    if isinstance(numbers, Collected):
        exact = inf if numbers.infinite[state] else 0.0 if numbers.goal[state] else None
        kind: Literal["chance", "amount"] = "amount"
        rest, rest_bound = None, 0.0
    else:
        exact = 0.0 if numbers.never[state] else 1.0 if numbers.always[state] else None
        kind, other = "chance", numbers.other
        rest, rest_bound = (float(other.values[state]), float(other.bound[state])) if other is not None else (None, 0.0)
    if exact is not None:
        return Point(kind, exact, exact=exact)
    deviation = 0.0
    if spread is not None:
        law = np.zeros(len(numbers.solved.values))
        law[state] = 1.0
        deviation = _deviation(numbers, law, spread)
    return Point(kind, min(1.0, value) if kind == "chance" else value, bound, rest, rest_bound, deviation=deviation)


def point_in_time(
    chain: Chain, numbers: Numbers, *, seconds: float, spread: Spread | None, latencies: Latencies | None
) -> Point:
    """Return the chance of an `Until` in time, from where runs start; `chain` is the one before it was closed."""
    assert isinstance(numbers, Until)
    found = TimedUntil(chain, numbers, seconds, latencies)
    low, high = found.range
    deviation = sqrt(found.variance(spread)) if spread is not None else 0.0
    middle, half = (low + high) / 2, (high - low) / 2
    value = 1 - middle if numbers.failing else middle
    return Point("chance", value, half + 2 * UNIT, deviation=deviation, by_graph=False)


def _deviation(numbers: Numbers, law: Vector, spread: Spread | None) -> float:
    if spread is None:
        return 0.0
    gradient: Callable[[Vector], Vector] = numbers.gradient
    found = spread.variance(gradient(law), law[:-1], numbers.solved.values[:-1])
    if isinstance(numbers, Collected):
        found += numbers.noise(law)
    return sqrt(max(0.0, found)) if np.isfinite(found) else inf
