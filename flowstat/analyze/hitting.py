"""Whether runs come to some nodes, and after how many steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import ClassVar, NamedTuple

import numpy as np

from flowstat.analyze.aim import Aim, Targets, aim_at, chance, weighted, why_missed
from flowstat.analyze.bounded import quotient, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.hitting_intervals import asked_hitting
from flowstat.analyze.interval import Asked
from flowstat.analyze.intervals import Intervals, WithIntervals, intervals_of
from flowstat.analyze.search import Mask, Vector, backwards
from flowstat.analyze.solve import LEAST, TOLERANCE, Solved
from flowstat.analyze.state_rows import StateRows
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.read.words import shown
from flowstat.results import LINEAGES, Row, number

__all__ = ["Hitting", "StateHitting", "hitting"]


class StateHitting(NamedTuple):
    """When a run from a state comes to the targets.

    `mean` and `variance` of the number of steps are infinite where the run may never come there. `mean_if_hit` and
    `variance_if_hit` are those of the runs that do; None where none does, or so few that they can't be computed.
    """

    state: str
    probability: float
    mean: float | None
    variance: float | None
    mean_if_hit: float | None
    variance_if_hit: float | None
    probability_bound: float = 0.0
    mean_if_hit_bound: float = 0.0
    variance_if_hit_bound: float = 0.0


@dataclass(frozen=True)
class Hitting(WithIntervals):
    """When runs come to any of some nodes: from every state, and (`start`) from where runs start.

    A run that is at a target has come there after 0 steps. Where they are finite, `mean` and `variance` have the
    bounds of `mean_if_hit` and `variance_if_hit`. `sure` has `probability:` and `steps:`, of runs from the start.
    """

    title: ClassVar[str] = "Hitting: whether runs come there, and after how many steps"
    columns: ClassVar[tuple[str, ...]] = StateHitting._fields
    beside: ClassVar[tuple[str, ...]] = ("probability_bound", "mean_if_hit_bound", "variance_if_hit_bound")
    targets: tuple[str, ...]
    start: StateHitting
    states: StateRows[StateHitting]
    reason: str | None = None
    """Why the mean from the start is infinite; None if it is not."""
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the probabilities may be off, proven: see `flowstat.analyze.solve`."""
        return max(self.start.probability_bound, self.states.largest(5))

    def rows(self) -> list[Row]:
        """Return one row a state."""
        return [s._asdict() for s in self.states]

    def notes(self) -> tuple[str, ...]:
        """Say what holds for runs from the start, and why what is infinite is so."""
        at, said = self.start, []
        goal = ", ".join(map(shown, self.targets))
        if at.mean_if_hit is None or at.variance_if_hit is None:
            said.append(
                f"A run comes to {goal} with probability {number(at.probability)}{self.told('probability', '')}."
            )
        else:
            said.append(
                f"A run comes to {goal} with probability {number(at.probability)}{self.told('probability', '')}, then "
                f"after {number(at.mean_if_hit)} steps{self.told('steps', '')}; standard deviation "
                f"{number(sqrt(at.variance_if_hit))}."
            )
        said += self.said()
        if self.reason:
            said.append(f"The mean number of steps is infinite: {self.reason}.")
        chances, means = self.states.columns[0], self.states.columns[3]
        missing = sum(mean is None and p > 0 for p, mean in zip(chances.tolist(), means.tolist(), strict=True))
        if missing:
            said.append(f"From {missing:,} states it is too rare for the number of steps to be known.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)


def hitting(
    chain: Chain, targets: Targets, start: Start = None, *, intervals: Intervals = "delta", level: float = 0.95
) -> Hitting:
    """Find whether runs come to any of some nodes, and after how many steps.

    Parameters
    ----------
    chain
        A chain.
    targets
        A node or several.
    start
        A node or a law over nodes; the chain's start law if not given. It only matters for `Hitting.start`. One that is
        given is certain.
    intervals
        How intervals of what holds from the start are found, if traces stand behind the chain: see `absorption`.
    level
        Probability that each holds its number, in (0, 1).

    Returns
    -------
    Hitting
        From every state: the chance to come there, in [0, 1]; mean and variance of the steps (messages) till then, of
        all runs and of those that come there.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If no target is named, one is no node, or a class is too large and too close to closed to be solved.

    Notes
    -----
    Targets, and states that lead to none, are boundaries: with Q among the rest, the chance is `h = N Q 1_A`, that
    to miss them `N (stop + Q 1_lost)`, and so neither is 1 minus the other where that loses digits (Norris, Markov
    Chains (1997), theorem 1.3.2). Runs that come there are a chain with the shares `p_ij h_j / h_i` (Doob); the mean is
    `m = N h / h`, and the variance adds up how each step changes the expectation, `N g / h` with
    `g_i = sum_j p_ij h_j (1 + m_j - m_i)^2`, or is a difference of moments where that is known better. Five right
    sides, one factorisation; see `solve` for the cost and the bounds.

    Examples
    --------
    >>> flip = Chain.from_matrix([[0.5, 0.5], [0, 1]], ["flip", "heads"])
    >>> at = hitting(flip, "heads").start
    >>> at.probability, at.mean, at.variance
    (1.0, 2.0, 2.0)
    """
    targets = targets if isinstance(targets, str) or not isinstance(targets, Iterable) else tuple(targets)
    found = _found(chain, targets, start_law(chain, start))

    def asked() -> dict[str, Asked]:
        at = found.start
        return asked_hitting(chain, found.targets, at.probability, at.mean_if_hit, start)

    def again(other: Chain) -> dict[str, float]:
        at = _found(other, targets, other.start if start is None else start_law(chain, start)).start
        return {"probability:": at.probability} | ({} if at.mean_if_hit is None else {"steps:": at.mean_if_hit})

    return replace(found, sure=intervals_of(chain, intervals, level, asked, again), level=level)


def _found(chain: Chain, targets: Targets, law: Vector) -> Hitting:
    """Return the answer without intervals."""
    aim = aim_at(chain, targets)
    hit, miss = aim.chances
    mean, product = _means(aim, hit)
    variance, scaled = _variances(aim, hit, mean, product)
    never = aim.doubtful
    states = StateRows(StateHitting, chain.names, *_columns(hit, mean, variance, never))
    begin = _from_law(law, hit, mean, product, variance, scaled, never)
    reason = why_missed(aim, law, miss) if begin.mean == inf else None
    return Hitting(aim.names, begin, states, reason, chain.fans_out)


def _means(aim: Aim, hit: Solved) -> tuple[Solved, Solved]:
    """Return the mean steps of the runs that get there, and that times the chance to."""
    onward = aim.able & ~aim.inside
    gain, doubt = (np.where(onward, each, 0.0) for each in (hit.values, hit.bound))
    product = aim.solver.backward(gain, gain_bound=doubt)
    mean = quotient(product, hit)
    for each in (mean.values, mean.bound):
        each[~onward] = 0.0
    return mean, product


def _variances(aim: Aim, hit: Solved, mean: Solved, product: Solved) -> tuple[Solved, Solved]:
    """Return the variance of the steps of the runs that get there, and that times the chance to."""
    known = np.isfinite(mean.bound)
    # In units of the longest mean no square overflows.
    unit = max(1.0, float(mean.values[known].max(initial=0.0)))
    squares, doubts = _squares(aim, hit, mean, product, unit)
    nothing = Solved(np.zeros(len(known)), np.full(len(known), np.inf))
    if not np.isfinite(doubts).all():
        return nothing, nothing
    try:
        found = aim.solver.backward(squares, gain_bound=doubts)
    except AnalysisError:
        # The chances are good, but the means not good enough for this.
        return nothing, nothing
    changes, moment = (Solved(found.values[:, k], found.bound[:, k]) for k in range(2))
    w, doubt = product.values / unit, product.bound / unit
    # w^2 / h, without a square that might be below all numbers.
    square = times(Solved(w, doubt), Solved(mean.values / unit, np.where(known, mean.bound, 0.0) / unit))
    apart = moment.values - square.values
    off = 1.01 * (moment.bound + square.bound + UNIT * np.abs(apart))
    # What each step changes is good where the variance is small, the second moment where it is not.
    better = (off < changes.bound) & (apart > 0)
    scaled = Solved(np.where(better, apart, changes.values), np.where(better, off, changes.bound))
    # A mean that is not known spoils the variance of all that lead there.
    spoiled = backwards(aim.arrows, aim.able & ~known).inside
    scaled.bound[spoiled] = np.inf
    variance = quotient(scaled, hit)
    with np.errstate(over="ignore"):
        for each in (scaled, variance):
            # The square of the unit itself may be no number.
            each.values[:] = each.values * unit * unit
            each.bound[:] = 1.01 * each.bound * unit * unit
            each.bound[~np.isfinite(each.values)] = np.inf
        # One that is not known at all is not told.
        unknown = variance.bound > TOLERANCE * (variance.values + mean.values**2 + 1)
        variance.bound[unknown] = scaled.bound[unknown] = np.inf
    still = aim.inside | ~aim.able
    variance.values[still] = variance.bound[still] = 0.0
    return variance, scaled


def _squares(aim: Aim, hit: Solved, mean: Solved, product: Solved, unit: float) -> tuple[Vector, Vector]:
    """Return what each step adds to the variance, and to the second moment, both (n, 2), with bounds; in squared units.

    All of it is times the chance to get there.
    """
    P, n = aim.arrows, len(hit.values)
    onward = aim.able & ~aim.inside
    m, wrong = mean.values / unit, np.where(np.isfinite(mean.bound), mean.bound, 0.0) / unit
    rows = np.repeat(np.arange(n), np.diff(P.indptr))
    change: Vector = np.abs(1 / unit + (m[P.indices] - m[rows]))
    off = wrong[P.indices] + wrong[rows] + 4 * UNIT * (1 / unit + m[P.indices] + m[rows])
    weight, doubt = P.data * hit.values[P.indices], P.data * hit.bound[P.indices]
    spread, error = (
        np.bincount(rows, weights=each, minlength=n).astype(np.float64)
        for each in (weight * change**2, doubt * (change + off) ** 2 + weight * off * (2 * change + off))
    )
    # Staying is as likely as what leaves leaves it: the stored share may be off from that.
    slack = np.abs(np.asarray(P.sum(axis=1)).ravel() + aim.solver.leaving - 1) + aim.solver.unit
    error += np.where(P.diagonal() > 0, slack * hit.values / unit / unit, 0.0) + aim.solver.unit * spread
    error[onward] += LEAST  # squares may be below all numbers
    gain = np.where(onward, 2 * product.values - hit.values, 0.0) / unit / unit
    lost = 2 * product.bound + hit.bound + 4 * UNIT * product.values
    second = np.where(onward, lost, 0.0) / unit / unit
    return np.stack([spread, np.maximum(gain, 0.0)], axis=1), 1.01 * np.stack([error, second], axis=1)


def _columns(hit: Solved, mean: Solved, variance: Solved, never: Mask) -> tuple[Vector, ...]:
    """Return the columns of the states, as objects: None for what is not known."""
    none = hit.values == 0
    columns = []
    for each in (mean, variance):
        told = each.values.astype(object)
        told[none | np.isinf(each.bound)] = None
        columns.append(told)
    means, variances = columns
    full = [np.where(never, inf, column) for column in columns]
    # A mean that is finite can be computed wherever the chance is 1.
    bounds = [np.where(none | np.isinf(each.bound), 0.0, each.bound) for each in (mean, variance)]
    return (np.minimum(hit.values, 1.0), *full, means, variances, hit.bound, *bounds)


def _from_law(
    law: Vector, hit: Solved, mean: Solved, product: Solved, variance: Solved, scaled: Solved, never: Mask
) -> StateHitting:
    """Return what holds for runs from a law."""
    probability, off = weighted(law, hit)
    some = np.flatnonzero((law > 0) & (hit.values > 0))
    may_miss = bool(never[law > 0].any())
    label = "(start)"
    total = Solved(np.array(probability), np.array(off))
    above = weighted(law[some], Solved(product.values[some], product.bound[some]))
    m = quotient(Solved(*map(np.array, above)), total)
    if not len(some) or np.isinf(m.bound):
        steps = inf if may_miss else None
        return StateHitting(label, chance(probability), steps, steps, None, None, off)
    # Between the starts, and from each.
    apart = np.abs(mean.values[some] - m.values)
    doubt = mean.bound[some] + m.bound + 2 * UNIT * (mean.values[some] + m.values)
    with np.errstate(over="ignore", invalid="ignore"):
        h = hit.values[some]
        among = h * apart**2
        among_off = hit.bound[some] * (apart + doubt) ** 2 + h * doubt * (2 * apart + doubt) + 4 * UNIT * among
        spread = Solved(among + scaled.values[some], among_off + scaled.bound[some])
        v = quotient(Solved(*map(np.array, weighted(law[some], spread))), total)
    mean_if, variance_if = float(m.values), None if np.isinf(v.bound) else float(v.values)
    return StateHitting(
        label,
        chance(probability),
        inf if may_miss else mean_if,
        inf if may_miss else variance_if,
        mean_if,
        variance_if,
        off,
        float(m.bound),
        0.0 if variance_if is None else float(v.bound),
    )
