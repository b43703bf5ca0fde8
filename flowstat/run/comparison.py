"""Whether a replay does what was recorded: its rows, and the states at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from flowstat.errors import RunError
from flowstat.read.canonical import TIMES, schema, to_json_rows
from flowstat.read.closing import Closing
from flowstat.read.words import shown
from flowstat.results import Result, Row, counted
from flowstat.run.tally import RunResult

__all__ = ["Comparison", "Difference", "ReplayResult", "compare_states"]

Line = dict[str, object]

ROWS = 65_536
"""How many lines of a JSON Lines trace are compared at once."""


class Difference(NamedTuple):
    """Where a replay differs: `span` is the event's id, `node` its node, `what` a column, and both its values."""

    span: int | None
    node: str | None
    what: str
    recorded: object
    replayed: object

    def sentence(self) -> str:
        """Return what differs."""
        where = f"event {self.span:,}" if self.span is not None else "the end"
        at = f" at {shown(self.node)}" if self.node is not None else ""
        return (
            f"The replay differs at {where}{at}: {self.what} was {shown(repr(self.recorded))} and is "
            f"{shown(repr(self.replayed))}. Its behaviour, or one before it, uses what is not in the journal: "
            "real time, chance of its own, a file, a network; or the code is not the code that ran."
        )


@dataclass(frozen=True)
class ReplayResult(Result):
    """What a replay did: how the run went, and where it differs from what was recorded, if it does."""

    title: ClassVar[str] = "Where the replay differs"
    columns: ClassVar[tuple[str, ...]] = ("span", "node", "what", "recorded", "replayed")

    run: RunResult
    compared: int
    differences: tuple[Difference, ...]
    torn: int = 0

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
        if not self.differences and self.compared:
            said.append(f"{counted(self.compared, 'row')} of the trace compared: all are the same.")
        return said


class Comparison(Closing):
    """A trace writer that compares what a replay writes with a recorded trace, row by row, and hands it on."""

    def __init__(self, recorded: str | Path, writer: Any = None) -> None:
        self._recorded = _batches(Path(recorded))
        self._left: pa.RecordBatch | None = None
        self._writer = writer
        self.path = Path(recorded)
        self.compared = 0
        self.difference: Difference | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Compare a batch."""
        if self._writer is not None:
            self._writer.write(batch)
        batch = _plain(batch)
        while batch.num_rows and self.difference is None:
            old = self._next()
            if old is None:  # the trace of a run that was killed ends before its journal does
                return
            n = min(old.num_rows, batch.num_rows)
            new, batch = batch.slice(0, n), batch.slice(n)
            self._left = old.slice(n)
            if old.slice(0, n).equals(new):
                self.compared += n
                continue
            for was, row in zip(to_json_rows(old.slice(0, n)), to_json_rows(new), strict=True):
                if was != row:
                    self.difference = _difference(was, row)
                    break
                self.compared += 1

    def rest(self) -> Difference | None:
        """Return the first difference; a row that is recorded and was not replayed is one too."""
        left = None if self.difference else self._next()
        if left is not None:
            row = to_json_rows(left.slice(0, 1))[0]
            span: Any = row["span_id"]
            self.difference = Difference(span, str(row["name"]), "status", row["status"], None)
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


def compare_states(recorded: Mapping[str, str], states: Mapping[str, str]) -> Difference | None:
    """Return the first node whose state is another one at the end."""
    for node in sorted({*recorded, *states}):
        if recorded.get(node) != states.get(node):
            return Difference(None, node, "the state's digest", recorded.get(node), states.get(node))
    return None


def _difference(old: Line, new: Line) -> Difference:
    what = next(column for column in new if old.get(column) != new[column])
    span: Any = old["span_id"]
    # A row that is not as it was shows what the event that sent it did; what it sent itself, that shows its own.
    node = old["name"] if what in ("sent", "status") or old["parent"] is None else old["parent"]
    if what not in ("sent", "status") and isinstance(old["parent_id"], int):
        span = old["parent_id"]
    return Difference(span, None if node is None else str(node), what, old.get(what), new[what])


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield a canonical trace's rows in their order."""
    try:
        if path.is_dir() or path.suffix == ".parquet":
            for file in sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]:
                yield from map(_plain, pq.ParquetFile(file).iter_batches())
            return
        with path.open("rb") as lines:
            # A line that a kill cut off has no end.
            whole = (orjson.loads(line) for line in lines if line.endswith(b"\n"))
            while rows := list(islice(whole, ROWS)):
                for row in rows:
                    row |= {name: _time(row.get(name)) for name in TIMES}
                yield _plain(pa.RecordBatch.from_pylist(rows, schema=schema()))
    except (OSError, pa.ArrowException, orjson.JSONDecodeError, KeyError, ValueError) as error:
        raise RunError(f"can't read the recorded trace {path}: {error}") from None


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose words are texts: equal rows are equal then, whatever their dictionaries."""
    columns = [batch.column(field.name) for field in schema()]
    plain = [c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in columns]
    return pa.RecordBatch.from_arrays(plain, names=[field.name for field in schema()])


def _time(text: object) -> int | None:
    return None if text is None else pa.scalar(text).cast(pa.timestamp("ns", tz="UTC")).value
