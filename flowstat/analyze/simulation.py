"""Runs of a chain played by chance, millions of events a second: a check on every exact answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar, Literal

import numpy as np
from scipy.sparse import csgraph

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.alias import Alias, alias
from flowstat.analyze.derived import whole
from flowstat.analyze.solve import Index, Vector
from flowstat.analyze.walking import Tally, play
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, counted, number

__all__ = ["SimulatedOutcome", "Simulation", "simulate"]

RECORDED = 20_000_000
"""How many events of recorded paths are kept at most."""

UNFINISHED = "(unfinished)"


@dataclass(frozen=True)
class SimulatedOutcome:
    """One way for runs to end, and how many did; `unfinished` were cut off."""

    outcome: str
    kind: Literal["stop", "trap", "unfinished"]
    runs: int
    probability: float
    standard_error: float
    """Of the probability: a sample's, and no bound."""


@dataclass(frozen=True, eq=False)
class Simulation(Result):
    """How simulated runs ended, the most frequent way first.

    Attributes
    ----------
    runs
        How many were played.
    total
        Their events in all.
    events, events_standard_error
        Mean number of events of the runs that stopped; None if none did.
    names, visits : (n,)
        The nodes, and the events at each, of all runs.
    lengths
        `lengths[k]` is how many runs stopped after k events.
    paths
        The nodes of the first runs, as many as were asked for, less `paths_left_out`.
    paths_left_out
        Of how many runs they are not kept, having too many events.
    """

    title: ClassVar[str] = "Simulated outcomes"
    columns: ClassVar[tuple[str, ...]] = ("outcome", "kind", "runs", "probability", "standard_error")
    outcomes: tuple[SimulatedOutcome, ...]
    runs: int
    total: int
    seed: int
    events: float | None
    events_standard_error: float | None
    names: tuple[str, ...] = field(repr=False)
    visits: Index = field(repr=False)
    lengths: Index = field(repr=False)
    paths: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    fans_out: bool = False
    paths_left_out: int = 0

    def rows(self) -> list[Row]:
        """Return one row an outcome."""
        return [{column: getattr(o, column) for column in self.columns} for o in self.outcomes]

    def quantile(self, level: float) -> int:
        """Return the least number of events that a share of at least `level` of the runs that stopped do not exceed.

        Raises
        ------
        AnalysisError
            If the level is not in [0, 1], or no run stopped.
        """
        if not 0 <= level <= 1:
            raise AnalysisError(f"a quantile's level is between 0 and 1, not {level}")
        stopped = int(self.lengths.sum())
        if not stopped:
            raise AnalysisError("no run stopped: there are no lengths")
        return int(np.searchsorted(np.cumsum(self.lengths), max(1, np.ceil(level * stopped))))

    def notes(self) -> tuple[str, ...]:
        """Say how much was simulated, and what was cut off."""
        notes = [f"{counted(self.runs, 'run')} of {counted(self.total, 'event')} in all, seed {self.seed}."]
        if self.events is not None:
            error = number(self.events_standard_error or 0.0)
            notes.append(f"Runs that stopped had {number(self.events)} events on average (standard error {error}).")
        if any(o.kind == "trap" for o in self.outcomes):
            notes.append("Runs in a trap never end: they are in no mean.")
        if any(o.kind == "unfinished" for o in self.outcomes):
            notes.append("Some runs were cut off: every probability may be higher by as much as theirs, and means too.")
        if self.paths_left_out:
            kept = f"{len(self.paths):,} of the {len(self.paths) + self.paths_left_out:,}"
            notes.append(f"The paths of {kept} runs are kept: no more than {RECORDED:,} events are.")
        return (*notes, LINEAGES) if self.fans_out else tuple(notes)


