"""How many steps runs take, as a law: to some nodes or to their end, up to a horizon, with what lies beyond bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from flowstat.analyze.aim import Aim, Targets, aim_at, arrives, chance, weighted
from flowstat.analyze.derived import whole
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.far_steps import far_within
from flowstat.analyze.search import Vector
from flowstat.analyze.solve import TOLERANCE, Solved
from flowstat.analyze.state_rows import StateRows
from flowstat.analyze.stepping import TINY, Forward
from flowstat.analyze.stepping_back import followed, rounded, stepped_back
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["StateWithin", "StepChance", "Steps", "Within", "arrived", "steps", "within"]


MOST = 10_000_000
"""The longest law."""

SURE = 1e-10
"""How far off a chance may be before another way to it is tried."""

WORK = 1e10
"""How many arrows are followed before it is tried to leap."""


class StepChance(NamedTuple):
    """The chance to get there with step `steps`, and by then."""

    steps: int
    probability: float
    within: float
    probability_bound: float = 0.0
    within_bound: float = 0.0


@dataclass(frozen=True)
class Steps(Result):
    """The law of the number of steps, from 0 to a horizon.

    `reached` is the chance ever to get there, `beyond` that to get there after the horizon, and `never` the rest:
    `within + beyond + never` is 1 at the horizon.
    """

    title: ClassVar[str] = "Steps: how many a run takes"
    columns: ClassVar[tuple[str, ...]] = StepChance._fields
    beside: ClassVar[tuple[str, ...]] = ("probability_bound", "within_bound")
    targets: tuple[str, ...]
    horizon: int
    chances: tuple[StepChance, ...]
    reached: float
    beyond: float
    never: float
    reached_bound: float = 0.0
    beyond_bound: float = 0.0
    never_bound: float = 0.0
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the chances may be off, proven."""
        return max(self.beyond_bound, *(max(c.probability_bound, c.within_bound) for c in self.chances))

    def rows(self) -> list[Row]:
        """Return one row a number of steps."""
        return [c._asdict() for c in self.chances]

    def notes(self) -> tuple[str, ...]:
        """Say what lies beyond the horizon."""
        by = f"within {self.horizon:,} steps with probability {number(self.chances[-1].within)}"
        said = f"A run {arrives(self.targets)} {by}, later with {number(self.beyond)}, never with {number(self.never)}."
        return (said, LINEAGES) if self.fans_out else (said,)


def steps(chain: Chain, targets: Targets | None = None, horizon: int = 100, start: Start = None) -> Steps:
    """Find the law of the number of steps that runs take to some nodes, or to their end.

    Parameters
    ----------
    chain
        A chain.
    targets
        A node or several; the end of the run if not given. Then the number of steps is that of the run's events.
    horizon
        Up to how many steps, at least 0.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Steps
        `P[T = t]` and `P[T <= t]` for t from 0 to the horizon, and the chances of `horizon < T < inf` and of never.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If the horizon is negative or above 10 million, no target is named or one is no node, or a class is too large
        and too close to closed to be solved.

    Notes
    -----
    With Q among the states on the way and x the law of where the run is, `P[T = t + 1] = x_t Q 1_A` and
    `x_{t+1} = x_t Q`: nonnegative sums, so that each number is right to t rounding units per arrow, relatively. What
    lies beyond is `x_t h`, with h of `hitting`, not 1 minus a sum. The shares are taken as stored. One product with the
    arrows on the way for each step; a few dozen steps at once where that is few states.

    Examples
    --------
    >>> flip = Chain.from_matrix([[0.5, 0.5], [0, 1]], ["flip", "heads"])
    >>> found = steps(flip, "heads", horizon=3)
    >>> [c.probability for c in found.chances], found.beyond, found.never
    ([0.0, 0.5, 0.25, 0.125], 0.125, 0.0)
    """
    horizon = whole("a number of steps", horizon, 0)
    if horizon > MOST:
        raise AnalysisError(f"a law of more than {MOST:,} steps is too long: ask for `within`, or for quantiles")
    law = start_law(chain, start)
    aim = aim_at(chain, targets)
    forward = Forward(aim, law)
    pieces = [tuple(np.array([each]) for each in (forward.at_once, len(law) * UNIT, len(law) * UNIT))]
    while forward.time < horizon:
        pieces.append(forward.advance(horizon - forward.time))
    probability, relative, astray = (np.concatenate(each) for each in zip(*pieces, strict=True))
    time = np.arange(horizon + 1)
    together = np.cumsum(probability)
    # A running sum rounds each addition by no more than the smaller of a unit of the sum and what is added.
    added = np.cumsum(np.minimum(UNIT * together, probability))
    bounds = [1.01 * np.minimum(relative * each, astray) + TINY * (time > 0) for each in (probability, together)]
    bounds[1] += 1.01 * added
    columns = (probability, np.minimum(together, 1.0), *bounds)
    chances = tuple(map(StepChance, time.tolist(), *(column.tolist() for column in columns)))
    hit, miss = aim.chances
    reached, reached_bound = weighted(law, hit)
    never, never_bound = weighted(law, miss)
    beyond, beyond_bound = forward.beyond(hit)
    found = (chance(reached), chance(beyond), chance(never), reached_bound, beyond_bound, never_bound)
    return Steps(aim.names, horizon, chances, *found, chain.fans_out)


