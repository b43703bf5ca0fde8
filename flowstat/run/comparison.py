"""Whether a replay does what was recorded: its rows, and the states at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from flowstat.errors import RunError, TraceError
from flowstat.read.canonical import schema
from flowstat.read.canonical_writers import to_json_rows
from flowstat.read.closing import Closing
from flowstat.read.traces import TraceFile, read_traces
from flowstat.read.words import shown
from flowstat.results import Result, Row, counted
from flowstat.run.tally import RunResult

__all__ = ["Comparison", "Difference", "ReplayResult", "compare_states"]

Line = dict[str, object]

LINES = (".jsonl", ".ndjson")
"""Suffixes of traces as JSON Lines."""


class Difference(NamedTuple):
    """Where a replay differs: `span` is the event's id, `node` its node, `what` a column, and both its values.

    Where it is no event, `span` is None and `what` says what was compared, and when.
    """

    span: int | None
    node: str | None
    what: str
    recorded: object
    replayed: object

    def sentence(self) -> str:
        """Return what differs."""
        where = [f"event {self.span:,}"] if self.span is not None else []
        where += [shown(self.node)] if self.node is not None else []
        at = f" at {' at '.join(where)}" if where else ""
        behaviour = "A behaviour" if self.node is None else "Its behaviour, or one before it,"
        return (
            f"The replay differs{at}: {self.what} was {shown(repr(self.recorded))} and is "
            f"{shown(repr(self.replayed))}. {behaviour} uses what is not in the journal: real time, chance of its own, "
            "a file, a network; or the code, or the trace, is not that of the run."
        )


@dataclass(frozen=True)
class ReplayResult(Result):
    """What a replay did: how the run went, and where it differs from what was recorded, if it does.

    `compared` counts the rows of the recorded trace that are the same (None: none was given), `left_over` those that
    the replay has after the end of it; `torn` the bytes at the end of the journal that a killed run left.
    """

    title: ClassVar[str] = "Where the replay differs"
    columns: ClassVar[tuple[str, ...]] = ("span", "node", "what", "recorded", "replayed")

    run: RunResult
    compared: int | None
    differences: tuple[Difference, ...]
    torn: int = 0
    left_over: int = 0

    def rows(self) -> list[Row]:
        """Return the differences, a line each."""
        return [d._asdict() for d in self.differences]

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data."""
        return {**super().to_dict(), "run": self.run.to_dict(), "differences": self.rows()}

    def notes(self) -> tuple[str, ...]:
        """Return `sentences`."""
        return tuple(self.sentences())

    def sentences(self) -> list[str]:
        """Return what happened, a sentence each."""
        said = [f"Replayed {counted(self.run.events, 'event')} in {counted(self.run.runs, 'run')}."]
        if self.torn:
            said.append(f"The journal's last {counted(self.torn, 'byte')} were cut off in writing, and are left out.")
        said += [d.sentence() for d in self.differences]
        if not self.differences and self.compared is not None:
            same = ": all are the same" if self.compared else ""
            said.append(f"{counted(self.compared, 'row')} of the trace compared{same}.")
            if self.left_over:
                said.append(f"The trace ends there, as the run was killed; the replay has {self.left_over:,} more.")
        return said


