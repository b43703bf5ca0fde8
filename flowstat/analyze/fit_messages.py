"""Whole runs with all their messages beside those that the chain would make: how many events, and how likely."""

from __future__ import annotations

from itertools import pairwise
from math import inf, sqrt
from typing import Literal

import numpy as np
from scipy import special

from flowstat.analyze.fit import EXPECTED, LINES, Fit, Predicted
from flowstat.analyze.run_law import PlayedScores, play_scores
from flowstat.analyze.solve import Vector
from flowstat.estimate.chain import Chain
from flowstat.estimate.pattern_law import PatternLaw
from flowstat.estimate.run_scores import RunScores, Scoring
from flowstat.read.notices import Notices
from flowstat.read.resolve import canonical_batches
from flowstat.read.traces import Traces
from flowstat.results import counted, number

__all__ = ["fit_of_messages", "scores_of"]

FEWEST, MOST = 20_000, 1_000_000
"""How many runs are played."""

TIMES = 4
"""How many for each that was recorded."""

EVENTS = 20_000_000

LONGER = 100
"""A run that is played is cut off when it has so many times the events of the longest that was recorded."""


def scores_of(law: PatternLaw, traces: Traces, memory: int | None = None) -> RunScores:
    """Return how likely each run of traces is, with all its messages; errors are those of reading traces."""
    scoring = Scoring(law)
    for file in traces.files:
        for batch in canonical_batches(file, Notices(file.mapping.skip_bad), memory):
            scoring.add(batch)
        scoring.finish()
    return scoring.result()


def fit_of_messages(chain: Chain, scores: RunScores, seed: int = 0) -> tuple[Fit, Fit]:
    """Compare recorded runs, fan-out and all, with runs that the chain plays: by likelihood, and by number of events.

    Parameters
    ----------
    chain
        A chain that was estimated from traces.
    scores
        Of the same traces, from `scores_of`.
    seed
        Of the runs that are played.

    Notes
    -----
    A chi-square test of two samples: `sum (n_k sqrt(B/N) - b_k sqrt(N/B))^2 / (n_k + b_k)` over lines with about as
    many played runs each, of N recorded and B played ones (Press et al., Numerical Recipes (3rd ed.), section 14.3).
    As for `fit_of_variants`, the p-value is an upper bound, for many runs.

    Examples
    --------
    >>> law = PatternLaw(Chain.from_matrix([[0.5]], ["a"], stop=[0.5]))
    >>> fit_of_messages(law.chain, scores_of(law, Traces(())))[0].reason
    'there is no complete run'
    """
    whole = scores.whole
    n = int(whole.sum())
    if not n:
        reason = "there is no complete run"
        return Fit("variants", (), 0.0, reason=reason, whole=True), Fit("lengths", (), 0.0, reason=reason, whole=True)
    longest = LONGER * int(scores.events[whole].max())
    played = play_scores(
        PatternLaw(chain),
        int(np.clip(TIMES * n, FEWEST, MOST)),
        seed,
        most_events=EVENTS,
        longest=max(longest, 10_000),
    )
    short = len(whole) - n
    reason = ""
    if short:
        reason = f"of {counted(short, 'run')} not all was recorded, and such runs tend to be the long ones"
    return (
        _compared("variants", scores.scores[whole], played.scores, reason, played),
        _compared("lengths", scores.events[whole].astype(np.float64), _events(played), reason, played),
    )


def _events(played: PlayedScores) -> Vector:
    """Return how many events each played run has: no number for those that were cut off."""
    return np.where(np.isfinite(played.scores), played.events.astype(np.float64), inf)


def _compared(
    kind: Literal["variants", "lengths"], seen: Vector, made: Vector, reason: str, played: PlayedScores
) -> Fit:
    """Compare two samples in lines of about as many played runs each, that break between different values."""
    n, b = len(seen), len(made)
    if kind == "variants":
        # Sums in another order differ by rounding.
        seen, made = np.round(seen, 9), np.round(made, 9)
    edges = _edges(made, max(b / LINES, EXPECTED * max(1.0, b / n)))
    places = [np.searchsorted(edges, sample, side="right") - 1 for sample in (seen, made)]
    size = max(1, len(edges))
    mine, theirs = (np.bincount(np.maximum(place, 0), minlength=size) for place in places)
    names = [_named(kind, low, high) for low, high in pairwise([*edges.tolist(), inf])]
    lines = []
    for name, x, y in zip(names, mine.tolist(), theirs.tolist(), strict=True):
        p = y / b
        off = sqrt(p * (1 - p) * (1 / n + 1 / b))
        lines.append(Predicted(name, p, x / n, float(x), (x / n - p) / off if off > 0 else None))
    if not reason and len(lines) < 2:
        reason = f"{number(n)} runs are too few, or too alike"
    if reason:
        return Fit(kind, tuple(lines), float(n), reason=reason, whole=True)
    both = (mine + theirs).astype(np.float64)
    off2 = (mine * sqrt(b / n) - theirs * sqrt(n / b)) ** 2
    statistic = float((off2[both > 0] / both[both > 0]).sum())
    degrees = len(lines) - 1
    p_value = float(special.chdtrc(degrees, statistic))
    return Fit(kind, tuple(lines), float(n), statistic, degrees, p_value, whole=True)


def _edges(made: Vector, least: float) -> Vector:
    """Return where lines begin that have at least so many of a sample each."""
    values, numbers = np.unique(made, return_counts=True)
    edges, held = [-inf], 0
    for value, many in zip(values.tolist(), numbers.tolist(), strict=True):
        if held >= least:
            edges.append(value)
            held = 0
        held += many
    if held < least and len(edges) > 1:
        edges.pop()
    return np.array(edges)


def _named(kind: Literal["variants", "lengths"], low: float, high: float) -> str:
    if kind == "lengths":
        begin = 1 if low == -inf else int(low)
        if high == inf:
            return f"{begin:,} or more"
        return f"{begin:,}" if high == begin + 1 else f"{begin:,} to {int(high) - 1:,}"
    if low == -inf:
        return "any likelihood" if high == inf else f"log-likelihood below {high:.6g}"
    return f"log-likelihood {low:.6g} or more" if high == inf else f"log-likelihood {low:.6g} to {high:.6g}"
