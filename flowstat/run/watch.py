"""What a run looks like while it goes on: events, rates, queues, errors, and the loops that messages are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from flowstat.read.closing import Closing
from flowstat.read.graph import Graph
from flowstat.run.loop import Loop
from flowstat.run.record import DROPPED, PENDING, Recorder

__all__ = ["Discarding", "NodeStatus", "Status", "Watch"]


class NodeStatus(NamedTuple):
    """One node: its events and errors so far, its messages that wait, and its events a second since the last look."""

    node: str
    events: int
    errors: int
    waiting: int
    rate: float


@dataclass(frozen=True)
class Status:
    """A look at a run.

    `nodes` are those that had events or have messages waiting, most events first; `loops` the nodes of each loop that
    messages wait in, and how many; `rate` is in events a second since the last look.
    """

    seconds: float
    events: int
    runs: int
    waiting: int
    rate: float
    nodes: tuple[NodeStatus, ...]
    loops: tuple[tuple[tuple[str, ...], int], ...]

    def line(self) -> str:
        """Return it as one line of text."""
        errors = sum(node.errors for node in self.nodes)
        said = (
            f"{self.seconds:.0f} s: {self.events:,} events ({self.rate:,.0f} a second) in {self.runs:,} runs, "
            f"{self.waiting:,} waiting"
        )
        if errors:
            said += f", {errors:,} errors"
        if self.loops:
            said += f", {sum(n for _, n in self.loops):,} in {len(self.loops):,} loops"
        return said


class Discarding(Closing):
    """A trace writer that keeps nothing: a run is watched by its rows."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Forget rows."""

    def close(self) -> None:
        """Have nothing to finish."""


class Watch:
    """Looks at a loop from another thread, while it runs; what it sees may be a moment old.

    Events are counted from the rows of the recorder, so there has to be one.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> watch = Watch(parse_graph("a -> b -> a; b -> c"))
    >>> watch.status() is None
    True
    """

    def __init__(self, graph: Graph, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._graph = graph
        self._loop: Loop | None = None
        self._began = self._last = clock()
        self._events: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._before: Counter[str] = Counter()

    @cached_property
    def _loops(self) -> list[tuple[str, ...]]:
        return _loops(self._graph)

    def attach(self, loop: Loop) -> None:
        """Look at a loop from now on."""
        self._loop = loop
        loop.watch = self.count
        self._began = self._last = self._clock()

    def count(self, recorder: Recorder) -> None:
        """Count rows that are about to be written."""
        events, errors = self._rows(recorder)
        self._events += events
        self._errors += errors

    def status(self) -> Status | None:
        """Return how the run is doing; None before it has begun."""
        loop = self._loop
        if loop is None:
            return None
        now = self._clock()
        events, errors = Counter(self._events), Counter(self._errors)
        if loop.recorder is not None:
            for total, more in zip((events, errors), self._rows(loop.recorder), strict=True):
                total.update(more)
        waiting = _snapshot(loop)
        since = max(now - self._last, 1e-9)
        nodes = [
            NodeStatus(n, events[n], errors[n], waiting[n], (events[n] - self._before[n]) / since)
            for n in {**events, **waiting}
        ]
        all_events, before = sum(events.values()), sum(self._before.values())
        self._last, self._before = now, events
        within = [(members, sum(waiting[n] for n in members)) for members in self._loops]
        return Status(
            now - self._began,
            all_events,
            loop.runs,
            sum(waiting.values()),
            max(0.0, (all_events - before) / since),
            tuple(sorted(nodes, key=lambda n: (-n.events, n.node))),
            tuple((members, n) for members, n in within if n),
        )

    def _rows(self, recorder: Recorder) -> tuple[Counter[str], Counter[str]]:
        """Count the events and the errors of rows, by node."""
        if self._loop is None:
            return Counter(), Counter()
        codes = self._loop.network.codes
        # The loop may add to its lists meanwhile.
        hops, sent = (np.array(column[:], np.int64) for column in (recorder.hops, recorder.sent))
        n = min(len(hops), len(sent))
        hops, sent = hops[:n], sent[:n]
        handled = (sent != DROPPED) & (sent != PENDING)
        names = list(codes.nodes)
        found: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        for counter, rows in zip(found, (handled, handled & (sent < 0)), strict=True):
            numbers = np.bincount(hops[rows])
            # New codes may have begun meanwhile.
            for hop in np.flatnonzero(numbers[: len(codes.name)]).tolist():
                counter[names[codes.name[hop]]] += int(numbers[hop])
        return found


def _snapshot(loop: Loop) -> Counter[str]:
    """Count the messages that wait, by node; the queues may change meanwhile, and are looked at again then."""
    for _ in range(5):
        try:
            return Counter(hop.node.name for hop, *_ in loop.waiting())
        except RuntimeError:
            continue
    return Counter()


def _loops(graph: Graph) -> list[tuple[str, ...]]:
    """Return the nodes of each strongly connected class with a cycle."""
    import networkx as nx

    arrows: nx.DiGraph[str] = nx.DiGraph((a.source, a.target) for a in graph.arrows)
    order = {name: k for k, name in enumerate(graph.nodes)}
    found = (c for c in nx.strongly_connected_components(arrows) if len(c) > 1 or arrows.has_edge(*[*c] * 2))
    return sorted((tuple(sorted(c, key=order.__getitem__)) for c in found), key=lambda c: order[c[0]])
