"""How sure an answer is: the interval that holds it, by the posterior of the shares that it hangs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from flowstat.analyze.solve import Vector
from flowstat.estimate.chain import Chain
from flowstat.estimate.posterior import Posterior

__all__ = [
    "Asked",
    "Gradient",
    "Interval",
    "Sampling",
    "beta",
    "by_delta",
    "by_sampling",
    "central",
    "deviation",
    "parts",
]

NORMAL = 1e8
"""From this weight on, on both sides, a beta law is normal to four digits of its width, and its inverse loses more."""

FEW = 5
"""How often what a number hangs on is to be seen, on average by its part of the variance."""

NARROW = 0.1
"""Of how far a number is from the ends of its range a deviation may be for its gradient to be enough, unseen."""

ROUNDED = 1e-12
"""A deviation of no more of the number itself than that is one of rounding: the number is certain."""

STRAIGHT = 0.25
"""By how much of itself an answer may move more, or less, than its gradient says, for the gradient to be enough."""


@dataclass(frozen=True)
class Sampling:
    """Intervals by chains that are drawn from the posterior: how many, by which seed; `tick` is called after each."""

    draws: int = 1000
    seed: int = 0
    tick: Callable[[], object] = lambda: None


class Interval(NamedTuple):
    """An interval that holds a number at a stated credibility.

    `doubt` says what there is against it: `few`, what the number hangs on was seen less than five times, so that the
    prior speaks; `curved`, its gradient is not enough.
    """

    low: float
    high: float
    doubt: Literal["", "few", "curved"] = ""


@dataclass(frozen=True)
class Gradient:
    """The derivative of an answer: with respect to the share of every arrow, (m,), of every end, and of every start.

    `sent` is that with respect to the mean number of messages along every arrow, where the answer hangs on these, and
    `more` a variance that comes of something else than shares: recorded times.
    """

    arrows: Vector
    ends: Vector
    starts: Vector
    sent: Vector | None = None
    more: float = 0.0


class Asked(NamedTuple):
    """A number with what its interval needs: its gradient, how to compute it of another chain, and its range."""

    value: float
    gradient: Callable[[], Gradient]
    again: Callable[[Chain], float]
    least: float = 0.0
    most: float = inf


def parts(posterior: Posterior, gradient: Gradient) -> tuple[Vector, float]:
    """Return the variance of an answer: the part of every send pattern, (k,), and that of the start.

    Notes
    -----
    The delta method: to first order the answer is linear in the chances of the patterns, of which the covariances are
    those of Dirichlet laws, independent from node to node (Gelman et al., Bayesian Data Analysis (3rd ed.), section
    3.4; Casella and Berger, Statistical Inference (2nd ed.), section 5.5.4).
    """
    worth = worth_of(posterior, gradient)
    begun = posterior.starts.sum()
    start = 0.0
    if begun:
        law = posterior.starts / begun
        start = float(law @ (gradient.starts - law @ gradient.starts) ** 2 / (begun + 1))
    return posterior.spread(worth), start


def worth_of(posterior: Posterior, gradient: Gradient) -> Vector:
    """Return what the chance of every send pattern is worth to the answer, (k,)."""
    worth: Vector = posterior.shares @ np.concatenate([gradient.arrows, gradient.ends])
    if gradient.sent is not None:
        worth = worth + posterior.messages @ np.concatenate([gradient.sent, np.zeros(len(gradient.ends))])
    return worth


def deviation(posterior: Posterior, gradient: Gradient) -> float:
    """Return the standard deviation of an answer under the posterior, to first order."""
    each, start = parts(posterior, gradient)
    return sqrt(float(each.sum()) + start + gradient.more)


def by_delta(posterior: Posterior, asked: Asked, level: float) -> Interval | None:
    """Return the interval of a number by the delta method; None if it is infinite.

    The law is taken to be a beta law where the number is a chance, else one of which the logarithm of the distance from
    the least value is normal.

    Where the deviation is not small, the answer is computed again at one of it on both sides, where it changes fastest:
    if it does not move there as its gradient says, the interval is `curved`.
    """
    if not isfinite(asked.value):
        return None
    gradient = asked.gradient()
    sd = deviation(posterior, gradient)
    if sd <= ROUNDED * asked.value:
        sd = 0.0
    found = central(asked.value, sd, level, asked.least, asked.most)
    if sd == 0 or asked.value in (asked.least, asked.most):
        return found
    worth = posterior.apart(worth_of(posterior, gradient))
    step = posterior.chance * worth / ((posterior.total[posterior.node] + 1) * sd)
    each = posterior.spread(worth)
    reach = sqrt(float(each.sum())) / sd
    if reach < STRAIGHT:  # it is the starts that it hangs on, of which it is linear
        return found
    if float(each @ posterior.events) < FEW * float(each.sum()):
        return found._replace(doubt="few")
    if sd < NARROW * min(asked.value - asked.least, asked.most - asked.value):
        return found
    for sign in (-1.0, 1.0):
        moved = asked.again(posterior.moved(sign * step))
        expected = reach * reach * sd
        if not isfinite(moved) or _apart(asked, sign, moved, expected) > STRAIGHT:
            return found._replace(doubt="curved")
    return found


def _apart(asked: Asked, sign: float, moved: float, expected: float) -> float:
    """Return how far a number moved from where its law has it, in parts of the way."""
    if isfinite(asked.most):
        return abs(sign * (moved - asked.value) / expected - 1)
    way = expected / (asked.value - asked.least)
    there = (moved - asked.least) / (asked.value - asked.least)
    return abs(sign * log(there) / way - 1) if there > 0 else inf


def central(value: float, sd: float, level: float, least: float = 0.0, most: float = inf) -> Interval:
    """Return the central interval of a number with a standard deviation, within its range.

    Examples
    --------
    >>> low, high, _ = central(2.0, 0.1, 0.95)
    >>> round(low * high, 9)
    4.0
    """
    if sd == 0 or not least < value < most:
        return Interval(value, value)
    if isfinite(most):
        width = most - least
        low, high = beta((value - least) / width, (sd / width) ** 2, level)
        return Interval(least + width * low, least + width * high)
    above = value - least
    way = float(special.ndtri((1 + level) / 2)) * sd / above
    return Interval(least + above * exp(-way), least + above * exp(min(way, 700.0)))


def by_sampling(
    posterior: Posterior, again: Callable[[Chain], Sequence[float]], level: float, way: Sampling
) -> list[Interval]:
    """Return the intervals of some numbers: of each the central quantiles of chains drawn from the posterior.

    Parameters
    ----------
    again
        The numbers of a chain, always as many.
    """
    rng = np.random.default_rng(way.seed)
    found = []
    for _ in range(way.draws):
        found.append(again(posterior.draw(rng)))
        way.tick()
    tails = [(1 - level) / 2, (1 + level) / 2]
    # Of infinite numbers no mean is taken: a quantile is one of those that were drawn.
    low, high = np.quantile(np.array(found, np.float64), tails, axis=0, method="inverted_cdf")
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def beta(mean: float, variance: float, level: float) -> tuple[float, float]:
    """Return the central interval of the beta law with a mean and a variance; the mean itself where there is none.

    A variance that no beta law of the mean has, `mean (1 - mean)` or more, is that of a number that is 0 or 1.

    Examples
    --------
    >>> [round(bound, 6) for bound in beta(0.5, 1 / 12, 0.95)]
    [0.025, 0.975]
    """
    if not 0 < mean < 1 or variance <= 0:
        return mean, mean
    weight = mean * (1 - mean) / variance - 1
    if weight <= 0:
        return 0.0, 1.0
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if weight * min(mean, 1 - mean) > NORMAL:
        low, high = mean + special.ndtri(tails) * sqrt(variance)
    else:
        low, high = special.betaincinv(mean * weight, (1 - mean) * weight, tails)
    return float(low), float(high)
