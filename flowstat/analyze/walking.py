"""Many runs of a chain played at once, each in a lane that takes the next run when one ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flowstat.analyze.alias import Alias
from flowstat.analyze.solve import Index

__all__ = ["LANES", "Tally", "play"]

LANES = 1 << 14
"""Runs played at once: few enough to stay in the processor's cache."""

HELD = 1 << 18
"""Numbers kept before they are counted."""


@dataclass
class Tally:
    """What runs did.

    Attributes
    ----------
    ended, cut : (n,)
        Runs by their last node: those that came to an end, and those that were cut off.
    visits : (n,)
        Events at each node, of all runs.
    lengths
        Runs that came to an end where lengths count, by their number of events.
    begun
        How many runs there were.
    paths
        The nodes of the runs that were recorded.
    """

    ended: Index
    cut: Index
    visits: Index
    lengths: Index = field(default_factory=lambda: np.zeros(1, np.int64))
    begun: int = 0
    paths: list[Index] = field(default_factory=list)

    @classmethod
    def empty(cls, n: int) -> Tally:
        """Return the tally of no runs of n nodes."""
        return cls(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64))

    def add(self, other: Tally) -> None:
        """Add the runs of another tally."""
        self.ended += other.ended
        self.cut += other.cut
        self.visits += other.visits
        self.lengths = _sum(self.lengths, other.lengths)
        self.begun += other.begun
        self.paths += other.paths


def _sum(a: Index, b: Index) -> Index:
    long, short = (a, b) if len(a) >= len(b) else (b, a)
    result = long.copy()
    result[: len(short)] += short
    return result


class _Held:
    """Numbers that are counted many at a time."""

    def __init__(self, counts: Index) -> None:
        self.counts = counts
        self.parts: list[npt.NDArray[np.int64]] = []
        self.number = 0

    def add(self, numbers: Index) -> None:
        self.parts.append(numbers)
        self.number += len(numbers)
        if self.number > max(HELD, len(self.counts) // 2):
            self.settle()

    def settle(self) -> Index:
        if self.parts:
            self.counts = _sum(self.counts, np.bincount(np.concatenate(self.parts)))
            self.parts, self.number = [], 0
        return self.counts


def play(
    table: Alias,
    starts: Alias,
    runs: int,
    random: np.random.Generator,
    *,
    longest: int,
    most: int,
    record: int = 0,
) -> Tally:
    """Play runs of a chain of n nodes; the target n of a table is the end, n + 1 one where lengths do not count.

    Parameters
    ----------
    table
        Where each node leads.
    starts
        One row: where runs start.
    runs
        How many; with `record`, all are played at once.
    random
        What draws.
    longest
        A run is cut off after so many events.
    most
        After so many events in all, runs that have not ended are cut off, and no others begun.
    record
        How many events of paths to keep at most: those of as many of the first runs as come to no more. No run is any
        shorter for that.
    """
    n = len(table.begin)
    tally = Tally.empty(n)
    visits, ended, lengths = _Held(tally.visits), _Held(tally.ended), _Held(tally.lengths)
    lanes = runs if record else min(runs, LANES)
    node = starts.draw(np.zeros(lanes, np.int64), random.random(lanes))
    born = np.zeros(lanes, np.int64)
    waiting, step, events = runs - lanes, 0, 0
    trail = _Trail(runs if record else 0, record)
    lane = np.arange(lanes)
    while len(node):
        visits.add(node)
        step += 1
        events += len(node)
        trail.add(lane, node)
        onward = table.draw(node, random.random(len(node)))
        over = np.flatnonzero(onward >= n)
        if len(over):
            ended.add(node[over])
            lengths.add((step - born[over])[onward[over] == n])
        last = events >= most
        stale = np.zeros(0, np.int64)
        if last or step >= longest:
            late = (onward < n) & (last | (step - born >= longest))
            stale = np.flatnonzero(late)
            tally.cut += np.bincount(node[stale], minlength=n)
        if last:
            break
        free = np.concatenate([over, stale]) if len(stale) else over
        if not len(free):
            node = onward
            continue
        fresh = min(waiting, len(free))
        if fresh:
            taken = free[:fresh]
            onward[taken] = starts.draw(np.zeros(fresh, np.int64), random.random(fresh))
            born[taken] = step
            waiting -= fresh
        if fresh < len(free):
            kept = np.ones(len(onward), bool)
            kept[free[fresh:]] = False
            onward, born, lane = onward[kept], born[kept], lane[kept]
        node = onward
    tally.begun = runs - waiting
    tally.visits, tally.ended, tally.lengths = visits.settle(), ended.settle(), lengths.settle()
    tally.paths = trail.paths()
    return tally


class _Trail:
    """The nodes of the first `runs` lanes, which each play one run, of no more than `most` events: else of fewer."""

    def __init__(self, runs: int, most: int) -> None:
        self.runs, self.most = runs, most
        self.parts: list[tuple[Index, Index]] = []
        self.number = 0

    def add(self, lane: Index, node: Index) -> None:
        """Add an event of some lanes, in order."""
        if not self.runs:
            return
        first = int(np.searchsorted(lane, self.runs))
        # A view of what is left out would hold it all.
        self.parts.append((lane, node) if first == len(lane) else (lane[:first].copy(), node[:first].copy()))
        self.number += first
        if self.number > self.most:
            self.drop()

    def drop(self) -> None:
        """Keep no more runs than have three quarters of the events: all of them are going on."""
        lanes, nodes = self.joined()
        self.runs = int(np.searchsorted(np.cumsum(np.bincount(lanes, minlength=self.runs)), 0.75 * self.most, "right"))
        kept = lanes < self.runs
        self.parts = [(lanes[kept], nodes[kept])]
        self.number = int(kept.sum())

    def joined(self) -> tuple[Index, Index]:
        """Return lanes and nodes of all events kept."""
        return np.concatenate([lane for lane, _ in self.parts]), np.concatenate([node for _, node in self.parts])

    def paths(self) -> list[Index]:
        """Return the nodes of each run."""
        if not self.runs:
            return []
        lanes, nodes = self.joined()
        by = np.argsort(lanes, kind="stable")
        return np.split(nodes[by], np.cumsum(np.bincount(lanes, minlength=self.runs))[:-1])
