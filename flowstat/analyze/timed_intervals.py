"""Intervals of the times of runs: of shares that are not certain, and of latencies of which few were recorded."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import sqrt

import numpy as np

from flowstat.analyze.arrow_times import NANO, Latencies, Stated
from flowstat.analyze.gradients import Until, recorded, until
from flowstat.analyze.interval import Asked, Gradient
from flowstat.analyze.intervals import how_many
from flowstat.analyze.solve import Solver
from flowstat.analyze.timed import Timed, Way
from flowstat.estimate.chain import Chain, Start
from flowstat.estimate.latency import Latency

__all__ = ["asked_times", "drawn"]


def asked_times(timed: Timed, start: Start) -> dict[str, Asked]:
    """Return the mean times and the chances of the outcomes that are listed, each with its gradient."""
    asked = {}
    for way in timed.ways[: how_many(timed.chain)]:
        solved = _Way(timed, way, start)
        made = solved.own
        asked[f"mean:{way.outcome}"] = Asked(made.mean, solved.of_mean, solved.mean)
        asked[f"probability:{way.outcome}"] = Asked(made.chance, solved.of_chance, solved.chance, most=1.0)
    return asked


class _Way:
    """One outcome, to be solved for any shares."""

    def __init__(self, timed: Timed, way: Way, start: Start) -> None:
        self.timed, self.start = timed, start
        self.inside = np.zeros(len(timed.law))
        self.inside[way.states] = 1.0

    @cached_property
    def own(self) -> Until:
        """What holds for the chain itself."""
        return self(self.timed.chain)

    def __call__(self, chain: Chain) -> Until:
        times = self.timed.times
        law = self.timed.law if self.start is not None else chain.start
        return until(Solver(chain.P, chain.stop), law, self.inside, times.mean, times.end_mean)

    def mean(self, chain: Chain) -> float:
        """Return the mean time."""
        return self(chain).mean

    def chance(self, chain: Chain) -> float:
        """Return the chance."""
        return self(chain).chance

    def of_mean(self) -> Gradient:
        """Return the gradient of the mean time."""
        timed, made = self.timed, self.own
        # How often the runs with the outcome take each arrow.
        rows, columns, shares = timed.chain.arrows()
        passed = timed.passed.values[rows] * shares * made.of_chance.starts[columns] / made.chance
        more = recorded(timed.chain, timed.times.known, passed)
        return self._whole(replace(made.of_mean, more=more))

    def of_chance(self) -> Gradient:
        """Return the gradient of the chance."""
        return self._whole(self.own.of_chance)

    def _whole(self, of: Gradient) -> Gradient:
        starts = of.starts if self.start is None else np.zeros(len(of.starts))
        return Gradient(of.arrows, of.ends, starts, more=of.more)


def drawn(known: Latencies, rng: np.random.Generator) -> dict[tuple[str, str], Stated]:
    """Return latencies with the means that they may have, by how many were recorded of each."""
    made: dict[tuple[str, str], Stated] = {}
    for pair, latency in known.items():
        made[pair] = latency
        if isinstance(latency, Latency) and latency.number > 1:
            sd = sqrt(latency.variance) * NANO
            mean = latency.mean * NANO
            made[pair] = (abs(mean + sd / sqrt(latency.number - 1) * float(rng.standard_normal())), sd)
    return made
