"""Where runs end, and after how many events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import inf, isinf, sqrt
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.bounded import exact, minus, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.gradients import collected
from flowstat.analyze.interval import Asked
from flowstat.analyze.intervals import Intervals, WithIntervals, how_many, intervals_of
from flowstat.analyze.solve import Index, Solved, Solver, Vector, total
from flowstat.analyze.state_rows import StateRows
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Row, number

__all__ = ["Absorption", "Outcome", "absorption", "trap_name"]


@dataclass(frozen=True)
class Outcome:
    """One way for a run to end: stopping at a node, or being trapped in a closed class for ever."""

    outcome: str
    kind: Literal["stop", "trap"]
    probability: float
    nodes: tuple[str, ...]
    error_bound: float = 0.0
    """How far the probability may be off."""


@dataclass(frozen=True)
class Absorption(WithIntervals):
    """The outcomes of a run, most probable first, and how many events a run has.

    `events` and `events_sd` are mean and standard deviation of the number of events of one lineage;
    infinite if a trap is reached. `sure` has `events:` and `probability:OUTCOME` of the most probable ones.
    """

    title: ClassVar[str] = "Outcomes: where a run ends"
    columns: ClassVar[tuple[str, ...]] = ("outcome", "kind", "probability", "low", "high", "error_bound")
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    outcomes: Sequence[Outcome]
    events: float
    events_sd: float
    fans_out: bool = False
    events_bound: float = 0.0
    events_sd_bound: float = 0.0

    @property
    def error_bound(self) -> float:
        """How far any of the probabilities may be off, proven: see `flowstat.analyze.solve`."""
        return max((o.error_bound for o in self.outcomes), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row an outcome."""
        rows = []
        for o in self.outcomes:
            low, high = self.between("probability", o.outcome)
            rows.append(
                {
                    "outcome": o.outcome,
                    "kind": o.kind,
                    "probability": o.probability,
                    "low": low,
                    "high": high,
                    "error_bound": o.error_bound,
                }
            )
        return rows

    def notes(self) -> tuple[str, ...]:
        """Say how long a run is."""
        if isinf(self.events):
            trapped = sum(o.probability for o in self.outcomes if o.kind == "trap")
            said = (
                f"A lineage never ends with probability {number(trapped)}: its expected number of events is infinite."
            )
        else:
            said = (
                f"A lineage has {number(self.events)} events on average{self.told('events', '')}; standard deviation "
                f"{number(self.events_sd)}."
            )
        return (said, *self.said(), *([LINEAGES] if self.fans_out else []))


def trap_name(nodes: tuple[str, ...]) -> str:
    """Return what a closed class is called: its node, or its nodes in braces."""
    return nodes[0] if len(nodes) == 1 else "{" + ", ".join(nodes) + "}"


def absorption(chain: Chain, start: Start = None, *, intervals: Intervals = "delta", level: float = 0.95) -> Absorption:
    """Find where runs end.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given. One that is given is certain.
    intervals
        How intervals are found, where traces stand behind the chain: `delta`, `sample`, a `Sampling`, or None.
    level
        Probability that each holds its number, in (0, 1).

    Returns
    -------
    Absorption
        Probabilities sum to 1 over `stop` and `trap` outcomes. Impossible outcomes are left out.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a class is too large and too close to closed to be solved.

    Notes
    -----
    With Q on transient states and N = (I - Q)^-1: outcome chances are `alpha N diag(stop)` and the inflow
    of closed classes (Kemeny and Snell, Finite Markov Chains (1960), theorems 3.3.5 and 3.3.7). The number of events
    T has the mean `m = N 1` from each node; its variance adds up what each step changes in the expectation,
    `sum v_i p_ij (1 + m_j - m_i)^2` with m = 0 at the end, and `sum alpha_i (m_i - E T)^2` (orthogonal increments
    of the martingale `t + m(X_t)`; Norris, Markov Chains (1997), section 4.1). Cost: see `solve`.

    Examples
    --------
    >>> ruin = Chain.from_matrix([[0, .5, 0], [.5, 0, .5], [0, .5, 0]], ["1", "2", "3"], "1", stop=[.5, 0, .5])
    >>> [(o.outcome, round(o.probability, 12)) for o in absorption(ruin).outcomes]
    [('1', 0.75), ('3', 0.25)]
    """
    found = _found(chain, start_law(chain, start))

    def asked() -> dict[str, Asked]:
        some = found.outcomes[: how_many(chain)]
        gains, ends = (np.zeros((len(chain.names), len(some) + 1)) for _ in range(2))
        gains[:, 0] = 1.0
        for k, outcome in enumerate(some):
            ends[[chain.index[name] for name in outcome.nodes], k + 1] = 1.0
        events, *chances = collected(chain, start, gains, ends)
        parts = {"events:": Asked(found.events, events, lambda other: again(other)["events:"])}
        for outcome, chance in zip(some, chances, strict=True):
            one = partial(_chance, again, f"probability:{outcome.outcome}")
            parts[f"probability:{outcome.outcome}"] = Asked(outcome.probability, chance, one, most=1.0)
        return parts

    def again(other: Chain) -> dict[str, float]:
        of = _found(other, other.start if start is None else start_law(chain, start))
        return {"events:": of.events} | {f"probability:{o.outcome}": o.probability for o in of.outcomes}

    return replace(found, sure=intervals_of(chain, intervals, level, asked, again), level=level)


