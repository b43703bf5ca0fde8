"""How sure an answer is: its variance under what the data leave open of the shares, and an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from scipy import special

from flowstat.analyze.answers import Adjoint, Answer, adjoint
from flowstat.analyze.solve import Vector
from flowstat.estimate.chain import Chain
from flowstat.read.patterns import parse_pattern

__all__ = ["Spread", "spread"]

NORMAL = 1e8
"""From this weight on, on both sides, a beta law is normal to four digits of its width."""


@dataclass(frozen=True)
class Spread:
    """An answer, and the interval that holds it with some probability; None where no data stand behind it."""

    value: float
    low: float | None
    high: float | None
    error_bound: float = 0.0
    """How far the value may be off by rounding, proven."""


def spread(chain: Chain, answers: Sequence[Answer], law: Vector, level: float = 0.95) -> Spread:
    """Return a sum of answers of one kind, `chance` or `events`, with its credible interval.

    Notes
    -----
    By the delta method: each node's send patterns are Dirichlet, and independent of those of others, so that `Var f =
    sum_i w_i^2 (sum_s p_s y_s^2 - (sum_s p_s y_s)^2) / (A_i + 1)`, with w the expected visits, y_s what pattern s is
    worth to the answer, and A_i the node's events and prior; the start law adds its own term. The interval is that of
    the beta law with this mean and variance for a chance, of the gamma law for events. An approximation: right for
    many events. Source: Gelman et al., Bayesian Data Analysis (3rd ed.), sections 3.4 and 4.1.

    Examples
    --------
    >>> from flowstat.estimate.chain import estimate
    >>> from flowstat.estimate.counts import Counts
    >>> chain = estimate(Counts({("a", "a"): 50, ("a", ""): 50}, {"a": 50}))
    >>> found = spread(chain, [Answer("events")], chain.start)
    >>> round(found.value, 12), 1.6 < found.low < 2 < found.high < 2.5
    (2.0, True)
    """
    parts = [adjoint(chain, answer, law) for answer in answers]
    value = float(sum(float(part.value.values) for part in parts))
    bound = float(sum(float(part.value.bound) for part in parts))
    counts = chain.counts
    if counts is None or not counts.events or not isfinite(value):
        return Spread(value, None, None, bound)
    chances = answers[0].kind == "chance"
    variance = _variance(chain, parts, law)
    low, high = _interval(value, variance, level, 1.0 if chances else inf)
    return Spread(value, low, high, bound)


def _variance(chain: Chain, parts: Sequence[Adjoint], law: Vector) -> float:
    """Return the variance of a sum of answers."""
    rows, columns, shares = chain.arrows()
    n = len(chain.names)
    counts = chain.counts
    assert counts is not None
    known = set(chain.graph.nodes) if chain.graph is not None else set()
    seen = np.array([counts.events.get(name, 0) for name in chain.names], np.float64)
    prior = np.where([name in known for name in chain.names], chain.prior, 0.0)
    weight = np.where(seen > 0, seen + prior, 1.0)
    visits = parts[0].weights.values
    worth = np.sum([part.arrows.values for part in parts], axis=0)
    ends = np.sum([part.ends.values for part in parts], axis=0)
    mean = np.bincount(rows, shares * worth, n) + chain.stop * ends
    value = {(i, j): y for i, j, y in zip(rows.tolist(), columns.tolist(), worth.tolist(), strict=True)}
    # Deviations from the node's mean, so that nothing cancels; what is left of a share is the prior's.
    second = np.zeros(n)
    rest: dict[tuple[int, int], float] = {}
    for (node, sent), events in counts.table.items():
        i = chain.index[node]
        targets = parse_pattern(sent)
        size = sum(times for _, times in targets)
        y = 0.0 if targets else float(ends[i])
        for target, times in targets:
            j = chain.index[target]
            y += times / size * value.get((i, j), 0.0)
            rest[i, j] = rest.get((i, j), 0.0) + events * times / size
        if not targets:
            rest[i, n] = rest.get((i, n), 0.0) + events
        second[i] += events * (y - mean[i]) ** 2
    had = np.array([rest.get(pair, 0.0) for pair in zip(rows.tolist(), columns.tolist(), strict=True)])
    ended = np.array([rest.get((i, n), 0.0) for i in range(n)])
    second += np.bincount(rows, np.maximum(shares * weight[rows] - had, 0.0) * (worth - mean[rows]) ** 2, n)
    second += np.maximum(chain.stop * weight - ended, 0.0) * (ends - mean) ** 2
    inner = float((visits**2 * second / (weight * (weight + 1))).sum())
    begun = counts.runs
    if not begun or not np.array_equal(law, chain.start):
        return inner
    # Every event brings 1 to the expected events from where a run starts: that is the same everywhere.
    first = mean - float(law @ mean)
    return inner + float(law @ first**2) / (begun + 1)


def _interval(mean: float, variance: float, level: float, most: float) -> tuple[float, float]:
    """Return the central interval of the beta law (up to 1) or the gamma law with this mean and variance."""
    if not 0 < mean < most or variance <= 0:
        return mean, mean
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if most == 1.0:
        weight = mean * (1 - mean) / variance - 1
        if weight <= 0:
            return 0.0, 1.0
        if weight * min(mean, 1 - mean) > NORMAL:
            ends = mean + special.ndtri(tails) * np.sqrt(variance)
        else:
            ends = special.betaincinv(mean * weight, (1 - mean) * weight, tails)
    elif mean * mean / variance > NORMAL:
        ends = mean + special.ndtri(tails) * np.sqrt(variance)
    else:
        ends = special.gammaincinv(mean * mean / variance, tails) * (variance / mean)
    low, high = (float(end) for end in ends)
    return low, high
