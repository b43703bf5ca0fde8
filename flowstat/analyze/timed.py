"""What the times of a chain's runs are computed from: chances, times and passages of the runs with each outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.arrow_times import OFF, ArrowTimes, Latencies, arrow_times
from flowstat.analyze.bounded import Mask, closed_states, dot, exact, minus, plus, quotient, root, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solved, Solver, Vector, total
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain, Start, start_law
from flowstat.read.words import shown

__all__ = ["Timed", "Way"]

POOR = 1e-9
"""From which bound on, relative to itself, a deviation is computed in a second way, and the better one taken."""


@dataclass(frozen=True)
class Way:
    """How runs come to one outcome: `states` are where they stop, or the closed class that traps them."""

    outcome: str
    kind: Literal["end", "stop", "trap"]
    states: Index
    probability: Solved


class Timed:
    """What the times of a chain's runs are computed from.

    Attributes
    ----------
    ways
        The outcomes that are asked for: `end` first, if any run ends, then by probability.
    trapped
        Whether some runs never end.
    """

    def __init__(self, chain: Chain, start: Start, latencies: Latencies | None, top: int) -> None:
        self.chain = chain
        self.law = start_law(chain, start)
        self.solver = Solver(chain.P, chain.stop)
        self.visited, self.entered = self.solver.visits(self.law)
        self.closed = closed_states(self.solver)
        self.rows, self.columns, self.shares = chain.arrows()
        # What happens in a closed class is after the time that is asked for.
        passed = np.where(self.closed, 0.0, self.visited.values)
        self.passed = Solved(passed, np.where(self.closed, 0.0, self.visited.bound))
        self.times: ArrowTimes = arrow_times(chain, latencies, passed[self.rows] > 0)
        stops = times(self.passed, exact(chain.stop))
        stopping = np.flatnonzero(stops.values > 0)
        ways = [
            Way(chain.names[i], "stop", np.array([i]), Solved(stops.values[i], stops.bound[i]))
            for i in _largest(chain, stopping, stops.values, top)
        ]
        traps = []
        for states in self.solver.closed:
            chance = total(Solved(self.entered.values[states], self.entered.bound[states]))
            if chance.values > 0:
                traps.append((chance, states))
        traps.sort(key=lambda trap: -float(trap[0].values))
        self.trapped = bool(traps)
        ways += [Way(trap_name(tuple(chain.names[i] for i in s)), "trap", s, chance) for chance, s in traps[:top]]
        ways.sort(key=lambda way: (-float(way.probability.values), way.outcome))
        self.ways = ways[:top]
        self.left_out = len(stopping) + len(traps) - len(self.ways)
        if len(stopping):
            chance = total(Solved(stops.values[stopping], stops.bound[stopping])) if traps else exact(1.0)
            self.ways.insert(0, Way(END, "end", stopping, chance))

    def chances(self, ways: list[Way]) -> tuple[Solved, Solved]:
        """Return the chance of each outcome from each state, and that times the mean time till then; both (n, k)."""
        n, chain, solver = self.solver.n, self.chain, self.solver
        gain, doubt = np.zeros((n, len(ways))), np.zeros((n, len(ways)))
        for k, way in enumerate(ways):
            if way.kind == "trap":
                gain[:, k] = chain.P @ _ones(n, way.states)
                doubt[:, k] = solver.unit * gain[:, k]
            else:
                gain[way.states, k] = chain.stop[way.states]
        made = solver.backward(gain, gain_bound=doubt)
        h, off = made.values, made.bound
        for k, way in enumerate(ways):
            if way.kind == "trap":
                h[way.states, k], off[way.states, k] = 1.0, 0.0
            elif way.kind == "end" and not self.trapped:
                # Every run ends: that is known better than it can be computed.
                here = self.passed.values > 0
                h[here, k], off[here, k] = 1.0, 0.0
        slow = self.chain.P.copy()
        slow.data = self.shares * self.times.mean
        unit = solver.unit + (OFF + 4) * UNIT
        gain = slow @ h
        doubt = slow @ off + unit * gain
        for k, way in enumerate(ways):
            if way.kind != "trap":
                last = chain.stop[way.states] * self.times.end_mean[way.states]
                gain[way.states, k] += last
                doubt[way.states, k] += unit * (last + gain[way.states, k])
        doubt *= 1.01
        # A time longer than any float is refused when it is asked for.
        with np.errstate(over="ignore", invalid="ignore"):
            return Solved(h, off), solver.backward(gain, gain_bound=doubt)

    def squares(self, way: Way, h: Solved, g: Solved, unit: float, taken: Mask) -> Solved:
        """Return the mean square of the time till an outcome, in square units, times its chance; (n,).

        `taken` are the arrows of the runs that have the outcome.
        """
        rounded = exact(np.ones(1))
        rounded.bound[:] = self.solver.unit + 3 * OFF * UNIT
        mean = np.where(taken, self.times.mean, 0.0) / unit
        variance = (np.where(taken, self.times.deviation, 0.0) / unit) ** 2
        gain, doubt = np.zeros(self.solver.n), np.zeros(self.solver.n)
        for each, of in ((variance + mean * mean, h), (2 * mean, _at(g, np.True_, 1 / unit))):
            slow = self.chain.P.copy()
            slow.data = self.shares * each
            part = times(Solved(slow @ of.values, slow @ of.bound), rounded)
            gain, doubt = gain + part.values, doubt + part.bound
        if way.kind != "trap":
            at = way.states
            last, varies = self.times.end_mean[at] / unit, self.times.end_deviation[at] / unit
            part = times(exact(self.chain.stop[at] * (varies * varies + last * last)), rounded)
            gain[at], doubt[at] = gain[at] + part.values, doubt[at] + part.bound
        return self.solver.backward(gain, gain_bound=1.01 * (doubt + 4 * UNIT * gain))

    def moments(self, way: Way, h: Solved, g: Solved) -> tuple[Solved, Solved]:
        """Return mean and standard deviation of the time till an outcome, of the runs that have it."""
        here = (self.passed.values > 0) & (h.values > 0)
        t = quotient(g, Solved(np.where(here, h.values, 1.0), np.where(here, h.bound, 0.0)))
        if not np.isfinite(t.bound[here]).all():
            raise AnalysisError(
                f"runs with the outcome {shown(way.outcome)!r} are too rare on their way for their time to be known, "
                "or it is longer than any number: ask for fewer outcomes (top), or in a longer unit of time"
            )
        begins = times(exact(self.law), h)
        mean = quotient(dot(begins, t), way.probability)
        i, j = self.rows, self.columns
        taken = here[i] & (h.values[j] > 0)
        at = way.states if way.kind != "trap" else np.zeros(0, np.int64)
        at = at[here[at]]
        longest = [
            *(each[taken].max(initial=0.0) for each in (self.times.mean, self.times.deviation)),
            *(each[at].max(initial=0.0) for each in (self.times.end_mean, self.times.end_deviation)),
            t.values[here].max(initial=0.0),
        ]
        # In units of the longest time there is, a power of two, no square overflows and nothing is rounded.
        unit = float(np.ldexp(1.0, np.frexp(max(longest))[1] - 1))
        t, middle = _at(t, here, 1 / unit), _at(mean, np.True_, 1 / unit)
        lasting = _known(np.where(taken, self.times.mean, 0.0) / unit)
        spread = _known((np.where(taken, self.times.deviation, 0.0) / unit) ** 2)
        back = _at(self.passed, here)
        passages = times(times(_pick(back, i), exact(self.shares)), _pick(h, j))
        apart = minus(_pick(t, j), _pick(t, i))
        # A message to its own node changes nothing, and that exactly.
        steps = plus(lasting, _at(apart, i != j))
        off = minus(t, middle)
        whole = plus(dot(passages, plus(spread, times(steps, steps))), dot(begins, times(off, off)))
        if len(at):
            last, varies = _known(self.times.end_mean[at] / unit), _known((self.times.end_deviation[at] / unit) ** 2)
            step = minus(last, _pick(t, at))
            ends = times(_pick(back, at), exact(self.chain.stop[at]))
            whole = plus(whole, dot(ends, plus(varies, times(step, step))))
        sd = root(quotient(whole, way.probability))
        if sd.bound > POOR * sd.values:
            # Where a run goes round very often, its deviation is as long as its mean: nothing cancels then.
            second = quotient(dot(exact(self.law), self.squares(way, h, g, unit, taken)), way.probability)
            other = root(minus(second, times(middle, middle)))
            sd = other if other.bound < sd.bound else sd
        return mean, _at(sd, np.True_, unit)


def _largest(chain: Chain, some: Index, values: Vector, top: int) -> list[int]:
    """Return the positions of the largest values, by name where they are equal."""
    if not top or not len(some):
        return []
    least = np.partition(values[some], -top)[-top] if len(some) > top else 0.0
    best = [int(i) for i in some[values[some] >= least]]
    return sorted(best, key=lambda i: (-values[i], chain.names[i]))[:top]


def _ones(n: int, states: Index) -> Vector:
    ones = np.zeros(n)
    ones[states] = 1.0
    return ones


def _at(of: Solved, here: Mask | np.bool_, scale: float = 1.0) -> Solved:
    return Solved(np.where(here, of.values, 0.0) * scale, np.where(here, of.bound, 0.0) * scale)


def _known(values: Vector) -> Solved:
    return Solved(values, OFF * UNIT * values)


def _pick(of: Solved, at: Index) -> Solved:
    return Solved(of.values[at], of.bound[at])
