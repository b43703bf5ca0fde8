"""What a stated change of some shares does to outcomes, events, visits and loops: before and after, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isinf
from typing import ClassVar, Literal

from flowstat.analyze.absorption import absorption
from flowstat.analyze.changes import Change, Changes, changed, read_changes
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.loops import loops
from flowstat.analyze.solve import Solver
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, counted, number

__all__ = ["Difference", "WhatIf", "what_if"]

Kind = Literal["share", "outcome", "events", "visits", "loop", "rounds"]
Values = dict[tuple[Kind, str], tuple[float, float | None]]
"""(kind, name) -> number and its bound."""

LOOPS = 3000
"""Up to how many nodes loops are compared: they are taken apart one by one."""

SAME = 1e-12
"""Numbers of visits and loops that differ by less, relatively, are left out."""


@dataclass(frozen=True)
class Difference:
    """One number before and after.

    `kind` is `share` (a change itself), `outcome` (its chance), `events` (per run, and their standard deviation),
    `visits` (expected events at the node), `loop` (chance that a run goes round it at least once) or `rounds` (mean of
    a run that does). `difference` is after - before, None between infinities, and `ratio` after / before, None where
    that says nothing.
    """

    kind: Kind
    name: str
    before: float
    after: float
    difference: float | None
    ratio: float | None
    error_bound: float | None = None
    """How far the difference may be off; None where it is not known (loops)."""


@dataclass(frozen=True)
class WhatIf(Result):
    """What changes, by kind, what changes most first."""

    title: ClassVar[str] = "What if: before and after"
    columns: ClassVar[tuple[str, ...]] = ("kind", "name", "before", "after", "difference", "ratio", "error_bound")
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    differences: tuple[Difference, ...]
    left_out: int = 0
    unsolved: str = ""
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the differences that have a bound may be off, proven: see `flowstat.analyze.solve`."""
        return max((d.error_bound for d in self.differences if d.error_bound is not None), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a number."""
        return [{column: getattr(d, column) for column in self.columns} for d in self.differences]

    def notes(self) -> tuple[str, ...]:
        """Say what became of the length of a run, and what is left out."""
        said = []
        for d in self.differences:
            if d.kind == "events" and d.name == "mean" and isinf(d.after) != isinf(d.before):
                said.append(
                    "Some runs never end then: they have infinitely many events."
                    if isinf(d.after)
                    else f"All runs end then, after {number(d.after)} events on average."
                )
        if self.unsolved:
            said.append(f"Loops are not compared: {self.unsolved}.")
        if self.left_out:
            said.append(f"{self.left_out:,} numbers that change less, or not, are left out.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)


def what_if(chain: Chain, changes: Changes, start: Start = None, *, top: int = 10) -> WhatIf:
    """Find what stated changes of shares do.

    Parameters
    ----------
    chain
        A chain.
    changes
        `"payment/retry=0.02"`: the share of the arrows from payment with that key, together; `"a -> b=0.3"`: that of a
        pair, new or old; `"a -> (end)=0.1"`: that a run stops there. Several, or a mapping. 0 takes a way out. The
        other ways of the node keep their proportions.
    start
        A node or a law over nodes; the chain's start law if not given.
    top
        How many numbers of a kind are listed at most, at least 1.

    Returns
    -------
    WhatIf
        Shares, outcomes, events, visits, loops. Every difference but that of loops has its bound, which is that of the
        two answers: an effect that is not larger may be none.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a change can't be read or made, or an answer can't be computed.

    Notes
    -----
    Both chains are solved: nothing is linearised. See `solve` for cost and bounds, `flowstat.analyze.loops` for loops,
    whose numbers are computed without subtraction, but have no bound.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0.4], [0, 0]], ["try", "ok"], "try", stop=[0.1, 1])
    >>> [(d.name, d.before, d.after) for d in what_if(retry, "try -> try=0").differences if d.kind == "outcome"]
    [('ok', 0.8, 0.8), ('try', 0.2, 0.2)]
    """
    if top < 1:
        raise AnalysisError(f"at least one number of each kind is listed, not {top}")
    law = start_law(chain, start)
    begin = {chain.names[i]: float(law[i]) for i in law.nonzero()[0]}
    stated = read_changes(chain, changes)
    other = changed(chain, stated)
    found, unsolved = [], ""
    sides: list[Values] = []
    for side in (chain, other):
        shares: Values = {("share", change.name): (_share(side, change), 0.0) for change in stated}
        sides.append(shares | _answers(side, begin))
    try:
        if len(chain.names) > LOOPS:
            raise AnalysisError(f"the chain has more than {counted(LOOPS, 'node')}")
        for values, side in zip(sides, (chain, other), strict=True):
            values.update(_loops(side, begin))
    except AnalysisError as error:
        unsolved = str(error)
        sides = [{key: known for key, known in values.items() if key[0] not in ("loop", "rounds")} for values in sides]
    left_out = 0
    for kind, group in _groups(*sides):
        kept = group
        if kind not in ("share", "events"):
            kept = [d for d in group if kind == "outcome" or _size(d) > SAME * min(d.before, d.after)]
            kept = sorted(kept, key=lambda d: (-_size(d), d.name))[:top]
        left_out += len(group) - len(kept)
        found += kept
    return WhatIf(tuple(found), left_out, unsolved, chain.fans_out)


def _share(chain: Chain, change: Change) -> float:
    i = chain.index[change.source]
    row = chain.P[[i]].toarray()[0]
    return float(sum(chain.stop[i] if t == END else row[chain.index[t]] for t in change.targets))


def _answers(chain: Chain, start: dict[str, float]) -> Values:
    """Return outcomes, events and visits."""
    ends = absorption(chain, start, intervals=None)
    values: Values = {("outcome", o.outcome): (o.probability, o.error_bound) for o in ends.outcomes}
    values["events", "mean"] = ends.events, ends.events_bound
    values["events", "standard deviation"] = ends.events_sd, ends.events_sd_bound
    visited, _ = Solver(chain.P, chain.stop).visits(start_law(chain, start))
    for name, times, off in zip(chain.names, visited.values.tolist(), visited.bound.tolist(), strict=True):
        values["visits", name] = times, off
    return values


def _loops(chain: Chain, start: dict[str, float]) -> Values:
    values: Values = {}
    for loop in loops(chain, start, intervals=None).loops:
        name = loop.name if loop.kind == "self" else "{" + ", ".join(sorted(loop.nodes)) + "}"
        values["loop", name] = loop.entered, None
        if loop.again:
            values["rounds", name] = loop.rounds, None
    return values


def _groups(before: Values, after: Values) -> Iterator[tuple[Kind, list[Difference]]]:
    groups: dict[Kind, list[Difference]] = {}
    for kind, name in {**before, **after}:
        # What is not there is a chance or a number of 0, and that exactly.
        old, off = before.get((kind, name), (0.0, 0.0))
        new, doubt = after.get((kind, name), (0.0, 0.0))
        groups.setdefault(kind, []).append(_difference(kind, name, old, new, off, doubt))
    yield from groups.items()


def _difference(
    kind: Kind, name: str, before: float, after: float, off: float | None, doubt: float | None
) -> Difference:
    both = isinf(before) and isinf(after)
    difference = None if both else after - before
    ratio = None if both or not before or isinf(before) else after / before
    bound = None
    if difference is not None and off is not None and doubt is not None:
        bound = 0.0 if isinf(difference) else 1.01 * (off + doubt + UNIT * abs(difference))
    return Difference(kind, name, before, after, difference, ratio, bound)


def _size(d: Difference) -> float:
    return 0.0 if d.difference is None else abs(d.difference)
