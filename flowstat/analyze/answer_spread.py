"""Sums of answers, such as the chance to end at any state of a node, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from flowstat.analyze.answers import Answer, adjoint
from flowstat.analyze.gradients import gradient_of
from flowstat.analyze.interval import Gradient, central, deviation
from flowstat.analyze.solve import Vector
from flowstat.estimate.chain import Chain

__all__ = ["Spread", "spread"]


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

    By the delta method: see `flowstat.analyze.interval`. A start other than that of the chain is certain.

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
    posterior = chain.posterior
    if posterior is None or not isfinite(value):
        return Spread(value, None, None, bound)
    each = [gradient_of(chain, part) for part in parts]
    starts: Vector = np.sum([one.starts for one in each], axis=0)
    if not np.array_equal(law, chain.start):
        starts = np.zeros(len(law))
    whole = Gradient(np.sum([one.arrows for one in each], axis=0), np.sum([one.ends for one in each], axis=0), starts)
    most = 1.0 if answers[0].kind == "chance" else inf
    found = central(value, deviation(posterior, whole), level, most=most)
    return Spread(value, found.low, found.high, bound)
