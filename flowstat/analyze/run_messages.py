"""How many events a run has, in all and at each node, and how much that varies."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, NamedTuple

import numpy as np

from flowstat.analyze.aim import weighted
from flowstat.analyze.bounded import exact, root
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.generations import offspring_variance, variance_from
from flowstat.analyze.offspring import Offspring
from flowstat.analyze.progeny import Means
from flowstat.analyze.radius import Radius
from flowstat.analyze.search import Mask, Vector, backwards, reachable
from flowstat.analyze.solve import Solved, total
from flowstat.analyze.state_rows import StateRows
from flowstat.errors import AnalysisError
from flowstat.results import Result, Row

__all__ = ["NodeMessages", "RunMessages", "Totals", "run_messages"]

WHOLE = 400
"""Up to how many nodes the variance of each node's number of events is computed: it takes a solve a node."""


class NodeMessages(NamedTuple):
    """The events of a run at one node, and runs that start there.

    `events` and `variance` are those of the number of events at the node in a run; `onward` is the expected number of
    events of a run that starts at the node, itself included, and `dies_out` the chance that it ends. `inf` where a
    class is come to that does not dampen; None where that can't be told, and for the variance in larger graphs.
    """

    node: str
    events: float | None
    variance: float | None
    onward: float | None
    dies_out: float | None
    events_bound: float = 0.0
    variance_bound: float = 0.0
    onward_bound: float = 0.0
    dies_out_bound: float = 0.0


@dataclass(frozen=True)
class RunMessages(Result):
    """Events of a run, node by node."""

    title: ClassVar[str] = "Messages: events of a run, by node"
    columns: ClassVar[tuple[str, ...]] = NodeMessages._fields
    beside: ClassVar[tuple[str, ...]] = NodeMessages._fields[5:]
    states: StateRows[NodeMessages]

    @property
    def error_bound(self) -> float:
        """How far any of the expected numbers of events may be off, proven."""
        return self.states.largest(4)

    def rows(self) -> list[Row]:
        """Return one row a node."""
        return [s._asdict() for s in self.states]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns are."""
        return ("events: at the node, in a run; onward and dies out: of a run that starts at the node, in all nodes.",)


class Totals(NamedTuple):
    """Mean and standard deviation of the number of events of a run, None where they can't be told, and their bounds."""

    events: float | None
    deviation: float | None
    events_bound: float = 0.0
    deviation_bound: float = 0.0
    reason: str = ""


def _not_dampened(law: Offspring, found: list[Radius]) -> tuple[Mask, Mask]:
    n = len(law.stop)
    endless, vague = np.zeros(n, bool), np.zeros(n, bool)
    for r in found:
        if r.verdict in ("critical", "multiplies"):
            endless[r.states] = True
        elif r.verdict == "can't tell":
            vague[r.states] = True
    return endless, vague


def run_messages(
    law: Offspring, begin: Vector, found: list[Radius], alive: Solved, doubtful: Mask
) -> tuple[RunMessages, Totals]:
    """Return the events of a run by node, and in all.

    Parameters
    ----------
    law, begin : Offspring, (n,)
        The offspring law, and where runs start.
    found
        The roots of its classes.
    alive, doubtful : (n,)
        The chance never to die out from each node, and where that can't be told.
    """
    n = len(begin)
    live = reachable(law.mean, begin > 0)
    endless, vague = _not_dampened(law, found)
    # From where such a class is come to, and what a run comes to after one.
    leads, doubts = (backwards(law.mean, each).inside if each.any() else each for each in (endless, vague))
    after, unsure = (reachable(law.mean, each & live) if each.any() else each for each in (endless, vague))
    zero = Solved(np.zeros(n), np.zeros(n))
    finite, counted = ~leads & ~doubts, live & ~after & ~unsure
    m = events = variance = zero
    deviation, unit, reason = exact(0.0), 1.0, ""
    try:
        means = Means(law, finite) if finite.any() else None
        if means is not None:
            m = _spread(finite, means.backward(np.ones(int(finite.sum()))))
            # In units of the largest no square overflows.
            unit = max(1.0, float(m.values.max()))
            scaled = Solved(m.values / unit, m.bound / unit)
            sigma = offspring_variance(law, scaled)
            spread = means.backward(sigma.values[finite], sigma.bound[finite])
            deviation = root(variance_from(begin, scaled, _spread(finite, spread)))
        if finite.all():
            counted = finite
        if counted.any():
            forth = means if means is not None and finite.all() else Means(law, counted)
            events = _spread(counted, forth.visits(begin[counted]))
            if n <= WHOLE:
                variance = _variances(law, begin, counted, forth)
    except AnalysisError as error:
        # The roots are known all the same.
        reason, doubts, unsure = str(error), ~leads, ~after
        m = events = variance = zero
    told, spreads, onward, dies = (
        each.astype(object) for each in (events.values, variance.values, m.values, np.clip(1 - alive.values, 0, 1))
    )
    told[unsure], told[after] = None, inf
    spreads[unsure], spreads[after] = None, inf
    if n > WHOLE:
        spreads[:] = None
    onward[doubts], onward[leads] = None, inf
    dies[doubtful] = None
    rounded = np.where(doubtful | (alive.values == 0), 0.0, np.minimum(1.0, alive.bound + UNIT))
    columns = (told, spreads, onward, dies, events.bound, variance.bound, m.bound, rounded)
    messages = RunMessages(StateRows(NodeMessages, law.chain.names, *columns))
    if (leads & (begin > 0)).any():
        return messages, Totals(inf, inf)
    if (doubts & (begin > 0)).any():
        return messages, Totals(None, None, reason=reason)
    mean, (value, off) = total(events), weighted(begin, m)
    if off < mean.bound:
        mean = Solved(np.array(value), np.array(off))
    apart, off = unit * float(deviation.values), 1.01 * unit * float(deviation.bound)
    return messages, Totals(float(mean.values), apart, float(mean.bound), off)


def _spread(mask: Mask, of: Solved) -> Solved:
    """Return the answer of some nodes as one of all."""
    shape = (len(mask), *of.values.shape[1:])
    values, bound = np.zeros(shape), np.zeros(shape)
    values[mask], bound[mask] = of.values, of.bound
    return Solved(values, bound)


def _variances(law: Offspring, begin: Vector, some: Mask, means: Means) -> Solved:
    """Return the variance of the number of events at each node of a run."""
    k = int(some.sum())
    each = _spread(some, means.backward(np.eye(k)))
    unit = max(1.0, float(each.values.max()))
    scaled = Solved(each.values / unit, each.bound / unit)
    sigma = offspring_variance(law, scaled)
    within = _spread(some, means.backward(sigma.values[some], sigma.bound[some]))
    found = _spread(some, variance_from(begin, scaled, within))
    with np.errstate(over="ignore"):
        values, bound = found.values * unit * unit, 1.01 * found.bound * unit * unit
    return Solved(values, np.where(np.isfinite(values) & np.isfinite(bound), bound, 0.0))