def simulate(
    chain: Chain,
    runs: int = 100_000,
    seed: int = 0,
    *,
    start: Start = None,
    paths: int = 0,
    into_traps: bool = False,
    max_length: int = 100_000,
    max_events: int = 1_000_000_000,
) -> Simulation:
    """Play runs of a chain.

    Parameters
    ----------
    chain
        A chain.
    runs
        How many; at least 1.
    seed
        The same seed gives the same runs; at least 0.
    start
        A node or a law over nodes; the chain's start law if not given.
    paths
        Of how many runs to keep the nodes: of the first ones. If these have more than 20 million events, those of fewer
        are kept; all are played to their end, and counted, whatever is kept. They are played all at once, in some
        hundred bytes each.
    into_traps
        Whether runs go on in traps, until they are cut off; else they are over with the first event in one.
    max_length
        A run is cut off after so many events.
    max_events
        After so many events in all (or a few thousand more) the runs that have not ended are cut off, and no others
        begun. Runs that are cut off count as `unfinished`: they tend to be the long ones.

    Raises
    ------
    AnalysisError
        If a number is none that is whole and in its range.
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    Runs are played side by side, each step for all of them at once, by Walker's alias method
    (`flowstat.analyze.alias`): linear in events, some ten nanoseconds each where the chain fits the processor's cache,
    and in a memory of some hundred bytes an arrow. Chances are right to 1e-16 times the number of arrows of a node,
    absolutely: rarer ways are drawn as rarely as that, or never.

    A probability p of c among n runs has the standard error `sqrt(q (1 - q) / n)` with q = (c + 1/2) / (n + 1), which
    is never 0.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0], [0, 0]], ["try", "idle"], "try", stop=[0.5, 1])
    >>> found = simulate(retry, 10_000, seed=1)
    >>> abs(found.events - 2) < 4 * found.events_standard_error
    True
    """
    runs, seed, paths = whole("runs", runs, 1), whole("seed", seed, 0), whole("paths", paths, 0)
    max_length, max_events = whole("max_length", max_length, 1), whole("max_events", max_events, 1)
    law = start_law(chain, start)
    trap = _traps(chain)
    table, starts = _table(chain, trap >= 0, into_traps), _starts(law)
    random = np.random.default_rng(seed)
    tally = Tally.empty(len(chain.names))
    recorded = min(paths, runs)
    if recorded:
        tally.add(play(table, starts, recorded, random, longest=max_length, most=max_events, record=RECORDED))
    left = max_events - int(tally.visits.sum())
    if runs > recorded and left > 0:
        tally.add(play(table, starts, runs - recorded, random, longest=max_length, most=left))
    mean, error = _mean(tally.lengths)
    return Simulation(
        _outcomes(chain, trap, tally),
        tally.begun,
        int(tally.visits.sum()),
        seed,
        mean,
        error,
        chain.names,
        tally.visits,
        tally.lengths,
        tuple(tuple(chain.names[i] for i in path.tolist()) for path in tally.paths),
        chain.fans_out,
        recorded - len(tally.paths),
    )


def _traps(chain: Chain) -> Index:
    """Return the number of each state's trap, -1 for states in none."""
    number, label = csgraph.connected_components(chain.P, directed=True, connection="strong")
    rows, columns, _ = chain.arrows()
    left = np.zeros(number, bool)
    left[label[rows[label[rows] != label[columns]]]] = True
    left[label[chain.stop > 0]] = True
    return np.where(left[label], -1, label).astype(np.int64)


def _table(chain: Chain, trapped: np.ndarray[tuple[int], np.dtype[np.bool_]], into_traps: bool) -> Alias:
    """Return where each node leads: to n where a run stops, to n + 1 where it is trapped and goes no further."""
    n = len(chain.names)
    rows, columns, values = chain.arrows()
    if not into_traps:
        open_ = ~trapped[rows]
        rows, columns, values = rows[open_], columns[open_], values[open_]
    stops = np.flatnonzero(chain.stop > 0)
    ends = np.flatnonzero(trapped) if not into_traps else np.zeros(0, np.int64)
    rows = np.concatenate([rows, stops, ends])
    columns = np.concatenate([columns, np.full(len(stops), n), np.full(len(ends), n + 1)])
    values = np.concatenate([values, chain.stop[stops], np.ones(len(ends))])
    by = np.argsort(rows, kind="stable")
    return alias(rows[by], columns[by], values[by], n)


def _starts(law: Vector) -> Alias:
    begin = np.flatnonzero(law > 0)
    return alias(np.zeros(len(begin), np.int64), begin, law[begin], 1)


def _outcomes(chain: Chain, trap: Index, tally: Tally) -> tuple[SimulatedOutcome, ...]:
    runs = tally.begun
    found: list[tuple[str, Literal["stop", "trap", "unfinished"], int]] = []
    for i in np.flatnonzero((tally.ended > 0) & (trap < 0)).tolist():
        found.append((chain.names[i], "stop", int(tally.ended[i])))
    inside = np.flatnonzero(trap >= 0)
    _, first, which = np.unique(trap[inside], return_index=True, return_inverse=True)
    caught = np.bincount(which, weights=(tally.ended + tally.cut)[inside], minlength=len(first)).astype(np.int64)
    members = np.split(inside[np.argsort(which, kind="stable")], np.cumsum(np.bincount(which))[:-1])
    for states, number_ in zip(members, caught.tolist(), strict=False):
        if number_:
            found.append((trap_name(tuple(chain.names[i] for i in states)), "trap", number_))
    found.sort(key=lambda each: (-each[2], each[0]))
    unfinished = int(tally.cut[trap < 0].sum())
    if unfinished:
        found.append((UNFINISHED, "unfinished", unfinished))
    return tuple(SimulatedOutcome(*each, each[2] / runs, _error(each[2], runs)) for each in found)


def _error(count: int, runs: int) -> float:
    near = (count + 0.5) / (runs + 1)
    return sqrt(near * (1 - near) / runs)


def _mean(lengths: Index) -> tuple[float | None, float | None]:
    """Return the mean length and its standard error."""
    n = int(lengths.sum())
    if not n:
        return None, None
    k = np.arange(len(lengths))
    mean = float(k @ lengths) / n
    spread = float(((k - mean) ** 2) @ lengths) / max(n - 1, 1)
    return mean, sqrt(spread / n)
