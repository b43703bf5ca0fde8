"""The answers that two sides are compared by, their differences, and what each node moves of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isinf, sqrt
from typing import Any

import numpy as np
from scipy import special

from flowstat.analyze.absorption import Absorption, absorption, trap_name
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, total
from flowstat.errors import AnalysisError
from flowstat.explain.diff_flows import flows_of
from flowstat.explain.diff_laws import adjusted
from flowstat.explain.diff_loops import loops_of
from flowstat.explain.diff_results import AnswerChange, AnswerChanges
from flowstat.explain.diff_sides import CHANCES, START, AnswerKind, Known, Side, Worth, apart, limits, moved
from flowstat.results import counted

__all__ = ["Moved", "answers_of"]

OUTCOMES = 60
"""How many outcomes are compared: the most probable ones of either side."""

Outcome = tuple[str, tuple[str, ...]]
"""How runs end, and where."""

Effect = dict[str, Any]
"""The answer that a node's change moves most, by how much, and the bound of that, as `NodeChange` calls them."""


@dataclass(frozen=True)
class _Two:
    kind: AnswerKind
    name: str
    old: Known
    new: Known


@dataclass(frozen=True)
class Moved:
    """What each node moves most, why that is not known, and all answers before and after."""

    effects: dict[str, Effect]
    unmoved: str
    answers: AnswerChanges


def answers_of(sides: tuple[Side, Side], rate: float, level: float, top: int, *, any_found: bool) -> Moved:
    """Compare outcomes, events, loops and flows; none is found unless some node is (`any_found`)."""
    names, ends, left_out = _outcomes(sides)
    finite = not (isinf(ends[0].events) or isinf(ends[1].events))
    scale = max(ends[0].events, 1.0)
    most = _Most(sides)
    found: list[_Two] = []
    asked: list[Outcome | None] = [*names, *([None] if finite else [])]
    worths = [_worths(side, names, events=finite) for side in (*sides, sides[0].wide, sides[1].wide)]
    for outcome, *pair in zip(asked, *worths, strict=True):
        known = [_known(*each, outcome) for each in zip(sides, ends, pair[2:], strict=True)]
        found.append(_Two("outcome" if outcome else "events", trap_name(outcome[1]) if outcome else "mean", *known))
        most.see(f"chance:{found[-1].name}" if outcome else "events", pair[0], pair[1], 1.0 if outcome else scale)
    uncompared = [] if finite else ["events, since some runs never end"]
    if left_out:
        uncompared.append(f"{counted(left_out, 'outcome')} of the least probability")
    for what, make in (("loops", loops_of), ("flows", flows_of)):
        try:
            found += [_Two(*two) for two in make(sides, top)]
        except AnalysisError as error:
            uncompared.append(f"{what}, since {error}")
    changes = _decided(found, rate if any_found else None, level)
    kept = _kept(changes, top)
    fans_out = any(side.chain.fans_out for side in sides)
    listed = AnswerChanges(tuple(kept), level, len(changes) - len(kept), "; ".join(uncompared), fans_out)
    return Moved(most.effects, most.unmoved, listed)


class _Most:
    """What each node moves most, among answers that are seen one after the other."""

    def __init__(self, sides: tuple[Side, Side]) -> None:
        self.sides = sides
        self.effects: dict[str, Effect] = {}
        self.unmoved = ""
        self.best = np.zeros(sides[0].n + 1)
        self.names = (*sides[0].chain.names, START)

    def see(self, answer: str, old: Worth | None, new: Worth | None, scale: float) -> None:
        """Look at one answer; effects on it are compared in units of `scale`."""
        parts = None if old is None or new is None else moved(*self.sides, old, new)
        if parts is None:
            self.unmoved = "runs are trapped at other nodes than before"
            return
        nodes, starts = parts
        begun = total(starts)
        effect = np.append(nodes.values, begun.values)
        off = np.append(nodes.bound, begun.bound)
        size = np.abs(effect) / scale
        # What may be rounding is no effect.
        for i in np.flatnonzero((size > self.best) & (np.abs(effect) > off)).tolist():
            made = {"moves": answer, "effect": float(effect[i]), "effect_bound": float(off[i])}
            self.effects[self.names[i]] = made
        self.best = np.maximum(self.best, size)


def _outcomes(sides: tuple[Side, Side]) -> tuple[list[Outcome], tuple[Absorption, Absorption], int]:
    """Return the outcomes that are compared, most probable first, where runs end, and how many are left out."""
    both = absorption(sides[0].chain), absorption(sides[1].chain)
    most: dict[Outcome, float] = {}
    for result in both:
        for o in result.outcomes:
            most[o.kind, o.nodes] = max(most.get((o.kind, o.nodes), 0.0), o.probability)
    ranked = sorted(most, key=lambda each: (-most[each], each))
    return ranked[:OUTCOMES], both, max(0, len(ranked) - OUTCOMES)


