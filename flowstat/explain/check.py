"""Whether properties hold: PCTL on a chain, three-valued under data."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, inf, isfinite, isinf, log10
from typing import NamedTuple

from flowstat.analyze.arrow_times import Latencies
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.explain.checked import Checked, Checks, Verdict
from flowstat.explain.checking import Checker
from flowstat.explain.property import (
    Constant,
    Every,
    Formula,
    Label,
    Not,
    Operator,
    Property,
    Same,
    Some,
)
from flowstat.explain.property_text import parse_property, refused
from flowstat.explain.told import Point
from flowstat.read.words import shown
from flowstat.results import number

__all__ = ["check"]

NAMED = 3
"""How many nodes a reason names before it only counts the rest."""

WIDE = 1e-9
"""From this width on, what a number lies between is shown without data, too."""


def check(
    chain: Chain,
    properties: str | Property | Iterable[str | Property],
    start: Start = None,
    *,
    confidence: float = 0.95,
    latencies: Latencies | None = None,
) -> Checks:
    """Check properties of a chain's runs.

    Parameters
    ----------
    chain
        A chain; if it was estimated from counts, the data have to tell.
    properties
        One or several: texts as `flowstat.explain.property_text` says, or what `read_properties` reads.
    start
        A node or a law over nodes; the chain's start law if not given.
    confidence
        How sure a verdict has to be under data, in (0, 1).
    latencies
        For `R{"time"}` and time windows: see `flowstat.analyze.timing.timing`.

    Returns
    -------
    Checks
        One row a property.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a property can't be read (line, column, a caret), names a node that is not there, or its number can't be
        computed.

    Notes
    -----
    A run that has ended is at `"end"` for ever, where no node's name holds: so `G "a"` fails once a run ends, and a
    share in the long run (S) is 0 where all runs end. A number is that of runs by their start law, and a name outside
    of any operator has to hold, or not to hold, at all their starts. Bounds of 0 and 1 on chances and shares are
    decided by the graph alone, whatever the shares of its arrows; others by the number and its proven bound, and a
    number that is the bound as far as it can be computed (1e-12) counts as equal to it. Under data the number's
    credible interval has to lie on one side of the bound (delta method, an estimate); how formulas within others are
    told: see `flowstat.explain.checking`. Cost: a solution for each operator; under data one more, and for a bound
    within another formula one for each node. Where runs fan out, a run is one lineage of it; whether some message
    ever comes to a node: see `flowstat.analyze.reach`.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0.4], [0, 0]], ["try", "ok"], "try", stop=[0.1, 1])
    >>> found = check(retry, ['P>=0.75 [ F "ok" ]', 'R{"events"}=? [ F "end" ]', 'P>=1 [ F "ok" ]'])
    >>> [(c.verdict, round(c.value, 12)) for c in found.checks]
    [('holds', 0.8), ('answered', 2.8), ('fails', 0.8)]
    """
    if not 0 < confidence < 1:
        raise AnalysisError(f"a confidence is between 0 and 1, not {confidence}")
    if not isinstance(properties, Iterable | Property):
        raise AnalysisError(f"a property is a text such as 'P>=0.99 [ F \"shipped\" ]', not {shown(repr(properties))}")
    asked = [properties] if isinstance(properties, (str, Property)) else list(properties)
    if not asked:
        raise AnalysisError("no property is given: ask one such as 'P>=0.99 [ F \"shipped\" ]'")
    law = start_law(chain, start)
    counts = chain.counts
    starts = counts.starts if counts is not None else {}
    known = start is not None or not starts
    checker = Checker.of(chain, law, confidence, latencies, start_known=known)
    checks = []
    for each in asked:
        made = each if isinstance(each, Property) else parse_property(each)

        def error(position: int, message: str, of: Property = made) -> AnalysisError:
            return refused(of.source, [(position, message)], of.origin)

        checks.append(_checked(checker.about(made.formula, error), made))
    runs = counts.runs if counts is not None and counts.events else None
    return Checks(tuple(checks), confidence, runs, chain.prior, chain.fans_out)


def _checked(checker: Checker, of: Property) -> Checked:
    if not isinstance(of.formula, Operator):
        undecided: list[Undecided] = []
        holds = _top(checker, of.formula, undecided)
        reason, more = _advice(undecided) if holds is None else ("", None)
        return Checked(of.name, of.text, _verdict(holds), more_runs=more, reason=reason)
    found = _found(checker, of.formula)
    low, high = found.lower.range(checker.level)[0], found.upper.range(checker.level)[1]
    # Rounding alone is no range that a reader has to see, but what a time lies between is.
    wide = checker.spread is not None or high - low > WIDE
    numbers = found.best.value, low if wide else None, high if wide else None
    never = "some runs may never come there" if found.best.value == inf else ""
    if of.formula.bound.than is None:
        reason = never if found.lower is found.upper else _inside(checker)
        return Checked(of.name, of.text, "answered", *numbers, reason=reason, error_bound=found.best.bound)
    reason, more = _advice([_undecided(checker, found)]) if found.holds is None else (never, None)
    return Checked(of.name, of.text, _verdict(found.holds), *numbers, more, reason, found.best.bound)


def _verdict(holds: bool | None) -> Verdict:
    return "cannot tell" if holds is None else "holds" if holds else "fails"


class Found(NamedTuple):
    """The number of an outermost operator from where runs start, and whether it satisfies its bound."""

    operator: Operator
    lower: Point
    upper: Point
    best: Point
    holds: bool | None


class Undecided(NamedTuple):
    """Why a bound can't be told: `factor` times the data of `runs` would tell it, inf if that is not known."""

    reason: str
    factor: float
    runs: int
    never: bool = False
    """No data would."""


