"""Intervals of the chance to come to some nodes, and of the steps till then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowstat.analyze.gradients import Until, until
from flowstat.analyze.interval import Asked, Gradient
from flowstat.analyze.search import Vector, cut
from flowstat.analyze.solve import Solver
from flowstat.estimate.chain import Chain, Start, start_law

__all__ = ["asked_hitting"]


def asked_hitting(
    chain: Chain, targets: Sequence[str], probability: float, steps: float | None, start: Start
) -> dict[str, Asked]:
    """Return the chance to come to targets from the start, and the steps till then, with the gradients of both."""
    if not probability:
        return {}
    inside = np.zeros(len(chain.names))
    inside[[chain.index[name] for name in targets]] = 1.0

    def solved(of: Chain) -> Until:
        law = of.start if start is None else start_law(chain, start)
        solver = Solver(cut(of.P, inside > 0), np.where(inside > 0, 1.0, of.stop))
        return until(solver, law, inside, np.ones(solver.P.nnz), np.zeros(solver.n))

    made = solved(chain)
    chances, means = (_whole(chain, each, inside, start) for each in (made.of_chance, made.of_mean))
    asked = {"probability:": Asked(probability, lambda: chances, lambda other: solved(other).chance, most=1.0)}
    if steps:
        asked["steps:"] = Asked(steps, lambda: means, lambda other: solved(other).mean)
    return asked


def _whole(chain: Chain, of: Gradient, inside: Vector, start: Start) -> Gradient:
    """Return a gradient for all arrows of the chain: those from the targets don't matter, nor a start that is given."""
    arrows = np.zeros(chain.P.nnz)
    arrows[inside[chain.arrows()[0]] == 0] = of.arrows
    ends = np.where(inside > 0, 0.0, of.ends)
    return Gradient(arrows, ends, of.starts if start is None else np.zeros(len(ends)))
