"""What an answer depends on: its derivative with respect to every share, by one adjoint solve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, isfinite
from typing import ClassVar

import numpy as np

from flowstat.analyze.answers import Adjoint, Answer, adjoint
from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.bounded import exact, minus, quotient, row_sums, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.gradients import answered
from flowstat.analyze.interval import Asked, by_delta, parts
from flowstat.analyze.intervals import DOUBTS, check_level
from flowstat.analyze.observing import fewest
from flowstat.analyze.solve import Index, Solved, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain, Start, start_law
from flowstat.estimate.posterior import Posterior
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Effect", "Sensitivity", "sensitivity"]


@dataclass(frozen=True)
class Effect:
    """What one share, of an arrow or of the end, does to the answer.

    `effect` is the change of the answer per share that is moved here from the other ways of the source, from each in
    proportion to its own; 0 where there is no other way. `elasticity` is that change in percent for a share that is
    one percent of itself larger; None where the answer is 0. `derivative` is that with all other shares as they are:
    then the row does not sum to 1, but sums of it over a row give any other direction.

    `uncertainty` is the part of the answer's variance that this share carries (all of them, the start and recorded
    times sum to 1); `observe` says how many more events of its source are to be observed, of the fewest that halve the
    answer's interval. None without traces, or where no number of events is enough.
    """

    source: str
    key: tuple[str, ...]
    target: str
    share: float
    effect: float
    elasticity: float | None
    derivative: float
    error_bound: float = 0.0
    """How far the effect may be off."""
    elasticity_bound: float = 0.0
    derivative_bound: float = 0.0
    uncertainty: float | None = None
    observe: int | None = None


@dataclass(frozen=True)
class Sensitivity(Result):
    """The shares that an answer depends on most, by elasticity."""

    title: ClassVar[str] = "Sensitivity: what the answer depends on"
    columns: ClassVar[tuple[str, ...]] = (
        "source",
        "key",
        "target",
        "share",
        "effect",
        "elasticity",
        "uncertainty",
        "observe",
        "derivative",
        "error_bound",
        "elasticity_bound",
        "derivative_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("derivative", "error_bound", "elasticity_bound", "derivative_bound")
    answer: str
    value: float
    effects: tuple[Effect, ...]
    value_bound: float = 0.0
    left_out: int = 0
    reason: str = ""
    fans_out: bool = False
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    doubt: str = ""
    """What there is against the interval: see `flowstat.analyze.interval.Interval`."""

    @property
    def error_bound(self) -> float:
        """How far any of the effects may be off, proven: see `flowstat.analyze.solve`."""
        return max((e.error_bound for e in self.effects), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a share."""
        return [{c: list(e.key) if c == "key" else getattr(e, c) for c in self.columns} for e in self.effects]

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has: no uncertainty where there is none."""
        known = any(e.uncertainty is not None for e in self.effects)
        return tuple(c for c in super().printed() if known or c not in ("uncertainty", "observe"))

    def notes(self) -> tuple[str, ...]:
        """Say what the answer is and what the columns mean."""
        sure = ""
        if self.low is not None and self.high is not None:
            sure = f", with {self.level:.0%} probability between {number(self.low)} and {number(self.high)}"
        said = [f"{self.answer} is {number(self.value)}{sure}" + (f": {self.reason}." if self.reason else ".")]
        if self.doubt:
            said.append(f"{DOUBTS[self.doubt]}.")
        if self.effects:
            said.append(
                "effect: change of the answer per share moved here from the node's other ways; elasticity: percent of "
                "the answer per percent of the share."
            )
        if any(e.uncertainty for e in self.effects):
            said.append(
                "uncertainty: the part of the answer's variance that comes of this share; observe: how many more "
                "events of its source, of the fewest in all that halve the interval; so would three times as many runs "
                "more."
            )
        if self.left_out:
            said.append(f"{self.left_out:,} shares with less effect are left out.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)


def sensitivity(
    chain: Chain,
    answer: Answer | str,
    start: Start = None,
    *,
    top: int = 20,
    latencies: Latencies | None = None,
    level: float = 0.95,
) -> Sensitivity:
    """Find the shares that an answer depends on most.

    Parameters
    ----------
    chain
        A chain.
    answer
        An `Answer`, or its text: `events`, `time`, `chance:NODE`, `visits:NODE`, `hit:NODE`, `steps:NODE`,
        `stationary:NODE`.
    start
        A node or a law over nodes; the chain's start law if not given.
    top
        How many shares are listed, at least 1; all are computed.
    latencies
        For `time`: see `flowstat.analyze.timing.timing`.
    level
        Probability that the interval holds the answer, in (0, 1).

    Returns
    -------
    Sensitivity
        Largest elasticity first; where it is not defined, by effect times share. An infinite answer has no effects.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If the answer is none, names a node that is not there, or a class is too large and too close to closed.

    Notes
    -----
    With v the expected visits and x_j what the answer expects from j on, `df/dp_ij = v_i x_j`; of a long-run share,
    `pi_i x_j` with `x_j = -pi_k m_jk`, m the mean first passage (Meyer and Stewart, SIAM Journal on Numerical Analysis
    25 (1988); Cho and Meyer, Linear Algebra and its Applications 316 (2000)). One solve forward, one backward, and a
    pass over the arrows, whatever their number.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0.4], [0, 0]], ["try", "ok"], "try", stop=[0.1, 1])
    >>> most = sensitivity(retry, "chance:ok").effects[0]
    >>> most.target, round(most.effect, 12), round(most.elasticity, 12)
    ('ok', 0.666666666667, 0.333333333333)
    """
    if top < 1:
        raise AnalysisError(f"at least one share is listed, not {top}")
    check_level(level)
    asked = Answer.parse(answer) if isinstance(answer, str) else answer
    found = adjoint(chain, asked, start_law(chain, start), latencies)
    value, off = float(found.value.values), float(found.value.bound)
    if not isfinite(value):
        return Sensitivity(str(asked), value, (), reason=found.reason, fans_out=chain.fans_out)
    rows, columns, shares, derivative, effect = _directions(chain, found)
    scaled = times(effect, exact(shares))
    elastic = quotient(scaled, found.value)
    known = bool(np.isfinite(elastic.bound).all()) and value != 0
    size = np.abs(elastic.values if known else scaled.values)
    order = np.lexsort((columns, rows, -size))[:top]
    names = (*chain.names, END)
    effects = []
    for k in order.tolist():
        source, target = names[rows[k]], names[columns[k]]
        effects.append(
            Effect(
                source,
                () if target == END else chain.keys(source, target),
                target,
                float(shares[k]),
                # Adding 0 makes a 0 of -0.
                float(effect.values[k]) + 0.0,
                float(elastic.values[k]) + 0.0 if known else None,
                float(derivative.values[k]) + 0.0,
                float(effect.bound[k]),
                float(elastic.bound[k]) if known else 0.0,
                float(derivative.bound[k]),
            )
        )
    left_out = len(size) - len(order)
    made = Sensitivity(str(asked), value, tuple(effects), off, left_out, found.reason, chain.fans_out, level=level)
    posterior = chain.posterior
    if posterior is None:
        return made
    whole = answered(chain, asked, start, latencies, found)
    return _with_interval(made, posterior, whole, [(int(rows[k]), int(columns[k])) for k in order.tolist()])


def _with_interval(made: Sensitivity, posterior: Posterior, asked: Asked, ways: list[tuple[int, int]]) -> Sensitivity:
    """Return a sensitivity with the interval of its answer, and what each way, (source, target), has to do with it."""
    sure = by_delta(posterior, asked, made.level)
    gradient = asked.gradient()
    each, start = parts(posterior, gradient)
    whole = float(each.sum()) + start + gradient.more
    if sure is None or whole <= 0:
        return replace(made, low=made.value, high=made.value)
    n, m = len(posterior.total), posterior.chain.P.nnz
    by_way = (each @ posterior.shares) / whole
    # The start is like one more node, of which each run is an event.
    runs = float(posterior.starts.sum())
    variance = np.append(np.bincount(posterior.node, each, n), start)
    more = fewest(variance, np.append(posterior.total, runs) + 1, whole / 4 - gradient.more)
    place = {pair: k for k, pair in enumerate(zip(*(x.tolist() for x in posterior.chain.arrows()[:2]), strict=True))}
    effects = []
    for effect, (i, j) in zip(made.effects, ways, strict=True):
        part = float(by_way[m + i if j == n else place[i, j]])
        effects.append(replace(effect, uncertainty=part, observe=None if more is None else ceil(more[i])))
    return replace(made, effects=tuple(effects), low=sure.low, high=sure.high, doubt=sure.doubt)


def _directions(chain: Chain, found: Adjoint) -> tuple[Index, Index, Vector, Solved, Solved]:
    """Return sources, targets (n: the end), shares, derivatives and effects of all ways."""
    n = len(chain.names)
    i, j, p = chain.arrows()
    ending = np.flatnonzero(chain.stop > 0)
    rows, columns = np.concatenate([i, ending]), np.concatenate([j, np.full(len(ending), n)])
    shares = np.concatenate([p, chain.stop[ending]])
    worth = Solved(
        np.concatenate([found.arrows.values, found.ends.values[ending]]),
        np.concatenate([found.arrows.bound, found.ends.bound[ending]]),
    )
    weights = Solved(found.weights.values[rows], found.weights.bound[rows])
    level = found.level if found.level is not None else exact(0.0)
    derivative = times(weights, minus(worth, level))
    others, mean = _others(rows, shares, worth, n)
    apart = minus(worth, quotient(mean, others))
    alone = others.values <= 0
    for each in (apart.values, apart.bound):
        each[alone] = 0.0
    return rows, columns, shares, derivative, times(weights, apart)


def _others(rows: Index, shares: Vector, worth: Solved, n: int) -> tuple[Solved, Solved]:
    """Return for every way the sum of the shares of the other ways of its node, and of what they are worth.

    A way of at most half of its node is taken away from the sum of all, which loses nothing; the one way that may have
    more is left out of the sum.
    """
    p = exact(shares)
    taken = times(p, worth)
    whole, all_taken = row_sums(rows, p, n), row_sums(rows, taken, n)
    large = shares > whole.values[rows] / 2
    small = np.where(large, 0.0, 1.0)
    rest = row_sums(rows, times(p, exact(small)), n)
    rest_taken = row_sums(rows, times(taken, exact(small)), n)
    # What is subtracted has been rounded in the sum relative to all of its terms, and those count in its bound.
    return tuple(
        Solved(
            np.where(large, low.values[rows], less.values),
            np.where(large, low.bound[rows], less.bound + 2 * UNIT * np.abs(part.values)),
        )
        for low, less, part in (
            (rest, minus(whole.at(rows), p), p),
            (rest_taken, minus(all_taken.at(rows), taken), taken),
        )
    )  # type: ignore[return-value]