def _known(side: Side, ends: Absorption, worth: Worth | None, outcome: Outcome | None) -> Known:
    """Return an outcome's chance, or the mean number of events, with its variance."""
    value, off = ends.events, ends.events_bound
    if outcome is not None:
        chance = next((o for o in ends.outcomes if (o.kind, o.nodes) == outcome), None)
        # What is no outcome has a chance of 0, and that exactly.
        value, off = (0.0, 0.0) if chance is None else (chance.probability, chance.error_bound)
    if worth is None:
        return Known(value, off, None)
    gradient = side.wide.slots(side.wide.visits.values, worth.x.values, worth.ends)
    return Known(value, off, float(side.wide.variance(gradient, worth.x.values)))


def _decided(found: Iterable[_Two], rate: float | None, level: float) -> list[AnswerChange]:
    """Return the changes with their tests; none is found at no rate."""
    changes = [_change(two, level) for two in found]
    tested = [k for k, change in enumerate(changes) if change.p_value is not None]
    for k, q in zip(tested, adjusted([changes[k].p_value or 0.0 for k in tested]), strict=True):
        changes[k] = replace(changes[k], q_value=q, found=rate is not None and q <= rate)
    return changes


def _change(two: _Two, level: float) -> AnswerChange:
    old, new = two.old, two.new
    if isinf(old.value) or isinf(new.value):
        difference = None if old.value == new.value else new.value - old.value
        return AnswerChange(two.kind, two.name, False, old.value, new.value, difference)
    difference = new.value - old.value
    bound = 1.01 * (old.bound + new.bound + UNIT * abs(difference))
    if old.variance is None or new.variance is None:
        return AnswerChange(two.kind, two.name, False, old.value, new.value, difference, error_bound=bound)
    chance = two.kind in CHANCES
    low, high = apart(
        old.value,
        limits(old.value, old.variance, level, chance=chance),
        new.value,
        limits(new.value, new.variance, level, chance=chance),
    )
    spread = sqrt(old.variance + new.variance)
    # A difference that may be rounding is none.
    z = max(0.0, abs(difference) - bound) / spread if spread > 0 else 0.0
    p = float(2 * special.ndtr(-z)) if spread > 0 or abs(difference) <= bound else None
    return AnswerChange(two.kind, two.name, False, old.value, new.value, difference, low, high, p, None, bound)


def _kept(changes: list[AnswerChange], top: int) -> list[AnswerChange]:
    kinds = dict.fromkeys(change.kind for change in changes)
    kept = []
    for kind in kinds:
        some = sorted(
            (change for change in changes if change.kind == kind),
            key=lambda c: (not c.found, -abs(c.difference or 0.0), c.name),
        )
        kept += [change for k, change in enumerate(some) if change.found or k < top]
    return kept


def _worths(side: Side, names: list[Outcome], *, events: bool) -> list[Worth | None]:
    """Return what outcomes, by kind and nodes, are worth from each node on; and last, if asked for, events.

    None for traps that are none on this side.
    """
    gains, bounds, ends, inside, none = [], [], [], [], []
    for kind, nodes in names:
        mask = np.zeros(side.n)
        states = [side.chain.index[node] for node in nodes]
        mask[states] = 1.0
        trap = kind == "trap"
        none.append(trap and frozenset(states) not in side.traps)
        gains.append(side.solver.P @ mask if trap else mask * side.chain.stop)
        bounds.append(side.solver.unit * gains[-1] if trap else np.zeros(side.n))
        ends.append(np.zeros(side.n) if trap else mask)
        inside.append(mask if trap else np.zeros(side.n))
    if events:
        gains.append(np.ones(side.n))
        bounds.append(np.zeros(side.n))
        ends.append(np.zeros(side.n))
        inside.append(np.zeros(side.n))
        none.append(False)
    if not gains:
        return []
    x = side.solver.backward(np.stack(gains, axis=1), gain_bound=np.stack(bounds, axis=1))
    found: list[Worth | None] = []
    for k, (end, there) in enumerate(zip(ends, inside, strict=True)):
        if none[k]:
            found.append(None)
            continue
        values = np.where(there > 0, 1.0, x.values[:, k])
        off = np.where(there > 0, 0.0, x.bound[:, k])
        found.append(Worth(Solved(values, off), end))
    return found
