"""Whether traces keep to their graph: what is not declared, what never comes, what goes nowhere, and odd runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite
from typing import ClassVar

import numpy as np

from flowstat.analyze.run_law import PlayedScores, play_scores
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.flows_seen import FlowTally
from flowstat.estimate.independence import adjusted, stated_rate
from flowstat.estimate.pattern_law import PatternLaw
from flowstat.estimate.remembering import Remembering
from flowstat.estimate.run_scores import RunScores, Scoring
from flowstat.explain.conform_arrows import Declared, dropped, undeclared, unseen
from flowstat.explain.conform_results import Dropped, Undeclared, Unseen
from flowstat.read.graph import Graph
from flowstat.read.notices import Notices
from flowstat.read.resolve import canonical_batches
from flowstat.read.traces import Traces
from flowstat.results import Result, Row, counted, number

__all__ = ["Conformance", "Judged", "UnlikelyRun", "UnlikelyRuns", "conform"]

FEWEST, MOST = 4_000, 20_000_000
"""How many runs are played to see how unlikely runs are."""

EVENTS = 50_000_000
"""After so many events no more runs are played."""

SPARE = 3

LONGER = 10
"""A run that is played is cut off when it has so many times the events of the longest one that was recorded."""


@dataclass(frozen=True)
class UnlikelyRun:
    """A run, and how likely the chain takes it to be.

    Attributes
    ----------
    file, run
        The trace it is in, and its id.
    events
        How many it has.
    log_likelihood
        Natural logarithm of the chance of exactly this run; None where the chain knows of no such start or event.
    p_value
        Chance of a run that is as unlikely or more, by the chain.
    adjusted
        The same, for all runs together (Benjamini and Hochberg).
    unlikely
        Whether that is at most the rate.
    node, sent, span
        Its least likely event: where it was, what it sent, its id.
    chance
        Of that event, and of where the run starts if it is the first one.
    """

    file: str
    run: str
    events: int
    log_likelihood: float | None
    p_value: float
    adjusted: float
    unlikely: bool
    node: str
    sent: str
    span: str
    chance: float


@dataclass(frozen=True)
class UnlikelyRuns(Result):
    """The least likely runs, worst first."""

    title: ClassVar[str] = "Runs: the least likely ones under the chain"
    columns: ClassVar[tuple[str, ...]] = (
        *("file", "run", "unlikely", "events", "log_likelihood", "p_value", "adjusted", "node", "sent", "span"),
        "chance",
    )
    beside: ClassVar[tuple[str, ...]] = ("file", "span")
    runs: tuple[UnlikelyRun, ...]
    unlikely: int
    judged: int
    untold: int
    played: int
    cut: int
    rate: float
    seed: int
    new: int = 0

    def rows(self) -> list[Row]:
        """Return one row a run."""
        return [{c: getattr(run, c) for c in self.columns} for run in self.runs]

    def notes(self) -> tuple[str, ...]:
        """Say how many runs are unlikely, and what that is worth."""
        if not self.judged:
            return ("There is no run to judge.", *self._untold())
        said = [
            f"Unlikely: {self.unlikely:,} of {counted(self.judged, 'run')}. Of what is told unlikely, at most "
            f"{number(100 * self.rate)}% is expected to be as the chain would have it. p-values are from "
            f"{counted(self.played, 'run')} played by the chain; node and sent: the least likely event of the run."
        ]
        if self.unlikely > len(self.runs):
            said.append(f"{self.unlikely - len(self.runs):,} more unlikely runs are not listed.")
        if self.played + 1 < self.judged / self.rate:
            said.append(
                f"The least p-value that so many played runs can give is {number(1 / (self.played + 1))}: too large "
                "for one odd run among these to be told unlikely by itself."
            )
        if self.cut:
            said.append(f"{counted(self.cut, 'played run')} were cut off, and counted as unlikely as can be.")
        if self.new:
            said.append(f"In {counted(self.new, 'run')} is something that the chain knows nothing of (chance 0).")
        return (*said, *self._untold())

    def _untold(self) -> list[str]:
        none = f"Not judged: {counted(self.untold, 'run')} of which no start was recorded, or more than one."
        return [none] if self.untold else []


@dataclass(frozen=True)
class Judged:
    """What one question came to."""

    question: str
    found: int
    verdict: str


@dataclass(frozen=True)
class Conformance(Result):
    """Whether traces keep to their graph and chain: a verdict for each question, and what is behind it."""

    title: ClassVar[str] = "Conformance: do the traces keep to the graph?"
    columns: ClassVar[tuple[str, ...]] = ("question", "found", "verdict")
    verdicts: tuple[Judged, ...]
    undeclared: Undeclared
    unseen: Unseen
    dropped: Dropped
    runs: UnlikelyRuns

    def rows(self) -> list[Row]:
        """Return one row a question."""
        return [{c: getattr(verdict, c) for c in self.columns} for verdict in self.verdicts]

    @property
    def found(self) -> dict[str, int]:
        """Question -> how many there are: `undeclared`, `unseen`, `dropped`, `runs`."""
        return {verdict.question: verdict.found for verdict in self.verdicts}


def conform(
    chain: Chain,
    traces: Traces,
    *,
    level: float = 0.95,
    rate: float = 0.05,
    seed: int = 0,
    top: int = 10,
    memory: int | None = None,
    counts: Counts | None = None,
    most_events: int = EVENTS,
) -> Conformance:
    """Say where traces do not keep to the graph of a chain, and which runs are odd.

    Parameters
    ----------
    chain
        With its graph: from `estimate`. Of the same traces, or of others (a good week) that these are held against.
    traces
        From `read_traces`, in any format but counts files.
    level
        Confidence of the bounds on the shares of arrows that were never seen, in (0, 1).
    rate
        False discovery rate of unlikely runs, in (0, 1).
    seed
        Of the runs that are played.
    top
        How many runs are listed; at least 1.
    memory
        Bytes that joins may hold in memory, as for `count`.
    counts
        What `count` says of the same traces, if that is known.

    Raises
    ------
    TraceError
        If a file can't be read, holds counts, or says something impossible.
    ChainError
        If the chain has no graph, or the rate is none.
    AnalysisError
        If the level or `top` is none.

    Notes
    -----
    See `undeclared`, `unseen` and `dropped` of `flowstat.explain.conform_arrows`. A run's likelihood is that of its
    start and of what each of its events sent; its p-value is the share of runs played by the chain that are as unlikely
    or more (Davison and Hinkley, Bootstrap Methods and their Application (1997), section 4.2), with chances drawn from
    their posterior, so that what few traces leave open is no oddity. Over runs those are adjusted (Benjamini and
    Hochberg 1995). Where a run has what the chain knows nothing of, its p-value is the chance of anything new in a run:
    see `PatternLaw.learnt`. Of the same traces, the chain has learnt from the odd runs too, which makes them less odd
    than they are. Linear in the events, and in those that are played.

    Examples
    --------
    >>> from flowstat.estimate.chain import estimate
    >>> from flowstat.read.files import parse_graph
    >>> conform(estimate(Counts(), parse_graph("a -> b")), Traces(())).found
    {'undeclared': 0, 'unseen': 1, 'dropped': 0, 'runs': 0}
    """
    graph = _declared(chain)
    if graph is None:
        raise ChainError("this chain has no graph to hold traces against: estimate it with one")
    if not 0 < level < 1:
        raise AnalysisError(f"a level is between 0 and 1, not {level}")
    if top < 1:
        raise AnalysisError("ask for at least one run")
    rate = stated_rate(rate)
    told = count(traces, graph, memory=memory) if counts is None else counts.against(graph)
    declared = Declared(graph)
    tally, scoring = FlowTally(lambda flow: not declared.allows(flow)), Scoring(PatternLaw(chain))
    for file in traces.files:
        for batch in canonical_batches(file, Notices(file.mapping.skip_bad), memory):
            tally.add(batch)
            scoring.add(batch)
        scoring.finish()
    seen = tally.result()
    strange, never, gone = undeclared(declared, told, seen), unseen(declared, told, seen, level), dropped(told, seen)
    odd = _unlikely(scoring.law, scoring.result(), [file.origin for file in traces.files], rate, seed, top, most_events)
    verdicts = (
        Judged("undeclared", len(strange.flows), strange.verdict()),
        Judged("unseen", len(never.arrows), never.verdict()),
        Judged("dropped", len(gone.keys), gone.verdict()),
        Judged("runs", odd.unlikely, f"unlikely: {odd.unlikely:,} of {counted(odd.judged, 'run')}"),
    )
    return Conformance(verdicts, strange, never, gone, odd)


def _unlikely(
    law: PatternLaw, scores: RunScores, files: list[str], rate: float, seed: int, top: int, most_events: int
) -> UnlikelyRuns:
    judged = np.flatnonzero(scores.starts == 1)
    number_ = len(judged)
    if not number_:
        return UnlikelyRuns((), 0, 0, len(scores.scores), 0, 0, rate, seed)
    runs = int(np.clip(ceil(number_ / rate), FEWEST, MOST))
    longest = LONGER * int(scores.events[judged].max())
    # Several times what the runs of a chain that has these should come to.
    most = SPARE * runs * float(scores.events[judged].mean())
    played: PlayedScores = play_scores(
        law,
        runs,
        seed,
        most_events=int(min(most, most_events)),
        longest=max(longest, 1000),
        unsure=True,
    )
    p = played.p_values(scores.scores[judged])
    values = np.array(adjusted(p.tolist()))
    unlikely = values <= rate
    order = np.lexsort((judged, scores.scores[judged], p))[:top]
    listed = [_listed(scores, files, int(judged[k]), float(p[k]), float(values[k]), bool(unlikely[k])) for k in order]
    untold, new = len(scores.scores) - number_, number_ - int(np.isfinite(scores.scores[judged]).sum())
    return UnlikelyRuns(
        tuple(listed), int(unlikely.sum()), number_, untold, len(played.scores), played.cut, rate, seed, new
    )


def _listed(scores: RunScores, files: list[str], k: int, p: float, value: float, unlikely: bool) -> UnlikelyRun:
    node, sent = scores.kinds[int(scores.steps[k])]
    score = float(scores.scores[k])
    return UnlikelyRun(
        files[int(scores.file[k])],
        str(scores.runs[k].as_py()),
        int(scores.events[k]),
        score if isfinite(score) else None,
        p,
        value,
        unlikely,
        node,
        sent or "(nothing)",
        str(scores.spans[k].as_py()),
        float(np.exp(scores.rarest[k])),
    )


def _declared(chain: Chain) -> Graph | None:
    """Return the graph as it was written: one whose nodes are split is that of the chain before."""
    return chain.one.graph if isinstance(chain, Remembering) and chain.one is not None else chain.graph
