"""What traces hold, and all that is odd about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from flowstat.estimate.counting import Progress, count
from flowstat.estimate.counts import Counts
from flowstat.read.canonical import TIMES
from flowstat.read.notices import Notices, Problem
from flowstat.read.traces import TraceFile, Traces
from flowstat.results import Result, Row, counted

__all__ = ["FileSummary", "ProblemList", "Summary", "TraceSummary", "summarise"]


@dataclass(frozen=True)
class FileSummary:
    """What one trace, or the files of one format, hold."""

    file: str
    format: str
    runs: int
    events: int
    nodes: int
    first: str | None
    """The earliest and the latest time, ISO 8601 in UTC; None where no time is known."""
    last: str | None


@dataclass(frozen=True)
class TraceSummary(Result):
    """What each trace holds."""

    title: ClassVar[str] = "Traces"
    columns: ClassVar[tuple[str, ...]] = ("file", "format", "runs", "events", "nodes", "first", "last")

    files: tuple[FileSummary, ...]

    def rows(self) -> list[Row]:
        """Return one line for each trace."""
        return [{column: getattr(file, column) for column in self.columns} for file in self.files]


@dataclass(frozen=True)
class ProblemList(Result):
    """What is odd about the traces: how often, how it was counted, and one example."""

    title: ClassVar[str] = "Problems"
    columns: ClassVar[tuple[str, ...]] = ("number", "what", "example")

    problems: tuple[Problem, ...]

    def rows(self) -> list[Row]:
        """Return one line for each kind of problem."""
        return [{"number": p.number, "what": p.what, "example": p.example} for p in self.problems]

    def notes(self) -> tuple[str, ...]:
        """Say so when there is none."""
        return () if self.problems else ("Nothing odd was found.",)


@dataclass(frozen=True)
class Summary:
    """What `summarise` returns.

    Attributes
    ----------
    files, problems
        Two results: what each trace holds, and what is odd.
    counts
        The counts that were made on the way.
    """

    files: TraceSummary
    problems: ProblemList
    counts: Counts

    def __str__(self) -> str:
        return f"{self.files}\n\n{self.problems}"

    def _repr_html_(self) -> str:
        return self.files._repr_html_() + self.problems._repr_html_()


def summarise(traces: Traces, *, memory: int | None = None, progress: Progress | None = None) -> Summary:
    """Say what traces hold: runs, events, nodes, period, and all that is odd about them.

    Looks at every column of every row, where counting reads only what it needs.

    Parameters
    ----------
    traces
        From `read_traces`.
    memory, progress
        As for `count`.

    Raises
    ------
    TraceError
        If a file can't be read.
    """
    files = []
    total = Counts()
    notices = Notices()
    for file in traces.files:
        counts = count(Traces((file,)), memory=memory, progress=progress)
        total = total + counts
        first = last = None
        if file.format != "counts":
            first, last = _period(file, notices)
        events = sum(counts.events.values())
        nodes = len(counts.nodes)
        files.append(FileSummary(file.origin, file.format, counts.runs, events, nodes, _time(first), _time(last)))
    found = Notices()
    found.extend(total.problems)
    found.extend(notices.problems)
    for what, numbers in (
        ("events whose handler failed", total.errors),
        ("messages never handled (pending), counted as no event", total.pending),
        ("messages that no arrow took (dropped), counted as no event", total.dropped),
        ("span links (fan-in), counted apart: they make nobody a parent", total.links),
    ):
        if numbers:
            where, most = max(numbers.items(), key=lambda item: item[1])
            place = " -> ".join(where) if isinstance(where, tuple) else where
            found.note(what, f"{counted(most, 'time')} at {place}", sum(numbers.values()))
    return Summary(TraceSummary(tuple(files)), ProblemList(found.problems), total)


def _period(file: TraceFile, notices: Notices) -> tuple[int | None, int | None]:
    """Return the earliest and the latest time of a trace, noting times that run backwards."""
    first: int | None = None
    last: int | None = None
    # Bad records were counted before.
    for batch in file.batches(Notices(file.mapping.skip_bad)):
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for column in (columns[c] for c in TIMES if c in columns):
            least, most = _extremes(column)
            if least is not None and most is not None:
                first = least if first is None else min(first, least)
                last = most if last is None else max(last, most)
        _backward(columns, notices, file.origin)
    return first, last


def _extremes(column: pa.Array) -> tuple[int | None, int | None]:
    found = pc.min_max(column.cast(pa.int64()))
    return found["min"].as_py(), found["max"].as_py()


def _backward(columns: dict[str, pa.Array], notices: Notices, origin: str) -> None:
    for before, after in _steps(columns):
        late = pc.fill_null(pc.less(columns[after], columns[before]), False)
        number = pc.sum(late).as_py() or 0
        if number:
            what = f"events whose {after} is before their {before} (clocks disagree); counts do not depend on it"
            row = pc.index(late, True).as_py()
            notices.note(what, f"{origin}: trace {columns['trace_id'][row]}, span {columns['span_id'][row]}", number)


def _steps(columns: dict[str, pa.Array]) -> Iterator[tuple[str, str]]:
    return ((a, b) for a, b in pairwise(TIMES) if a in columns and b in columns)


def _time(nanoseconds: int | None) -> str | None:
    if nanoseconds is None:
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    text = pc.strftime(pa.scalar(seconds, pa.timestamp("s", "UTC")), format="%Y-%m-%dT%H:%M:%S").as_py()
    return f"{text}.{rest // 10**6:03d}Z" if rest else f"{text}Z"
