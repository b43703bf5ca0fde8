"""Replay: what a journal says came from outside, handled again; the same trace, or where it differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Graph
from flowstat.results import counted
from flowstat.run.behaviour import Behaviour
from flowstat.run.comparison import Comparison, Difference, ReplayResult, compare_states
from flowstat.run.conduct import conduct, journalled_clock
from flowstat.run.feeds import Feed, MakeFeed
from flowstat.run.journal import Entry, Journal, read_journal
from flowstat.run.journalled import Marked, ReplayFeed, States
from flowstat.run.loop import Injection, Limits, Progress

__all__ = ["replay"]

COUNTS = {"events": "events", "runs": "runs", "errors": "errors", "dropped": "emits that no arrow took"}
"""What is compared of the end besides the states, by its name there."""


def replay(
    graph: Graph,
    behaviours: Mapping[str, Behaviour],
    journal: str | Path,
    writer: TraceWriter | None = None,
    *,
    against: str | Path | None = None,
    progress: Progress | None = None,
) -> ReplayResult:
    """Handle again what a journal says came from outside; see `App.replay`."""
    found = read_journal(journal)
    header = found.header
    clock = journalled_clock(header, graph, journal)
    compared = None if against is None else Comparison(against, writer, whole=found.end is not None)
    end = found.end or {}
    again = _Again(found)
    run = conduct(
        graph,
        behaviours,
        int(header["seed"]),
        (),
        compared or writer,
        limits=Limits(*header["limits"]),
        clock=clock,
        progress=progress,
        live=header["components"],
        halt=(end["span"], end["stopped"]) if end.get("stopped") else None,
        journal=again,
    )
    differences = [compared.rest() if compared else None, again.difference]
    return ReplayResult(
        run,
        compared.compared if compared else None,
        tuple(d for d in differences if d),
        found.torn,
        compared.left_over if compared else 0,
    )


class _Again:
    """A journal that was read, in the place of one that is written: what it says is compared, not written."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.difference: Difference | None = None
        self.pulled: Callable[[], object] = tuple

    def following(self, injections: Iterable[Injection], states: Callable[[], States]) -> Iterator[Injection]:
        """Yield the messages from outside, for a run in which time does not count."""
        for item in self._items():
            if isinstance(item, Marked):
                self._compare(item, states())
            elif item.node is not None:
                yield item.node, item.key, item.body

    def feed(self, make: MakeFeed, states: Callable[[], States]) -> Feed:
        """Return the feed of a run in time."""
        return ReplayFeed(self._items(), lambda mark: self._compare(mark, states()))

    def end(self, end: Mapping[str, Any]) -> None:
        """Compare how the run ended, if it did."""
        recorded = self._journal.end
        if recorded is None or self.difference:
            return
        if recorded["states"] is not None:
            self.difference = compare_states(recorded["states"], end["states"], "at the end")
        for name, what in COUNTS.items():
            if not self.difference and recorded.get(name, end[name]) != end[name]:
                self.difference = Difference(None, None, f"the number of {what}", recorded[name], end[name])

    def _items(self) -> Iterator[Entry | Marked]:
        """Yield the entries, and the states where they were marked."""
        marks = iter((*self._journal.marks, (-1, {})))
        place, states = next(marks)
        taken = 0
        for number, entry in enumerate(self._journal.entries):
            while number == place:
                yield Marked(taken, states)
                place, states = next(marks)
            taken += entry.from_outside
            yield entry

    def _compare(self, recorded: Marked, states: States) -> None:
        if not self.difference:
            when = f"after {counted(recorded.after, 'message')} from outside"
            self.difference = compare_states(recorded.states, states, when)