class Comparison(Closing):
    """A trace writer that compares what a replay writes with a recorded trace, row by row, and hands it on.

    With `whole` the recorded trace should have all rows of the replay; else it is of a run that was killed, and may end
    earlier.
    """

    def __init__(self, recorded: str | Path, writer: Any = None, *, whole: bool = False) -> None:
        self._recorded = _batches(Path(recorded))
        self._whole = whole
        self._left: pa.RecordBatch | None = None
        self._writer = writer
        self.compared = self.left_over = 0
        self.difference: Difference | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Compare a batch."""
        if self._writer is not None:
            self._writer.write(batch)
        batch = _plain(batch)
        while batch.num_rows and self.difference is None:
            old = self._next()
            if old is None:
                self.left_over += batch.num_rows
                if self._whole:
                    row = to_json_rows(batch.slice(0, 1))[0]
                    self.difference = _missing(row, None, row["status"])
                return
            n = min(old.num_rows, batch.num_rows)
            new, batch = batch.slice(0, n), batch.slice(n)
            self._left = old.slice(n)
            if old.slice(0, n).equals(new):
                self.compared += n
                continue
            was = to_json_rows(old.slice(0, n))
            for k, row in enumerate(to_json_rows(new)):
                if was[k] != row:
                    self.difference = _difference(was[k:], row)
                    break
                self.compared += 1

    def rest(self) -> Difference | None:
        """Return the first difference; a row that is recorded and was not replayed is one too."""
        left = None if self.difference else self._next()
        if left is not None:
            row = to_json_rows(left.slice(0, 1))[0]
            self.difference = _missing(row, row["status"], None)
        return self.difference

    def _next(self) -> pa.RecordBatch | None:
        """Return the recorded rows that come next."""
        while self._left is None or not self._left.num_rows:
            self._left = next(self._recorded, None)
            if self._left is None:
                return None
        return self._left

    def close(self) -> None:
        """Close what it hands on to."""
        if self._writer is not None:
            self._writer.close()


def compare_states(recorded: Mapping[str, str], states: Mapping[str, str], when: str) -> Difference | None:
    """Return the first node whose state is another one; `when` says at which moment."""
    for node in sorted({*recorded, *states}):
        if recorded.get(node) != states.get(node):
            return Difference(None, node, f"the state's digest {when}", recorded.get(node), states.get(node))
    return None


def _message(row: Line) -> tuple[object, ...]:
    return row["trace_id"], row["parent_id"], row["name"], row["key"]


def _missing(row: Line, recorded: object, replayed: object) -> Difference:
    """Return the difference of a row that only one of the two has."""
    span: Any = row["span_id"]
    node = row["name"] or row["parent"]
    return Difference(span, None if node is None else str(node), "status", recorded, replayed)


def _difference(recorded: list[Line], new: Line) -> Difference:
    """Return what is another in a row; `recorded` are that and those after it."""
    old = recorded[0]
    what = next(column for column in new if old.get(column) != new[column])
    span: Any = old["span_id"]
    if what in ("sent", "status", "ended_at") or old["parent"] is None:  # of the event itself
        node = old["name"] or old["parent"]
    else:
        # It shows what the event did that sent the message. Where another message came first, it came too early if it
        # came later in the run; else the one that came first then comes too late.
        began, begins = old["started_at"], new["started_at"]
        sender = old
        if isinstance(began, str) and isinstance(begins, str) and begins <= began and new["parent"] is not None:
            alike = [line for line in recorded if line["started_at"] == begins and _message(line) == _message(new)]
            sender = old if alike else new
        node, span = sender["parent"], sender["parent_id"]
    return Difference(span, None if node is None else str(node), what, old.get(what), new[what])


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield a canonical trace's rows in their order; a run that was killed may have left none."""
    try:
        empty = not any(path.glob("part-*")) if path.is_dir() else not path.stat().st_size
    except OSError as error:
        raise RunError(f"can't read the recorded trace {path}: {error.strerror or error}") from None
    if empty:
        return
    try:
        if path.suffix in LINES and path.is_file():  # also if all of it is a line that is cut off
            files: tuple[TraceFile, ...] = (TraceFile("jsonl", (str(path),), (path,)),)
        else:
            files = read_traces(path).files
        for file in files:
            if not file.is_canonical:
                raise RunError(f"{path} is no trace that a run recorded: it is {file.format}")
            yield from map(_plain, file.batches())
    except (TraceError, pa.ArrowException) as error:
        raise RunError(f"can't read the recorded trace {path}: {error}") from None


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose words are texts: equal rows are equal then, whatever their dictionaries."""
    columns = [batch.column(field.name) for field in schema()]
    plain = [c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in columns]
    return pa.RecordBatch.from_arrays(plain, names=[field.name for field in schema()])