def _found(checker: Checker, operator: Operator) -> Found:
    """Compute an outermost operator."""
    lower, upper, best = checker.points(operator)
    holds = None
    if operator.bound.than is not None:
        must, may = checker.decided(operator, lower, upper)
        holds = must if must == may else None
    return Found(operator, lower, upper, best, holds)


def _undecided(checker: Checker, found: Found) -> Undecided:
    than = found.operator.bound.than
    assert than is not None
    counts = checker.chain.counts
    runs = counts.runs if counts is not None else 0
    if found.lower is not found.upper:
        factors = list(checker.open.values())
        outer = found.best.told(than, checker.level)
        if outer is None:
            factors.append(found.best.factor(than, checker.level))
        return Undecided(_inside(checker), max(factors), runs, checker.spread is not None and min(factors) == inf)
    side = found.best.side(than)
    if checker.spread is None or side is None:
        return Undecided(f"it is computed to within {number(found.best.bound)} only, and the bound is nearer", inf, 0)
    if side == 0:
        return Undecided("it lies on its bound, as far as it can be computed", inf, runs, never=True)
    factor = found.best.factor(than, checker.level)
    return Undecided("the bound is within its interval", factor, runs, isinf(factor))


def _inside(checker: Checker) -> str:
    """Say at which nodes a formula within another can't be told."""
    names = list(checker.open)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"what is inside can't be told at {', '.join(map(shown, names[:NAMED]))}{more}"


def _advice(undecided: list[Undecided]) -> tuple[str, int | None]:
    """Say why a property can't be told and what would tell it, and about how many more runs that are."""
    said = []
    most: int | None = 0
    for reason, factor, runs, never in dict.fromkeys(undecided):
        more = _rounded_up(runs * (factor - 1)) if isfinite(factor) and runs else None
        most = None if more is None or most is None else max(most, more)
        if isfinite(factor) and not runs:
            said.append(f"{reason}; about {number(factor)} times as much data would tell")
        else:
            said.append(f"{reason}; no number of runs would tell" if never else reason)
    return "; ".join(said), most or None


def _rounded_up(value: float) -> int:
    """Return a number that is no less, with two digits."""
    unit: int = 10 ** max(0, int(log10(max(value, 1.0))) - 1)
    return max(1, ceil(value / unit) * unit)


def _top(checker: Checker, formula: Formula, undecided: list[Undecided]) -> bool | None:
    """Return whether a formula holds of the runs from where they start; None if that can't be told."""
    match formula:
        case Constant(value):
            return value
        case Label(name, position):
            here = checker.label(formula)[:-1][checker.law > 0]
            if here.all() == here.any():
                return bool(here.all())
            raise checker.error(
                position,
                f'some runs start at "{shown(name)}" and some do not: ask how likely it is, '
                f'P=? [ F<=0 "{shown(name)}" ], or start at one node',
            )
        case Not(of):
            inner = _top(checker, of, undecided)
            return None if inner is None else not inner
        case Every(parts) | Some(parts):
            found = [_top(checker, part, undecided) for part in parts]
            decisive = isinstance(formula, Some)
            return decisive if decisive in found else None if None in found else not decisive
        case Same(a, b):
            first, second = _top(checker, a, undecided), _top(checker, b, undecided)
            return None if first is None or second is None else first == second
        case _:
            made = _found(checker, formula)
            if made.holds is None:
                undecided.append(_undecided(checker, made))
            return made.holds
