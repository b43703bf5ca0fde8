"""The law of the time that runs take, by outcome: quantiles, the chance to be done within a time, and all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.brackets import Brackets
from flowstat.analyze.timed import Timed
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain, Start
from flowstat.read.words import shown
from flowstat.results import LINEAGES, Result, Row

__all__ = ["Duration", "Durations", "TimeLaw", "durations", "time_law"]

LEVELS = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Duration:
    """One quantile, or one chance to be done in time.

    `kind` `quantile`: the time within which the share `at` of the runs with this outcome have come to it, in seconds.
    `within`: the chance that a run has this outcome within `at` seconds. The answer lies between `low` and `high`, and
    `value` is their middle.
    """

    outcome: str
    kind: Literal["quantile", "within"]
    at: float
    value: float
    low: float
    high: float

    @property
    def error_bound(self) -> float:
        """How far the value may be off, for the latencies as they are known."""
        return max(self.high - self.value, self.value - self.low)


@dataclass(frozen=True)
class Durations(Result):
    """Quantiles of the time by outcome, and chances to be done in time."""

    title: ClassVar[str] = "Durations: quantiles of the time of a run, in seconds, and chances to be done in time"
    columns: ClassVar[tuple[str, ...]] = ("outcome", "kind", "at", "value", "low", "high")
    durations: tuple[Duration, ...]
    gamma: bool = False
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the values may be off."""
        return max((d.error_bound for d in self.durations), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a number."""
        return [{column: getattr(d, column) for column in self.columns} for d in self.durations]

    def notes(self) -> tuple[str, ...]:
        """Say what the numbers are, and what stands behind them."""
        said = ["quantile: seconds within which the share `at` of the runs with that outcome have come to it."]
        if any(d.kind == "within" for d in self.durations):
            said.append("within: chance that a run has come to that outcome after `at` seconds.")
        if self.gamma:
            said.append(GAMMA)
        return (*said, LINEAGES) if self.fans_out else tuple(said)


GAMMA = "Latencies that are stated by mean and standard deviation are taken to have gamma laws."


@dataclass(frozen=True)
class TimeLaw(Result):
    """The chance that a run has come to an outcome within some times, in seconds: between `low` and `high`."""

    title: ClassVar[str] = "The law of the time: chance to be done within so many seconds"
    columns: ClassVar[tuple[str, ...]] = ("time", "probability", "low", "high")
    outcome: str
    times: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    gamma: bool = False
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the chances may be off."""
        return max((b - a) / 2 for a, b in zip(self.low, self.high, strict=True))

    def rows(self) -> list[Row]:
        """Return one row a time."""
        lines = zip(self.times, self.low, self.high, strict=True)
        return [{"time": t, "probability": (a + b) / 2, "low": a, "high": b} for t, a, b in lines]

    def notes(self) -> tuple[str, ...]:
        """Say what stands behind the numbers."""
        said = (GAMMA,) if self.gamma else ()
        return (*said, LINEAGES) if self.fans_out else said


def durations(
    chain: Chain,
    start: Start = None,
    *,
    latencies: Latencies | None = None,
    quantiles: Sequence[float] = LEVELS,
    within: Sequence[float] = (),
    top: int = 3,
    cells: int | None = None,
) -> Durations:
    """Find quantiles of the time that runs take, and chances to be done in time.

    Parameters
    ----------
    chain, start, latencies
        As for `flowstat.analyze.timing.timing`.
    quantiles
        Shares of runs, in (0, 1).
    within
        Times in seconds, above 0.
    top
        How many outcomes are listed beside all ends together, at least 0.
    cells
        How many cells the grid has, a power of two; by default what takes a few seconds.

    Returns
    -------
    Durations
        Each number between proven bounds, for the latencies as they are known: a sketch of recorded ones knows each
        within 2 %.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        As for `timing`; if a share or a time is out of range; if the chain is too large for a grid.

    Notes
    -----
    With every latency rounded down to a grid the time is never longer than the true one, rounded up never shorter: so
    the two laws bracket the true one. `flowstat.analyze.lattice` computes each, to about 1e-6 of its outcome's chance,
    for which a simulation would need 1e12 runs; the two are apart by a cell for each event, so long runs need many
    cells. Cost: M (sum of m^3 over classes of m states, and arrows) for M cells; loops of some hundred nodes are the
    most.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0.5], [0, 0]], ["try", "done"], "try", stop=[0, 1])
    >>> known = {("try", "try"): (2.0, 0.0), ("try", "done"): (1.0, 0.0)}
    >>> found = durations(retry, latencies=known, quantiles=(0.4, 0.9, 0.99), top=0)
    >>> [round(d.value, 1) for d in found.durations]
    [1.0, 7.0, 13.0]
    """
    quantiles, within = _numbers(quantiles), _numbers(within)
    for share in quantiles:
        if not 0 < share < 1:
            raise AnalysisError(f"a quantile is asked for a share between 0 and 1, not {share}")
    for time in within:
        if not (isfinite(time) and time > 0):
            raise AnalysisError(f"a run is done within a time above 0, in seconds, not {time}")
    timed = Timed(chain, start, latencies, top)
    laws = Brackets(timed, timed.ways, cells)
    found = []
    for k, way in enumerate(timed.ways):
        until = laws.horizon(k, max(quantiles)) if quantiles else 0.0
        for share in quantiles:
            low, high = laws.quantile(k, share, until)
            value = (low + high) / 2 if isfinite(high) else low
            found.append(Duration(way.outcome, "quantile", share, value, low, high))
        for time in within:
            (low,), (high,) = laws.within(k, time, 1)
            found.append(Duration(way.outcome, "within", time, (low + high) / 2, low, high))
    return Durations(tuple(found), timed.times.stated, chain.fans_out)


def _numbers(values: Sequence[float]) -> list[float]:
    """Return numbers in order."""
    try:
        return sorted(float(value) for value in values)
    except (TypeError, ValueError):
        raise AnalysisError(f"shares and times are lists of numbers, not {shown(repr(values))}") from None


def time_law(
    chain: Chain,
    outcome: str | None = None,
    start: Start = None,
    *,
    latencies: Latencies | None = None,
    until: float | None = None,
    points: int = 100,
    cells: int | None = None,
) -> TimeLaw:
    """Find the whole law of the time that runs take to an outcome; to any end if none is named.

    Parameters
    ----------
    chain, start, latencies, cells
        As for `durations`.
    outcome
        The name of an outcome, as `timing` lists it.
    until
        The largest time, in seconds; by default such that 99.9 % of the runs with the outcome have come to it.
    points
        At how many times the law is given, at least 1.

    Returns
    -------
    TimeLaw
        Chances of all runs; see `durations` for their bounds, the cost, and the errors.

    Examples
    --------
    >>> once = Chain.from_matrix([[0, 1], [0, 0]], ["ask", "done"], "ask", stop=[0, 1])
    >>> law = time_law(once, latencies={("ask", "done"): (1.0, 0.5)}, until=2.0, points=2)
    >>> [round(p, 2) for p in law.low], law.error_bound < 0.001
    ([0.57, 0.96], True)
    """
    if points < 1 or not (until is None or (isfinite(until) and until > 0)):
        raise AnalysisError("a law has at least one point, and a largest time above 0")
    timed = Timed(chain, start, latencies, len(chain.names))
    wanted = END if outcome is None else outcome
    ways = [way for way in timed.ways if way.outcome == wanted]
    if not ways:
        known = ", ".join(shown(way.outcome) for way in timed.ways[:8])
        raise AnalysisError(f"no run has the outcome {shown(wanted)}: there are {known}, as timing lists them")
    laws = Brackets(timed, ways, cells)
    last = float(until) if until is not None else laws.horizon(0, 0.999)
    low, high = laws.within(0, last, points)
    at = tuple(last * (k + 1) / points for k in range(points))
    return TimeLaw(wanted, at, tuple(low), tuple(high), timed.times.stated, chain.fans_out)
