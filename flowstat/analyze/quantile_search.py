"""The search for quantiles: by steps and leaps, and by two geometric laws between which runs get there."""

from __future__ import annotations

from math import ceil, floor, inf, isfinite, lcm, log, log1p

import numpy as np

from flowstat.analyze.aim import Aim, weighted
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.periods import phases
from flowstat.analyze.search import Vector
from flowstat.analyze.solve import Solved, strong_classes
from flowstat.analyze.stepping import BLOCK, Forward

__all__ = ["QuantileSearch"]

WORK = 1e9
"""How many arrows are followed before quantiles farther off are bracketed, where no limit is given."""

LONGEST = 1_000_000
"""How many steps are taken at most, where no limit is given."""

LEAP = 2**50
"""How many steps powers of the matrix of a few states are taken for, where no limit is given."""

TIGHT = 1e-9
"""A bracket this narrow, relatively, is taken for a quantile that is far off, rather than stepped to."""

TURNS = 4096
"""Longest window over which the turns of periodic classes are averaged."""

LEFT_OUT = 1e-14
"""What share of the runs on their way may be left out of the shape of the rest."""


class QuantileSearch:
    """The quantiles that are still looked for, and what has been found."""

    def __init__(self, aim: Aim, law: Vector, hit: Solved, asked: list[float]) -> None:
        self.aim, self.hit = aim, hit
        self.reached, self.doubt = weighted(law, hit)
        self.forward = Forward(aim, law, trim=True)
        self.asked = asked
        self.low: dict[float, float] = {}
        self.high: dict[float, float] = {}
        self.value: dict[float, float] = {}
        self.bracket: dict[float, tuple[float, float]] = {}
        self.arrived = 0.0
        self.off = 0.0
        self._arrive(0, np.array([self.forward.at_once]), np.full(1, len(law) * UNIT), np.full(1, np.inf))

    def found(self, limit: int | None) -> dict[float, tuple[float | None, float, float]]:
        """Return the number of steps of each quantile, if it is known, and the least and the most that it may be."""
        forward = self.forward
        few = len(forward.states)
        most = limit or (LEAP if forward.few else LONGEST)
        window = min(most, self._window())
        check = max(4 * BLOCK, few if few < LONGEST // 100 else 0)
        while self._open() and forward.there:
            until = min(check, most - window)
            while self._open() and forward.time < until and not self._worked(limit):
                self._step(until - forward.time)
            if self._open() and self._far(window, forward.time + window >= most or self._worked(limit)):
                break
            check *= 4
        for q in self.asked:
            low, high = self.bracket.get(q, (0.0, inf))
            self.low[q] = max(low, self.low.get(q, forward.time + 1.0))
            self.high[q] = max(self.low[q], min(high, self.high.get(q, inf)))
        return {q: (self._value(q), _whole(self.low[q]), _whole(self.high[q])) for q in self.asked}

    def _worked(self, limit: int | None) -> bool:
        """Return whether it has been stepped for long enough."""
        return limit is None and self.forward.followed > WORK and self.forward.time >= 1000

    def _value(self, q: float) -> float | None:
        """Return a quantile as it was stepped to, or the middle of its bracket, unless that says next to nothing."""
        low, high = self.low[q], self.high[q]
        if low <= self.value.get(q, inf) <= high:
            return _whole(self.value.get(q, inf))
        return None if high > 2 * low else _whole(low + (high - low) / 2)

    def _open(self) -> list[float]:
        return [q for q in self.asked if q not in self.high]

    def _step(self, most: int) -> None:
        """Take up to so many steps: by a leap where no quantile is in it, or none that could be told more closely."""
        forward = self.forward
        level = (most // BLOCK).bit_length() - 1
        while forward.few and forward.time >= BLOCK and level > 0:
            arriving, relative, astray = forward.leap(level)
            together = self.arrived + arriving
            doubt = 1.01 * min(relative * together, astray) + self.off + UNIT * together + forward.drift_after(level)
            if not any(self._in(q, together, doubt, BLOCK << level) for q in self._open()):
                begin = forward.time
                forward.land(level)
                self._note(begin + 1, forward.time, together, doubt)
                self.arrived, self.off = together, self.off + UNIT * together
                return
            level -= 1
        time = forward.time
        self._arrive(time + 1, *forward.advance(most))

    def _in(self, q: float, together: float, doubt: float, taken: int) -> bool:
        """Return whether a leap would go past a bound of a quantile that is to be told more closely."""
        if q not in self.low:
            return together + doubt >= q
        # Between its bounds there are steps enough already.
        return (together - doubt >= q or (q not in self.value and together >= q)) and taken > max(
            BLOCK, (self.forward.time - self.low[q]) / 16
        )

    def _note(self, first: int, last: int, together: float, doubt: float) -> None:
        """Note what is known of quantiles after a leap."""
        for q in self._open():
            if together + doubt >= q:
                self.low.setdefault(q, first)
            if together - doubt >= q:
                self.high[q] = last

    def _arrive(self, time: int, arriving: Vector, relative: Vector, astray: Vector) -> None:
        """Note that runs arrive with each step from a time on."""
        together = self.arrived + np.cumsum(arriving)
        rounded = self.off + np.cumsum(np.minimum(UNIT * together, arriving)) * 1.01
        doubt = 1.01 * np.minimum(relative * together, astray) + rounded + self.forward.drift + self.forward.dropped
        self.arrived, self.off = float(together[-1]), float(rounded[-1])
        for q in self._open():
            for noted, least in ((self.low, together + doubt), (self.value, together), (self.high, together - doubt)):
                if q not in noted and (least >= q).any():
                    noted[q] = time + int(np.argmax(least >= q))

    def _window(self) -> int:
        """Return over how many steps the turns of all periodic classes come round."""
        if not len(self.forward.states):
            return 1
        periods, _ = phases(self.forward.Q, strong_classes(self.forward.Q))
        window = 1
        for period in set(periods.tolist()) - {0}:
            window = lcm(window, period)
            if window > TURNS:
                return TURNS
        return window

    def _far(self, window: int, last: bool) -> bool:
        """Bracket quantiles that are farther off, for good if it is the last time; return whether all is known then."""
        forward = self.forward
        begin = forward.time
        y = np.zeros(len(forward.x))
        for _ in range(window):
            y += forward.x
            self._step(1)
        tail = _Tail(self.aim, forward, self.hit, y / window)
        _, wrong = forward.beyond(self.hit)
        doubt = 1.01 * (wrong + self.doubt + 4 * UNIT)
        for q in self._open():
            # What is still to come when so many have arrived.
            rest = self.reached - q
            later, by = tail.bracket(max(0.0, rest - doubt), rest + doubt)
            low, high = self.bracket.get(q, (0.0, inf))
            low = max(low, self.low.get(q, forward.time + 1.0), begin + later)
            high = min(high, begin + by + window - 1)
            self.bracket[q] = low, high
            narrow = isfinite(high) and high - low <= max(2.0 * window, TIGHT * low)
            if last or (low > LONGEST and narrow):
                self.low[q], self.high[q] = low, max(low, high)
        return last or not self._open()


class _Tail:
    """How the runs that are on their way with some law get there, between two geometric laws."""

    def __init__(self, aim: Aim, forward: Forward, hit: Solved, y: Vector) -> None:
        states, solver = forward.states, aim.solver
        h = hit.values[states]
        # Classes that have emptied have no shape any more: as many as hold next to nothing, first ones first.
        emptied = np.cumsum(np.bincount(solver.label[states], weights=y * h, minlength=1))
        kept = np.where(emptied[solver.label[states]] > LEFT_OUT * emptied[-1], y, 0.0)
        laws = np.zeros((len(aim.inside), 2))
        laws[states, 0], laws[states, 1] = y, kept
        visited, _ = solver.visits(laws)
        least, most = ((visited.values + sign * visited.bound)[states] for sign in (-1, 1))
        self.mean = float(most[:, 0] @ h)
        self.inside = float(kept @ h)
        self.outside = float((y - kept) @ h)
        some = kept > 0
        with np.errstate(over="ignore"):
            self.shortest = max(1.0, float((least[some, 1] / kept[some]).min(initial=inf)))
            self.longest = float((most[some, 1] / kept[some]).max(initial=1.0))
        if (most[~some, 1] > 0).any() or not isfinite(self.longest):
            self.longest = inf
        self.longest = max(self.longest, self.shortest) if some.any() else inf

    def bracket(self, least: float, most: float) -> tuple[float, float]:
        """Return after how many steps no more is left than a chance between two: at least, if known, and at most."""
        low, high = -inf, inf
        if least > 0:
            high = ceil(1.01 * self.mean / least)
        if isfinite(self.longest):
            apart = self.longest / self.shortest * (1 + 1e-12)
            if self.inside > most * apart > 0:
                k = _power(most * apart / self.inside, self.shortest)
                low = floor(k * (1 - 1e-12)) + 1.0
            above = (least - self.outside * 1.01) / (self.inside * apart)
            if above > 0:
                k = _power(min(1.0, above), self.longest)
                high = min(high, ceil(k * (1 + 1e-12)) + 1.0)
        return low, high


def _power(left: float, mean: float) -> float:
    """Return how many steps leave so many, when as many as 1 in `mean` go with each."""
    return log(left) / log1p(-1 / mean) if mean > 1 else 0.0


def _whole(steps: float) -> float:
    """Return a number of steps as an int, if it is one."""
    return int(steps) if steps < 2**53 else steps
