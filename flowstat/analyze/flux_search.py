"""The cycles that runs go round most, by flux, events or time, without listing all.

A level is lowered until there are enough cycles above it: all are found whose bound is above
(`flowstat.analyze.flux_paths`), as soon as enough of them surely count for more, no lower ones are looked for, and of
those found, best bound first, the flux is worked out (`flowstat.analyze.cycle_flux`) until the bound of the next one is
below that of the last one listed. An arrow carries at least the flux of each cycle through it: arrows that carry less
than the level are left out. Sizes are compared as logarithms, so that none is too small.

Where bounds are too wide for that, classes of few states that are joined by arrows that carry enough are searched with
exact chances of paths (`flowstat.analyze.flux_exact`). Else what was found is listed, or, where nothing was, the most
probable cycles; and it is told how many of the first ones are proven, and what others count for at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log

import numpy as np

from flowstat.analyze.cycle_flux import Flux, Fluxes
from flowstat.analyze.cycle_order import TIE, first, in_order
from flowstat.analyze.cycle_search import Lightest, lightest
from flowstat.analyze.cycle_ways import strong
from flowstat.analyze.flux_bounds import MARGIN, Limits
from flowstat.analyze.flux_exact import LARGEST, Exact
from flowstat.analyze.flux_paths import Sought, Ways
from flowstat.analyze.solve import Index, Solved, Vector

__all__ = ["most_travelled"]

WORK = 150_000_000
"""How many arrows are looked at before the search stops, and says so; and `PER_ARROW` for each arrow."""

PER_ARROW = 20

FALL = 1.4
"""By how much the level is lowered when too few cycles are found, as a logarithm; at least."""

FASTER = 1.25
"""By how much at least, as a multiple of how much it was lowered so far."""

TOGETHER = 32
"""Of how many cycles the flux is worked out at a time, at least."""

FAINTEST = 691.0
"""What cycles count for that no run comes to with a chance of at least 5e-324, as -log: at least."""

Entry = tuple[float, tuple[int, ...]]


def most_travelled(
    names: Sequence[str],
    fluxes: Fluxes,
    visited: Solved,
    times: Vector,
    top: int,
    max_length: int | None = None,
    through: int | None = None,
) -> Lightest:
    """Return the cycles with the most flux times length, as measured by `times` of the arrows.

    Those of closed classes come first: runs go round them without end; among them the chance to be trapped and the
    flux per event decide. Cycles that no run comes to are left out. Of a list that is not complete the first `sure` are
    proven to be in their places, and no other cycle counts for more than `e^-level`; those of classes that are not
    closed are left out if those of closed ones are not complete.

    Parameters
    ----------
    names
        The nodes' names.
    fluxes, visited
        Of the chain: how often nodes are visited.
    times : (m,)
        What going along each arrow counts; empty to count cycles, whatever their length.
    top, max_length, through
        As for `flowstat.analyze.cycle_search.lightest`.

    Raises
    ------
    AnalysisError
        If a class is too large and too close to closed to be solved, or a cycle too long for its flux.

    Notes
    -----
    Time: the arrows of all paths whose bound is above what the last cycle listed counts for; at most `WORK`, and so
    many for each arrow. Beside it an inverse of each class of up to 1,500 states, or some hundred arrows for each state
    of a larger one; and the fluxes of about as many cycles as are listed.
    """
    found = Lightest([], False, True)
    for closed in (True, False):
        if len(found.paths) <= top and found.complete:
            more = _Travelled(names, fluxes, visited, times, closed, max_length, through).run(top - len(found.paths))
            paths = found.paths + more.paths
            found = replace(more, paths=paths, sure=len(found.paths) + more.sure, more=found.more or more.more)
    more_there = len(found.paths) > top or not found.complete
    return replace(found, paths=found.paths[:top], more=more_there, sure=min(top, found.sure))


class _Travelled:
    def __init__(
        self,
        names: Sequence[str],
        fluxes: Fluxes,
        visited: Solved,
        times: Vector,
        closed: bool,
        max_length: int | None,
        through: int | None,
    ) -> None:
        self.names, self.fluxes, self.solver = names, fluxes, fluxes.solver
        self.closed, self.through = closed, through
        solver = self.solver
        which = np.array([part.closed for part in solver.classes])
        label = solver.label
        rows, columns = solver.rows, solver.P.indices
        entered = fluxes.entered
        self.inflow = np.bincount(label, entered.values + entered.bound, len(which)).astype(np.float64)
        inside = (label[rows] == label[columns]) & (which[label[rows]] == closed) & (self.inflow[label[rows]] > 0)
        if through is not None:
            inside &= label[rows] == label[through]
        keep: Index = np.flatnonzero(inside)
        self.rows, self.columns, self.shares = rows[keep], columns[keep].astype(np.int64), solver.P.data[keep]
        self.times = times[keep] if len(times) else np.zeros(0)
        self.longest = solver.n if max_length is None else max_length
        self.visited = self._weighed() if closed else visited
        sizes = np.bincount(label, minlength=len(which))[label[self.rows]]
        with np.errstate(divide="ignore"):
            # What a cycle through an arrow can count for at most.
            self.worth = np.log((self.visited.values + self.visited.bound)[self.rows]) + np.log(self.shares)
            if len(times):
                slowest = float(self.times.max(initial=0.0))
                self.worth += np.log(np.minimum(sizes, self.longest) * slowest)
            jumps = np.log(np.minimum(self.shares / solver.moving[self.rows], 1.0))
        self.jumps = np.where(self.rows == self.columns, 0.0, np.maximum(-jumps, 0.0))
        self._limits: Limits | None = None

    def _weighed(self) -> Solved:
        """Return the stationary laws of the classes in question, times the chances to come to them."""
        values, bound = np.zeros(self.solver.n), np.zeros(self.solver.n)
        for c in np.unique(self.solver.label[self.rows]).tolist():
            law, states = self.fluxes.law(c), self.solver.classes[c].states
            values[states], bound[states] = self.inflow[c] * law.values, self.inflow[c] * law.bound
        return Solved(values, bound)

    def run(self, top: int) -> Lightest:
        """Return the cycles in order, one more than wanted if there are more."""
        useful = self.worth[self.worth > -inf]
        if not len(useful):
            return Lightest([], False, True)
        at = min(len(useful), 4 * top + 8)
        base = -float(useful.max())
        level = -float(np.partition(useful, len(useful) - at)[len(useful) - at])
        work, proven, ceiling = WORK + PER_ARROW * len(self.rows), base - MARGIN, inf
        last = Sought(level, top, work)
        while True:
            sought = Sought(level, top, work, ceiling)
            self._above(sought)
            work, ceiling = sought.work, sought.ceiling
            if work < 0:
                return self._otherwise(last if len(last.paths) > top else sought, proven, level, top)
            last, proven = sought, level
            if not sought.cut or ceiling <= level:
                entries, lost = self._measured(sought)
                whole = not lost or len(entries) > top
                return self._listed(entries, top, inf if whole else FAINTEST)
            level = max(level + FALL, base + FASTER * (level - base))

    def _listed(self, entries: list[Entry], top: int, level: float) -> Lightest:
        """Return cycles in order, of which all are there up to a level."""
        paths = in_order(entries, self.names, top)
        sure = len(paths) if level == inf else sum(size <= level - TIE for size, _ in entries)
        return Lightest(paths, len(paths) > top, level == inf, min(sure, len(paths)), level, self.closed)

    def _above(self, sought: Sought) -> None:
        """Find the cycles above a level."""
        enough = self.worth >= -sought.limit
        sought.cut = bool((self.worth[~enough] > -inf).any())
        loops = np.flatnonzero(enough & (self.rows == self.columns))
        if self.through is not None:
            loops = loops[self.rows[loops] == self.through]
        self._alone(loops, sought)
        some = np.flatnonzero(enough & (self.rows != self.columns))
        label = strong(self.solver.n, self.rows[some], self.columns[some])
        inside = label[self.rows[some]] == label[self.columns[some]]
        if self.through is not None:
            inside &= label[self.rows[some]] == label[self.through]
        some = some[inside]
        if not len(some) or self.longest < 2:
            return
        times = self.times[some] if len(self.times) else self.times
        part = self._limited().at(some)
        ways = Ways(part, label, self.rows[some], self.columns[some], self.jumps[some], times, self.longest)
        if self.through is not None:
            ways.pass_through(self.through)
        ways.grow(sought)

    def _limited(self) -> Limits:
        """Return the limits of all arrows."""
        if self._limits is None:
            self._limits = Limits.of(
                self.fluxes, self.inflow, self.visited, self.closed, self.rows, self.columns, self.shares
            )
        return self._limits

    def _alone(self, loops: Index, sought: Sought) -> None:
        """Add the cycles of one node."""
        at = self.rows[loops]
        high, low = (self.visited.values + s * self.visited.bound for s in (1, -1))
        with np.errstate(divide="ignore"):
            worth = np.log(self.shares[loops]) + (np.log(self.times[loops]) if len(self.times) else 0.0)
            most, least = -np.log(high[at]) - worth, -np.log(np.maximum(low[at], 0.0)) - worth
        there = most < inf
        sought.add(most[there], least[there], at[there][:, None])

    def _measured(self, sought: Sought) -> tuple[list[Entry], bool]:
        """Return the best cycles by -log of what they count for, and whether any was too small to be known."""
        most = np.concatenate([np.zeros(0), *sought.most])
        order = np.argsort(most, kind="stable")
        entries: list[Entry] = []
        begin, lost = 0, False
        while begin < len(order):
            sizes = [size for size, _ in entries]
            if len(sizes) > sought.top:
                limit = float(np.partition(sizes, sought.top)[sought.top]) + 2 * TIE
                if most[order[begin]] - MARGIN > limit:
                    break
            end = min(len(order), begin + (TOGETHER if begin else max(TOGETHER, sought.top + 1)))
            paths = [sought.paths[k] for k in order[begin:end].tolist()]
            for path, flux in zip(paths, self.fluxes.of(paths), strict=True):
                size = self._value(flux, path)
                lost |= size == -inf
                if size > -inf:
                    entries.append((-size, path))
            begin = end
        return entries, lost

    def _value(self, flux: Flux, path: tuple[int, ...]) -> float:
        """Return log of what a cycle counts for."""
        size = flux.size
        if self.closed:
            inflow = float(self.inflow[self.solver.label[path[0]]])
            size += log(inflow)
        if len(self.times):
            key, n = self.rows * self.solver.n + self.columns, self.solver.n
            at = np.searchsorted(key, [i * n + j for i, j in zip(path, (*path[1:], path[0]), strict=True)])
            time = float(self.times[at].sum())
            size = size + log(time) if time > 0 else -inf
        return size

    def _otherwise(self, found: Sought, proven: float, level: float, top: int) -> Lightest:
        """Return what can be said where bounds are too wide: by exact chances of paths, or as far as it is proven."""
        if self._joined(level) <= LARGEST:
            worth: Vector = np.exp(self.worth)
            arrows = self.rows, self.columns, self.shares, worth, self.times
            exact = Exact(self.names, self.fluxes, self.inflow, arrows, self.closed, self.longest, self.through)
            paths, complete = exact.run(top)
            if complete:
                return Lightest(paths, len(paths) > top, True, len(paths), inf, self.closed)
        if len(found.paths) <= top:
            # The most probable ones are likely among those sought.
            arrows_of = self.rows, self.columns, np.maximum(-np.log(self.shares), 0.0)
            probable = lightest(self.names, arrows_of, top + 1, self.longest, self.through).paths
            fresh = sorted({first(path) for path in found.paths} | {first(path) for path in probable})
            found = Sought(level, top, 0, most=[np.zeros(len(fresh))], paths=fresh)
        return self._listed(self._measured(found)[0], top, proven)

    def _joined(self, level: float) -> int:
        """Return the most states that are joined by arrows that carry enough."""
        enough = self.worth >= -level
        rows, columns = self.rows[enough], self.columns[enough]
        label = strong(self.solver.n, rows, columns)
        return int(np.bincount(label[rows[label[rows] == label[columns]]]).max(initial=0)) if len(rows) else 0