class StateWithin(NamedTuple):
    """The chance that a run from a state gets there in time."""

    state: str
    probability: float
    probability_bound: float = 0.0


@dataclass(frozen=True)
class Within(Result):
    """The chance to get there within so many steps: from every state, and (`start`) from where runs start."""

    title: ClassVar[str] = "Within: whether runs get there in time"
    columns: ClassVar[tuple[str, ...]] = StateWithin._fields
    beside: ClassVar[tuple[str, ...]] = ("probability_bound",)
    targets: tuple[str, ...]
    steps: int
    start: StateWithin
    states: StateRows[StateWithin]
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the chances may be off, proven."""
        return max(self.start.probability_bound, self.states.largest(1))

    def rows(self) -> list[Row]:
        """Return one row a state."""
        return [s._asdict() for s in self.states]

    def notes(self) -> tuple[str, ...]:
        """Say what holds for runs from the start."""
        by = f"within {self.steps:,} steps with probability {number(self.start.probability)}"
        said = f"A run {arrives(self.targets)} {by}."
        return (said, LINEAGES) if self.fans_out else (said,)


def within(chain: Chain, targets: Targets | None = None, steps: int = 100, start: Start = None) -> Within:
    """Find the chance that runs come to some nodes, or to their end, within so many steps: bounded reachability.

    Parameters
    ----------
    chain
        A chain.
    targets
        A node or several; the end of the run if not given.
    steps
        How many steps, at least 0.
    start
        A node or a law over nodes; the chain's start law if not given. It only matters for `Within.start`.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If the number of steps is negative, or so large that rounding adds up to more than 1e-6 and what is still to
        come has no shape that would tell, or if no target is named, or one is no node.

    Notes
    -----
    `y_{k+1} = Q y_k + Q 1_A` from `y_0 = 0`, over the states near enough only: nonnegative sums, right to k rounding
    units per arrow of a row, relatively (Baier and Katoen, Principles of Model Checking (2008), section 10.1.1). One
    product with the arrows on the way for each step; it ends early where nothing changes any more. Where the steps are
    too many for that it is leapt over most of them, from where what is still to come goes down geometrically, proven:
    see `flowstat.analyze.far_steps`. There a state is stayed at with what the other shares of its row leave of 1.

    Examples
    --------
    >>> flip = Chain.from_matrix([[0.5, 0.5], [0, 1]], ["flip", "heads"])
    >>> within(flip, "heads", 3).start.probability
    0.875
    """
    steps = whole("a number of steps", steps, 0)
    law = start_law(chain, start)
    aim = aim_at(chain, targets)
    solved = arrived(aim, steps)
    states = StateRows(StateWithin, chain.names, np.minimum(solved.values, 1.0), solved.bound)
    probability, bound = weighted(law, solved)
    begin = StateWithin("(start)", chance(probability), bound)
    return Within(aim.names, steps, begin, states, chain.fans_out)


def arrived(aim: Aim, steps: int) -> Solved:
    """Return the chances to get there within so many steps, from every state.

    Raises
    ------
    AnalysisError
        As `within` does.
    """
    near = (aim.tree.depth < steps if aim.ends else aim.tree.depth <= steps) & aim.able
    values: Vector = aim.inside.astype(np.float64)
    bound = np.zeros(len(values))
    way = np.flatnonzero(near & ~aim.inside)
    if not len(way):
        return Solved(values, bound)
    relative = rounded(aim, way, steps)
    doubled = followed(aim, way, steps) <= len(way)
    far = _far(aim, steps) if relative > SURE or followed(aim, way, steps) > WORK else None
    if far is not None:
        values, bound = far.values, far.bound
    if relative <= TOLERANCE and (far is None or doubled or bound.max() > SURE):
        stepped = stepped_back(aim, way, steps)
        off = relative * stepped + TINY
        better = np.ones(len(way), bool) if far is None else off < bound[way]
        values[way[better]], bound[way[better]] = stepped[better], off[better]
    elif far is None or bound.max() > TOLERANCE:
        raise AnalysisError(
            f"{steps:,} steps are too many for the chance to be known to {TOLERANCE:g}: ask for fewer, for quantiles, "
            "or for the chance ever to get there"
        )
    return Solved(values, bound)


def _far(aim: Aim, steps: int) -> Solved | None:
    """Return what is known without taking all the steps; None if nothing is."""
    try:
        return far_within(aim, steps)
    except AnalysisError:
        return None
