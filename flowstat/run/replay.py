"""Replay: what a journal says came from outside, handled again; the same trace, or where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Graph
from flowstat.run.behaviour import Behaviour
from flowstat.run.comparison import Comparison, Difference, ReplayResult, compare_states
from flowstat.run.conduct import conduct, journalled_clock
from flowstat.run.journal import read_journal
from flowstat.run.journalled import ReplayFeed, replayed
from flowstat.run.loop import Limits, Progress

__all__ = ["replay"]


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
    compared = None if against is None else Comparison(against, writer)
    end = found.end or {}
    states: dict[str, str] = {}
    run = conduct(
        graph,
        behaviours,
        header["seed"],
        replayed(found),
        compared or writer,
        limits=Limits(*header["limits"]),
        clock=clock,
        progress=progress,
        live=header["components"],
        feed=None if clock is None else ReplayFeed(found.entries),
        halt=(end["span"], end["stopped"]) if end.get("stopped") else None,
        states=states,
    )
    differences: list[Difference | None] = [compared.rest() if compared else None]
    if end:
        differences.append(compare_states(end["states"], states))
    return ReplayResult(run, compared.compared if compared else 0, tuple(d for d in differences if d), found.torn)
