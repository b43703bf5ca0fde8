"""What to observe more, so that an answer becomes surer."""

from __future__ import annotations

import numpy as np

from flowstat.analyze.solve import Vector

__all__ = ["fewest"]


def fewest(variance: Vector, weight: Vector, target: float) -> Vector | None:
    """Return how many more events of each node, the fewest in all, bring a variance down; None if none do.

    Parameters
    ----------
    variance, weight : (n,)
        The part of each node, which n more events make `weight / (weight + n)` times as large.
    target
        What the parts are to sum to.

    Notes
    -----
    Of those that are observed more, `weight + n` is in proportion to the root of `variance weight` (Neyman, Journal of
    the Royal Statistical Society 97 (1934)), and they are those that gain most by the first event.

    Examples
    --------
    >>> fewest(np.array([1.0, 1.0, 0.0]), np.array([10.0, 10.0, 5.0]), 0.5).tolist()
    [30.0, 30.0, 0.0]
    """
    if target <= 0:
        return None
    gain = variance / weight
    order = np.argsort(-gain, kind="stable")
    roots = np.cumsum(np.sqrt(variance * weight)[order])
    rest = float(variance.sum()) - np.cumsum(variance[order])
    level = (target - np.maximum(rest, 0.0)) / np.where(roots > 0, roots, np.inf)
    # Those are observed more that gain more than that level; the right number of them gives the highest level.
    best = float(level.max())
    if best <= 0:
        return None
    more: Vector = np.maximum(np.sqrt(variance * weight) / best - weight, 0.0)
    return more