def _chance(again: Callable[[Chain], dict[str, float]], key: str, other: Chain) -> float:
    """Return one number of another chain."""
    return again(other).get(key, 0.0)


def _found(chain: Chain, law: Vector) -> Absorption:
    """Return the outcomes without intervals."""
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(law)
    v, inflow = visited.values, entered.values
    stopping = np.flatnonzero((chain.stop > 0) & (v > 0))
    chances = v[stopping] * chain.stop[stopping]
    bounds = visited.bound[stopping] * chain.stop[stopping] + 2 * UNIT * chances
    # A chance below all numbers is one, too: visits are infinite.
    traps = [states for states in solver.closed if np.isinf(v[states]).any()]
    caught = [total(Solved(inflow[states], entered.bound[states])) for states in traps]
    outcomes = _sorted(
        chain,
        stopping,
        traps,
        np.minimum(1.0, np.concatenate([chances, [float(each.values) for each in caught]])),
        np.concatenate([bounds, [float(each.bound) for each in caught]]),
    )
    if traps:
        return Absorption(outcomes, inf, inf, chain.fans_out)
    mean = total(visited)
    left = solver.backward(np.ones(solver.n))
    deviation, off = _deviation(chain, law, visited, left, mean)
    return Absorption(outcomes, float(mean.values), deviation, chain.fans_out, float(mean.bound), off)


def _deviation(chain: Chain, law: Vector, visited: Solved, left: Solved, mean: Solved) -> tuple[float, float]:
    """Return the standard deviation of the number of events, and its bound."""
    rows, columns, values = chain.arrows()
    # Nodes that no run comes to may lead to traps, from where nothing is expected.
    m, wrong = (np.where(visited.values > 0, x, 0.0) for x in (left.values, left.bound))
    # In units of the longest expectation no square overflows.
    unit = max(1.0, float(m.max()))
    weights = np.concatenate([visited.values[rows] * values, visited.values * chain.stop, law])
    doubt = np.concatenate([visited.bound[rows] * values, visited.bound * chain.stop, np.zeros(len(law))])
    changes = np.concatenate([1 + (m[columns] - m[rows]), 1 - m, m - mean.values]) / unit
    sizes = np.concatenate([1 + m[columns] + m[rows], 1 + m, m + mean.values])
    off = (np.concatenate([wrong[columns] + wrong[rows], wrong, wrong + mean.bound]) + 3 * UNIT * sizes) / unit
    spread = weights @ changes**2
    loops = np.concatenate([rows == columns, np.zeros(2 * len(law), bool)])
    off = np.where(loops, 0.0, off)  # to stay changes the expectation by 1, exactly
    bound = doubt @ changes**2 + (weights + doubt) @ (2 * np.abs(changes) * off + off**2)
    # ... and its chance is known as well as the row sums to 1.
    sums = np.bincount(rows, values, len(law)) + chain.stop
    slack = np.abs(sums - 1) + (np.bincount(rows, minlength=len(law)) + 3) * UNIT
    bound += (visited.values + visited.bound) @ slack / unit / unit
    bound += (len(weights) + 8) * UNIT * spread
    found = Solved(np.asarray(spread), np.asarray(1.01 * bound))
    # The second moment less the square of the mean is better where the deviation is not small beside the mean.
    each = minus(Solved(2 * m / unit, 2 * wrong / unit), exact(np.full(len(m), 1 / unit)))
    passed = Solved(visited.values / unit, visited.bound / unit)
    average = Solved(mean.values / unit, mean.bound / unit)
    other = minus(total(times(passed, each)), times(average, average))
    if other.bound < found.bound and other.values > 0:
        found = other
    deviation, doubted = sqrt(float(found.values)), float(found.bound)
    # |sqrt a - sqrt b| is no more than the root of |a - b|, nor than |a - b| / sqrt a.
    apart = min(sqrt(doubted), doubted / deviation) if deviation else sqrt(doubted)
    return unit * deviation, 1.01 * unit * (apart + 2 * UNIT * deviation)


def _sorted(chain: Chain, stopping: Index, traps: list[Index], chances: Vector, bounds: Vector) -> StateRows[Outcome]:
    """Return outcomes, the most probable first and of equal ones by name: rows only when they are looked at."""
    nodes = [(chain.names[i],) for i in stopping.tolist()]
    nodes += [tuple(chain.names[i] for i in states) for states in traps]
    order = np.argsort(-chances, kind="stable")
    # Equal chances lie next to each other.
    ends = [0, *(np.flatnonzero(np.diff(chances[order])) + 1).tolist(), len(order)]
    places = order.tolist()
    for begin, end in pairwise(ends):
        if end - begin > 1:
            places[begin:end] = sorted(places[begin:end], key=nodes.__getitem__)
    trapped = np.array(places) >= len(stopping)
    named = tuple(nodes[k] for k in places)

    def row(members: tuple[str, ...], trap: bool, chance: float, bound: float) -> Outcome:
        return Outcome(trap_name(members), "trap" if trap else "stop", chance, members, bound)

    return StateRows(row, named, trapped, chances[places], bounds[places])
