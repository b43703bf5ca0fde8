"""Traces counted, each in the cheapest way that is exact: a scan, one pass, or a join on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import add_counts
from flowstat.estimate.embedded import count_log, count_spans, note_marked_retries
from flowstat.estimate.lines import count_lines
from flowstat.estimate.scan import scan_segments
from flowstat.estimate.sequence import Follows, OutOfOrder, follow
from flowstat.estimate.tally import LOST_SENDERS
from flowstat.read.graph import Graph
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern, sorted_pattern
from flowstat.read.resolve import ORPHANS
from flowstat.read.traces import TraceFile, Traces

__all__ = ["Progress", "count"]

Progress = Callable[[str, int, int, int], None]
"""Called with what is being done, the bytes read so far, the bytes there are in all, and the events seen so far."""


def count(
    traces: Traces,
    graph: Graph | None = None,
    *,
    latencies: bool = False,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Counts:
    """Count what the traces say.

    Every event counts once, by its node and its send pattern. Messages that nothing handled (`pending`) and that
    no arrow took (`dropped`) are no events, and are counted apart.

    Parameters
    ----------
    traces
        From `read_traces`; counts files among them are added as they are.
    graph
        If given, messages along no arrow of it are counted as undeclared too.
    latencies
        Whether to sum up the latencies of every pair of nodes as well, see `flowstat.estimate.latency.Latency`.
    memory
        Bytes that joins may hold in memory (1 GB unless told otherwise); what is more is put aside on disk.
    progress
        Told how far the reading is.

    Raises
    ------
    TraceError
        If a file can't be read, or says something impossible.

    Notes
    -----
    Canonical Parquet as flowstat writes it takes one scan over two columns of codes, and a look at the siblings of
    events whose handler failed, if there are any: some may be retries. A log whose cases are each in
    order takes one pass that remembers each case's last event. Anything else takes a join of the events with their
    parents, on disk where memory does not suffice.

    The same event twice (one span id in one run) counts once: a row that was handled before one that was not, then the
    first by content (see `flowstat.read.repeats.distinct_spans`); the links of all its rows count. An event whose
    parent was not recorded counts but starts no run. Events that are among their own ancestors are an error. Clocks
    that disagree change no count.
    """
    counts = Counts()
    meter = _Meter(traces, progress)
    for file in traces.files:
        counts = counts + _count_file(file, latencies, memory, meter)
    return counts if graph is None else counts.against(graph)


class _Meter:
    """How far the reading of all traces is."""

    def __init__(self, traces: Traces, progress: Progress | None) -> None:
        self.progress = progress
        self.total = sum(_size(part) for file in traces.files for part in file.parts)
        self.read = 0
        self.events = 0
        self.stage = "reading"

    def advance(self, read: int, events: int = 0) -> None:
        self.read += read
        self.events += events
        if self.progress:
            self.progress(self.stage, self.read, self.total, self.events)

    def restart(self) -> None:
        self.read = self.events = 0

    def begin(self, stage: str) -> None:
        self.stage = stage
        self.advance(0)

    def counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.advance(0, len(batch))
            yield batch


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _count_file(file: TraceFile, latencies: bool, memory: int | None, meter: _Meter) -> Counts:
    if file.format == "counts":
        return add_counts([file])
    notices = Notices(file.mapping.skip_bad, meter.advance)
    meter.begin("reading")
    marks = file.marks()
    if marks is not None and not (marks.linked or latencies or file.mapping.cut is not None):
        try:
            return _scan(file, marks.orphans, notices, memory, meter)
        except TraceError:
            meter.restart()  # the reader says what is wrong with which row, or skips it
    if file.format == "jsonl" and not latencies and file.mapping.cut is None:
        counts = count_lines(file, memory)
        if counts is not None:
            meter.advance(sum(map(_size, file.parts)), sum(counts.events.values()))
            return counts
    batches = meter.counted(file.batches(notices))
    first = next(batches, None)
    if first is None:
        return Counts(files=file.origins, problems=notices.problems)
    if "span_id" in first.schema.names:
        return count_spans(file, chain([first], batches), notices, latencies, memory, meter.begin)
    if latencies:
        return count_log(file, chain([first], batches), notices, latencies, memory, meter.begin)
    try:
        return _of_log(follow(chain([first], batches), file.mapping.cut), file, notices)
    except OutOfOrder:
        again = Notices(file.mapping.skip_bad)
        meter.begin("sorting")
        return count_log(file, file.batches(again), again, latencies, memory, meter.begin)


def _scan(file: TraceFile, orphans: int, notices: Notices, memory: int | None, meter: _Meter) -> Counts:
    found = scan_segments(file.parts, lambda part, rows: meter.advance(_size(part), rows))
    table: Counter[tuple[str, str]] = Counter()
    for (node, sent), n in found.events.items():
        table[node, sorted_pattern(sent)] += n
    if found.errors:
        meter.begin("joining")
        note_marked_retries(file, notices, memory)
    for what, number in ((ORPHANS, orphans), (LOST_SENDERS, found.lost)):
        if number:
            notices.note(what, file.origin, number)
    return Counts(
        table=dict(sorted(table.items())),
        starts=dict(sorted(found.starts.items())),
        errors=dict(sorted(found.errors.items())),
        pending=dict(sorted(found.pending.items())),
        dropped=dict(sorted(found.dropped.items())),
        files=file.origins,
        problems=notices.problems,
    )


def _of_log(found: Follows, file: TraceFile, notices: Notices) -> Counts:
    table: Counter[tuple[str, str]] = Counter()
    for (name, after), n in found.pairs.items():
        table[name, format_pattern([after])] += n
    for name, n in found.ends.items():
        table[name, ""] += n
    return Counts(
        table=dict(sorted(table.items())),
        starts=dict(sorted(found.starts.items())),
        pending=dict(sorted(found.cut.items())),
        files=file.origins,
        problems=notices.problems,
    )
