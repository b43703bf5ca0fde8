"""At which states a formula holds, does not, or can't be told from the data: three-valued model checking of PCTL.

Every formula has two sets of states: where it surely holds, and where it may. They are the same without data. A formula
within another is decided at each state that runs come to, and the one around it is computed with both sets: a chance
grows with the states that it is about (what shrinks is computed the other way round), and so lies between the two
(Fecher, Leucker and Wolf, Don't Know in Probabilistic Systems, SPIN 2006). All decisions of a property share the doubt
that is allowed (Bonferroni): with k of them each is made at the confidence `1 - (1 - c) / k`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction
from functools import partial

import numpy as np

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.closing import closed_chain
from flowstat.analyze.collected import Collected, closed_times
from flowstat.analyze.lasting import Lasting
from flowstat.analyze.search import Mask, Vector, reachable
from flowstat.analyze.spread import Spread
from flowstat.analyze.until import Until
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from flowstat.explain.property import (
    Chance,
    Constant,
    Every,
    Formula,
    Label,
    LongRun,
    Not,
    Operator,
    Path,
    Reward,
    Same,
    Some,
    operators,
)
from flowstat.explain.told import Numbers, Point, point_at, point_in_time, point_of, satisfied
from flowstat.read.words import shown

__all__ = ["Checker", "Located", "Truth"]

MOST_STATES = 3000
"""How many states a formula within another may be open at, under data: each needs an interval of its own."""

SUREST = 1 - 1e-15
"""The highest confidence of one decision."""

Located = Callable[[int, str], AnalysisError]
"""Makes an error about a place of the property's text."""


@dataclass(frozen=True)
class Truth:
    """Where a formula surely holds, where it may, and where it does by the numbers as they are estimated; (n,) each."""

    must: Mask
    may: Mask
    best: Mask

    @classmethod
    def of(cls, mask: Mask) -> Truth:
        """Return what is known everywhere."""
        return cls(mask, mask, mask)

    def __invert__(self) -> Truth:
        return Truth(~self.may, ~self.must, ~self.best)

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.must & other.must, self.may & other.may, self.best & other.best)

    def __or__(self, other: Truth) -> Truth:
        return Truth(self.must | other.must, self.may | other.may, self.best | other.best)


@dataclass
class Checker:
    """Checks formulas on one chain.

    Attributes
    ----------
    chain, law
        The chain, and where its runs start.
    spread
        Its posterior; None without data.
    live
        The states that runs come to, (n + 1,).
    level
        The confidence of each decision.
    open
        The nodes at which a formula within another can't be told, each with how many times the data would tell.
    """

    chain: Chain
    law: Vector
    latencies: Latencies | None
    spread: Spread | None
    closed: Chain
    live: Mask
    level: float
    error: Located
    open: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        chain: Chain,
        law: Vector,
        confidence: float,
        latencies: Latencies | None = None,
        *,
        start_known: bool = False,
    ) -> Checker:
        """Return a checker of formulas that are decided at a confidence; `about` makes that of one of them."""
        closed = closed_chain(chain, law)
        spread = Spread.of(chain, closed, start_known=start_known)
        live = reachable(closed.P, closed.start > 0)
        return cls(chain, law, latencies, spread, closed, live, confidence, _unplaced)

    def about(self, formula: Formula, error: Located) -> Checker:
        """Return the checker of one formula, whose decisions share the doubt that is allowed."""
        live = int(self.live.sum())
        decisions = sum(live if depth else 1 for operator, depth in operators(formula) if not _qualitative(operator))
        level = min(SUREST, 1 - (1 - self.level) / max(1, decisions))
        return replace(self, level=level, error=error, open={})

    def label(self, of: Label) -> Mask:
        """Return at which states a label holds."""
        n = len(self.chain.names)
        mask = np.zeros(n + 1, bool)
        at = self.chain.index.get(of.name)
        if at is not None:
            mask[at] = True
        elif of.name == "init":
            mask[:n] = self.law > 0
        elif of.name in ("end", "deadlock", END):
            mask[n] = True
        else:
            near = get_close_matches(of.name, self.chain.names, 1)
            few = ", ".join(map(shown, self.chain.names[:8])) + ", ..." * (n > 8)
            advice = f'did you mean "{shown(near[0])}"?' if near else f"the nodes are {few}"
            raise self.error(of.position, f'no node is called "{shown(of.name)}": {advice}')
        return mask

    def states(self, formula: Formula) -> Truth:
        """Return at which states a formula holds."""
        match formula:
            case Constant(value):
                return Truth.of(np.full(len(self.chain.names) + 1, value))
            case Label():
                return Truth.of(self.label(formula))
            case Not(of):
                return ~self.states(of)
            case Every(parts) | Some(parts):
                made = self.states(parts[0])
                for part in parts[1:]:
                    made = made & self.states(part) if isinstance(formula, Every) else made | self.states(part)
                return made
            case Same(a, b):
                first, second = self.states(a), self.states(b)
                return (first & second) | (~first & ~second)
            case _:
                return self.within(formula)

    def within(self, operator: Operator) -> Truth:
        """Return at which states the number of an operator satisfies its bound, at those that runs come to."""
        if isinstance(operator, Chance) and operator.path.window.seconds is not None:
            raise self.error(
                operator.path.position,
                "within another formula paths have windows of steps only: a time counts from where runs start",
            )
        lower, upper, best = self.numbers(operator)
        bound = operator.bound
        than = bound.than if bound.than is not None else Fraction(0)
        must, may, estimate = (np.zeros(len(self.live), bool) for _ in range(3))
        some = np.flatnonzero(self.live)
        if self.spread is not None and not _qualitative(operator) and len(some) > MOST_STATES:
            raise AnalysisError(
                f"a bound within another formula is decided at each of {len(some):,} nodes, which is too much with "
                f"traces (at most {MOST_STATES:,}): ask without traces, of the chain that convert writes (.drn)"
            )
        for i in some.tolist():
            first = point_of(lower, i, self.spread)
            second = first if upper is lower else point_of(upper, i, self.spread)
            must[i], may[i] = self.decided(operator, first, second)
            middle = first if best is lower else point_of(best, i, None)
            estimate[i] = bool(satisfied(bound, middle.side(than) or 0))
            if may[i] and not must[i]:
                self.open[(*self.chain.names, END)[i]] = max(p.factor(than, self.level) for p in (first, second))
        return Truth(must, may, estimate)

    def decided(self, operator: Operator, lower: Point, upper: Point) -> tuple[bool, bool]:
        """Return whether a number between two surely satisfies a bound, and whether it may."""
        bound = operator.bound
        assert bound.than is not None
        least, most = (satisfied(bound, p.told(bound.than, self.level)) for p in (lower, upper))
        if bound.compare in (">=", ">"):
            return least is True, most is not False
        return most is True, least is not False

    def numbers(self, operator: Operator) -> tuple[Numbers, Numbers, Numbers]:
        """Return the numbers of an operator: least, largest, and as estimated; all the same one if all is told."""
        match operator:
            case Chance(_, path):
                return self.paths(path)
            case LongRun(_, of):
                truth = self.states(of)
                return _three(truth, lambda mask: Lasting(self.closed, mask))
            case Reward(_, what, goal):
                truth = self.states(goal)

                def collected(mask: Mask) -> Numbers:
                    times = closed_times(self.chain, self.closed, self.latencies, mask) if what == "time" else None
                    return Collected(self.closed, mask, times)

                # The more goals, the sooner.
                return _three(Truth(truth.may, truth.must, truth.best), collected)

    def points(self, operator: Operator) -> tuple[Point, Point, Point]:
        """Return the number of an outermost operator for runs from where they start: the least, largest, estimated."""
        if isinstance(operator, Chance) and operator.path.window.seconds is not None:
            numbers = self.paths(operator.path)
            seconds = operator.path.window.seconds
            make = partial(point_in_time, self.chain, seconds=seconds, spread=self.spread, latencies=self.latencies)
        else:
            numbers = self.numbers(operator)
            make = partial(point_at, law=self.closed.start, spread=self.spread)
        lower = make(numbers[0])
        if numbers[1] is numbers[0]:
            return lower, lower, lower
        return lower, make(numbers[1]), make(numbers[2])

    def paths(self, path: Path) -> tuple[Numbers, Numbers, Numbers]:
        """Return the chances of a path: of what it says, or that it is not the case what is said until it fails."""
        left, right, failing = self.sides(path)
        if failing:
            left, right = (Truth(each.may, each.must, each.best) for each in (left, right))
        low, high = path.window.low, path.window.high
        made = [
            Until(self.closed, a, b, low, high, failing)
            for a, b in zip((left.must, left.may, left.best), (right.must, right.may, right.best), strict=True)
        ]
        told = all(np.array_equal(each.must, each.may) for each in (left, right))
        return (made[0], made[0], made[0]) if told else (made[0], made[1], made[2])

    def sides(self, path: Path) -> tuple[Truth, Truth, bool]:
        """Return a path as an until, `left U right`, and whether it is asked for the runs that do not.

        `G b` is that no run comes to `!b`; `a W b` that none comes to `!a & !b` by way of `!b`; `a R b` that none comes
        to `!b` by way of `!a`.
        """
        a, b = self.states(path.a), self.states(path.b)
        match path.kind:
            case "G":
                return a, ~b, True
            case "W":
                return ~b, ~a & ~b, True
            case "R":
                return ~a, ~b, True
            case _:
                return a, b, False


def _unplaced(position: int, message: str) -> AnalysisError:
    return AnalysisError(message)


def _three(truth: Truth, make: Callable[[Mask], Numbers]) -> tuple[Numbers, Numbers, Numbers]:
    if np.array_equal(truth.must, truth.may):
        made = make(truth.must)
        return made, made, made
    return make(truth.must), make(truth.may), make(truth.best)


def _qualitative(operator: Operator) -> bool:
    """Whether the graph alone decides: a bound of 0 or 1 on a chance, but not on one in time."""
    if isinstance(operator, Reward) or (isinstance(operator, Chance) and operator.path.window.seconds is not None):
        return False
    return operator.bound.than in (0, 1)
